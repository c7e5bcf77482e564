"""What Linux tells of its temperatures: a hot phone computes the same numbers, but slower."""

from __future__ import annotations

from pathlib import Path

_ZONES = Path("/sys/class/thermal")


def temperatures(zones: Path = _ZONES) -> dict[str, float]:
    """Degrees Celsius by zone type; equal types told apart by the zone's number. Empty where there are none."""
    found: dict[str, float] = {}
    for zone in sorted(zones.glob("thermal_zone*"), key=lambda path: (len(path.name), path.name)):
        try:
            kind = (zone / "type").read_text("utf-8", errors="replace").strip()[:64]
            degrees = int((zone / "temp").read_text("ascii")) / 1000
        except (OSError, ValueError):
            continue  # a zone that is switched off cannot be read
        found[kind if kind not in found else f"{kind} ({zone.name.removeprefix('thermal_zone')})"] = degrees
    return found
