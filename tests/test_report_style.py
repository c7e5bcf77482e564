"""The stylesheet's colours can be read, in light and in dark, by the measure of WCAG 2."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

CSS = (files("fidelity.report") / "templates" / "report.css").read_text(encoding="utf-8")
TEXT = ("ink", "dim", "link", "pass", "fail", "warn")
PAIRS = [
    *((colour, "card") for colour in TEXT),
    *((colour, "page") for colour in ("ink", "dim", "fail")),
    *((colour, f"{colour}-card") for colour in ("pass", "fail", "warn")),
    *(("ink", f"{card}-card") for card in ("pass", "fail", "warn")),
    *(("dim", f"{card}-card") for card in ("pass", "fail", "warn")),
]
READABLE = 4.5  # WCAG 2.2, 1.4.3: text
VISIBLE = 3.0  # WCAG 2.2, 1.4.11: graphical objects


def palette(scheme: str) -> dict[str, str]:
    """The variables of a scheme: light is the first :root, dark the second."""
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks[:2])
    return light if scheme == "light" else light | dark


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance of #rrggbb."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio, 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_measure() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # the well-known near miss


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_can_be_read(scheme: str, text: str, ground: str) -> None:
    colours = palette(scheme)
    assert contrast(colours[text], colours[ground]) >= READABLE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plot_colours_can_be_seen_and_are_different(scheme: str) -> None:
    colours = palette(scheme)
    series = [colours[f"series-{number}"] for number in range(8)]
    assert len(set(series)) == 8
    assert all(contrast(colour, colours["card"]) >= VISIBLE for colour in series)


def test_both_schemes_have_every_colour() -> None:
    blocks = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)
    light, dark = (set(re.findall(r"--([\w-]+): #", block)) for block in blocks[:2])
    assert light == dark
    used = set(re.findall(r"var\(--([\w-]+)\)", CSS)) - {"font", "mono"}
    assert used <= light
