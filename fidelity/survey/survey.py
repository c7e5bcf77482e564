"""The whole survey: every model of a plan, a row for each, taken up again where it was interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fidelity.cache import Cache, tool_versions
from fidelity.comparison.policy import Policy
from fidelity.devices.discovery import Device, resolve
from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.files import file_sha256
from fidelity.models.weights import Weights
from fidelity.progress import Reporter
from fidelity.survey.isolated import isolated_row
from fidelity.survey.make_row import Asked
from fidelity.survey.plan import Entry, Plan
from fidelity.survey.row import Row, Stage, Survey

USUAL = ("cpu", "gpu")
_ROW = "row.json"
Make = Callable[[Asked, Callable[[Stage], None]], Row]


@dataclass(frozen=True)
class Setting:
    """What every row of a survey shares: devices by their words, None for the CPU and the GPU; inputs; limits."""

    policy: Policy
    images: Path
    seed: int = 0
    devices: tuple[str, ...] | None = None


def survey(
    plan: Plan,
    setting: Setting,
    cache: Cache,
    reporter: Reporter,
    make: Make = isolated_row,
    tell: Callable[[str], None] | None = None,
) -> Survey:
    """A row for each model of the plan, whatever happens to it.

    A row that was made before, by the same code and tools on the same devices, is taken from the cache; one
    that the machine's limits ended is made again. `tell` is told each stage of each model. Raises BadInput for
    a device word or a folder of images that is none, EnvironmentMissing for a device that was named and is not
    here.
    """
    devices, missing = found_devices(setting.devices)
    photographs = _photographs(setting.images)
    rows = []
    with reporter.stage("survey", len(plan.models)) as step:
        for entry in plan.models:
            step(entry.name)
            asked = Asked(
                entry=entry,
                devices=tuple(devices),
                inputs=plan.inputs,
                images=str(setting.images.resolve()),
                seed=setting.seed,
                policy=setting.policy,
                cache=str(cache.root.resolve()),
            )
            key = _key(asked, devices, photographs)
            rows.append(_kept(asked, key, cache, make, tell))
    return Survey(
        title=plan.title,
        devices={spec: device.info.name for spec, device in devices.items()},
        inputs=plan.inputs,
        rows=tuple(rows),
        not_tested=missing,
        versions=tool_versions(),
    )


def found_devices(asked: Sequence[str] | None) -> tuple[dict[str, Device], dict[str, str]]:
    """The devices by word, and of the two that are usual, the reason why one is not here."""
    if asked is not None:
        return {spec: resolve(spec) for spec in asked}, {}
    found, missing = {}, {}
    for spec in USUAL:
        try:
            found[spec] = resolve(spec)
        except EnvironmentMissing as error:
            missing[spec] = str(error)
    return found, missing


def _kept(asked: Asked, key: dict[str, object], cache: Cache, make: Make, tell: Callable[[str], None] | None) -> Row:
    """The row from the cache, made first if it is not there; one that the machine ended is not kept."""

    def told(stage: Stage) -> None:
        if tell is not None:
            tell(f"  {asked.entry.name}: {stage}")

    folder = cache.entry("survey", key, lambda building: make(asked, told).write(building / _ROW))
    row = Row.read(folder / _ROW).model_copy(update={"entry": asked.entry})
    if row.stopped is not None and row.stopped.passing:
        shutil.rmtree(folder, ignore_errors=True)
    return row


def _key(asked: Asked, devices: dict[str, Device], photographs: dict[str, str]) -> dict[str, object]:
    """Everything that a row depends on. What a row is called and expected to be, it does not depend on."""
    entry = asked.entry.model_dump(mode="json", exclude={"name", "family", "expect"})
    return {
        "entry": entry | {"weights": _identity(asked.entry)},
        "devices": {spec: device.info.model_dump(mode="json", exclude={"facts"}) for spec, device in devices.items()},
        "inputs": None if asked.inputs is None else list(asked.inputs),
        "photographs": photographs,
        "seed": asked.seed,
        "policy": asked.policy.model_dump(mode="json"),
    }


def _identity(entry: Entry) -> str:
    """A weights file by its content; one that is not there, or a word that is none, is the row's own finding."""
    try:
        return Weights.parse(entry.weights).identity()
    except BadInput:
        return entry.weights


def _photographs(images: Path) -> dict[str, str]:
    if not images.is_dir():
        raise BadInput(f"--images {images}: not a folder")
    return {path.name: file_sha256(path) for path in sorted(images.iterdir()) if path.is_file()}
