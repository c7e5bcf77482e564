"""The repro pack of an answer: cut, run again on the device that was asked, and written beside the report."""

from __future__ import annotations

from pathlib import Path

from fidelity.devices.discovery import Device as FoundDevice
from fidelity.devices.discovery import resolve
from fidelity.devices.job import Precision
from fidelity.localisation.asked import Answer
from fidelity.localisation.records import Located
from fidelity.localisation.repro.piece import Blame, smallest
from fidelity.localisation.repro.write import Device, write_pack


def with_pack(answer: Answer, device: FoundDevice, precision: Precision, folder: Path, name: str) -> Located:
    """The answer with its pack in `folder`/`name`; where nothing fails by itself, with a line that says so.

    An answer that blames no operator has none.
    """
    located, case = answer.located, answer.case
    if case is None or not answer.operators:
        return located
    before = case.runs
    piece = smallest(Blame(case, answer.operators, located.kind, answer.truth))
    runs = located.device_runs + case.runs - before
    if piece is None:
        told = (*located.evidence, "no piece of the graph shows it by itself: there is no repro pack")
        return located.model_copy(update={"evidence": told, "device_runs": runs})
    at = resolve("cpu") if located.kind == "converter" else device
    write_pack(folder / name, piece, case.graph, located, _described(at, precision))
    return located.model_copy(update={"pack": name, "device_runs": runs})


def _described(device: FoundDevice, precision: Precision) -> Device:
    from fidelity.devices.litert import runtime_versions  # noqa: PLC0415 - loads the runtime

    cpu = device.job_device == "cpu"
    return Device(
        name=device.info.name,
        driver=device.info.driver,
        accelerator="cpu" if cpu else "gpu",
        precision="fp32" if cpu else precision,
        versions=runtime_versions(),
    )
