"""`fidelity reveal`: measure a device's arithmetic profile by experiment."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cli import options as o
from fidelity.devices.known_runtimes import PACKAGE
from fidelity.errors import EXIT_PASS, BadInput, EnvironmentMissing

if TYPE_CHECKING:
    from fidelity.arithmetic.profile import Origin
    from fidelity.arithmetic.reveal.evidence import Revealed
    from fidelity.devices.discovery import Device
    from fidelity.devices.probes import DeviceLaboratory


def reveal(
    output: Annotated[Path, typer.Option("-o", "--output", help="The profile to write, NAME.json.")],
    device: o.Device = "gpu",
    op: Annotated[
        list[str] | None, typer.Option(help="Only this kind of operation (may be repeated): FULLY_CONNECTED, MEAN")
    ] = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Find a device's arithmetic by experiment: profile, evidence for each field, and what it could not tell."""
    from fidelity.arithmetic.reveal.company.company import STAGES as COMPANY  # noqa: PLC0415
    from fidelity.arithmetic.reveal.company.company import in_company  # noqa: PLC0415
    from fidelity.arithmetic.reveal.experiment import NotTold  # noqa: PLC0415
    from fidelity.arithmetic.reveal.reveal import DEVICE_REACH, STAGES  # noqa: PLC0415
    from fidelity.arithmetic.reveal.reveal import reveal as run_reveal  # noqa: PLC0415
    from fidelity.devices.company_probes import DeviceCompany  # noqa: PLC0415
    from fidelity.devices.discovery import resolve  # noqa: PLC0415
    from fidelity.devices.probes import DeviceLaboratory  # noqa: PLC0415

    _check(output, op)
    session = o.Session(json, verbose, None)
    found = resolve(device)
    with tempfile.TemporaryDirectory(prefix="fidelity-reveal-") as folder:
        laboratory, company = DeviceLaboratory(found, Path(folder)), DeviceCompany(found, Path(folder))
        try:
            with session.reporter.stage(f"reveal {found.info.name}", len(STAGES) + (0 if op else len(COMPANY))) as step:
                revealed = run_reveal(
                    laboratory, DEVICE_REACH, output.stem, _origin(found), tuple(op) if op else None, step
                )
                if not op:  # alone, few kinds tell nothing of their company
                    revealed = in_company(revealed, company, step)
        except NotTold as reason:
            raise EnvironmentMissing(f"device {device}: tells nothing of its arithmetic: {reason}") from reason
    revealed = _as_run(revealed, laboratory)
    revealed.profile.write(output)
    revealed.write(output.with_suffix(".evidence.json"))
    session.show(
        revealed, [*lines(revealed, verbose), f"{output}: written after {laboratory.jobs + company.jobs} jobs"]
    )
    return EXIT_PASS


def _as_run(revealed: Revealed, laboratory: DeviceLaboratory) -> Revealed:
    """With the runtime that the device's own jobs told, which on a phone is not the one here."""
    last = laboratory.last
    if last is None or last.runtime.get(PACKAGE) is None:
        return revealed
    runtime = f"{PACKAGE} {last.runtime[PACKAGE]}"
    origin = revealed.profile.origin.model_copy(update={"runtime": runtime})
    return revealed.model_copy(update={"profile": revealed.profile.model_copy(update={"origin": origin})})


def _check(output: Path, op: list[str] | None) -> None:
    from fidelity.arithmetic.rules import KINDS  # noqa: PLC0415

    if output.suffix != ".json":
        raise BadInput(f"output {output}: expected a name that ends in .json")
    unknown = [kind for kind in op or () if kind not in KINDS]
    if unknown:
        raise BadInput(f"op {unknown[0]!r}: expected one of {', '.join(KINDS)}")


def _origin(device: Device) -> Origin:
    from fidelity.arithmetic.profile import Origin  # noqa: PLC0415
    from fidelity.devices.litert import runtime_versions  # noqa: PLC0415

    return Origin(
        kind="measured",
        source="fidelity reveal",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        runtime=", ".join(f"{name} {version}" for name, version in sorted(runtime_versions().items())),
        driver=device.info.driver or "none: the host's own kernels",
        adapter=device.info.name,
    )


def lines(revealed: Revealed, verbose: bool) -> list[str]:
    """What was found, one line a field; the experiments with -v; what was not told, always."""
    found = [f"{one.field}: {one.seen}" for one in revealed.evidence]
    if verbose:
        found = [f"{one.field}: {one.seen} [{one.experiment}; excludes {one.excludes}]" for one in revealed.evidence]
    return [*found, *(f"NOT TOLD {gap}" for gap in revealed.untold)]
