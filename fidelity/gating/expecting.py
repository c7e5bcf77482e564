"""What the device of each run must give: its profile found, the artefact emulated once, kept as evidence."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fidelity.arithmetic.profile import Profile, load_profile, shipped
from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.comparison.run_facts import device_family
from fidelity.devices.job import JobResult
from fidelity.errors import BadInput
from fidelity.gating.predicting import Against, Arrays, judge_prediction, predict_artefact
from fidelity.prediction.expected import Step, load_expected
from fidelity.prediction.matching import profile_of_run
from fidelity.prediction.predicted import Predicted
from fidelity.report.document import DeviceRun, PredictionReport


def profile_for(result: JobResult, given: Profile | None) -> Profile | None:
    """The profile that a finished run is judged by: the given one, else the shipped one of its device.

    None for a run that did not end well or was not in fp16 on a GPU: nothing is expected of it.
    """
    if result.status != "ok" or result.precision_had != "fp16" or device_family(result.device) != "gpu":
        return None
    return given or profile_of_run(result, (load_profile(name) for name in shipped()))


@dataclass
class Forecasts:
    """The predictions of one gate, one an artefact and profile, by the folders that they are kept in."""

    inputs: Arrays
    against: Against
    policy: Policy
    cache: Cache
    given: Profile | None = None
    found: dict[str, Predicted] = field(default_factory=dict)

    def of(self, result: JobResult, artefact: Path, folder: Path, step: Step) -> Predicted | None:
        """The prediction for a finished run of `artefact`, kept in the run folder too; None without a profile."""
        profile = profile_for(result, self.given)
        if profile is None:
            return None
        name = f"expected/{artefact.stem}-{profile.name}"
        if name not in self.found:
            prediction, made = predict_artefact(
                artefact, self.inputs, profile, self.against, self.policy, self.cache, step
            )
            ignored = shutil.ignore_patterns("key.json")
            shutil.copytree(made, folder / name, ignore=ignored, dirs_exist_ok=True)
            self.found[name] = Predicted(prediction, load_expected(folder / name)[1])
        return self.found[name]

    def reports(self) -> tuple[PredictionReport, ...]:
        """For the report: every prediction with its folder."""
        return tuple(PredictionReport(folder=name, prediction=each.prediction) for name, each in self.found.items())


def stored_predictions(
    source: Path, target: Path, reports: tuple[PredictionReport, ...], policy: Policy
) -> dict[str, Predicted]:
    """The predictions of a stored run under `policy`, copied into a new run folder; no model, no emulator.

    Raises BadInput for a folder outside the run, and for outputs that are missing or altered.
    """
    found = {}
    for report in reports:
        folder = (source / report.folder).resolve()
        if not folder.is_relative_to(source) or folder == source or not folder.is_dir():
            raise BadInput(f"{source}: expected outputs {report.folder!r} are missing or outside the run folder")
        expected, outputs = load_expected(folder)
        if expected != report.prediction.expected:
            raise BadInput(f"{folder}: altered: it is not what report.json has")
        shutil.copytree(folder, target / report.folder, dirs_exist_ok=True)
        found[report.folder] = Predicted(judge_prediction(report.prediction, policy), outputs)
    return found


def stored_for(run: DeviceRun, predictions: Mapping[str, Predicted]) -> Predicted | None:
    """The prediction that a stored run was judged by."""
    if run.expected is None:
        return None
    profile = run.expected.profile
    fitting = (
        each
        for each in predictions.values()
        if each.prediction.expected.profile == profile and each.prediction.weights_dtype == run.weights_dtype
    )
    return next(fitting, None)
