"""A gate from a configuration to a finished run folder, and a stored run judged again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fidelity.arithmetic.profile import Profile
from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.devices.discovery import check_word
from fidelity.errors import BadInput
from fidelity.gating.config import GateConfig, RunPlan
from fidelity.gating.evidence import Embeddings, load_truth, store_truth
from fidelity.gating.execution import Execution, keep, read_execution
from fidelity.gating.expecting import stored_for, stored_predictions
from fidelity.gating.gate import run_gate, run_info
from fidelity.gating.judging import Truth, cpu_outputs, jobs_folder, judged, only_output
from fidelity.gating.rankings import keep_labels, stored_labels
from fidelity.gating.reasons import headline, prediction_reasons, run_reasons
from fidelity.gating.run_folder import new_run, stored_run
from fidelity.gating.workbench import Bench
from fidelity.models.label_set import LabelSet, read_label_set
from fidelity.prediction.predicted import Predicted
from fidelity.progress import Reporter
from fidelity.report.document import DeviceRun, GateReport, PredictionReport
from fidelity.report.write import write_report


def gate_whole(
    config: GateConfig,
    policy: Policy,
    reports: Path,
    cache: Cache,
    reporter: Reporter,
    *,
    ablate: bool,
    profile: Profile | None = None,
) -> tuple[GateReport, Path]:
    """Judge a configuration; the report and its folder, which is whole and `latest` on return."""
    from fidelity.models.subject import build_subject  # noqa: PLC0415 - torch is an extra
    from fidelity.rewrites.catalogue import chosen, chosen_for  # noqa: PLC0415

    chosen(config.rewrites)  # a misspelt name is told before a model is built
    for plan in config.runs:
        check_word(plan.device)
    labels = read_label_set(Path(config.labels)) if config.labels is not None else None
    with reporter.stage("build the model", 1):
        subject = build_subject(config.source, config.weights, config.seed, Path(config.images), config.only)
    rewrites = chosen_for(config.rewrites, subject.model)
    with new_run(reports, config.source.removeprefix("timm:")) as folder:
        bench = Bench(folder, cache, reporter, policy, profile, labels)
        report = run_gate(config, subject, rewrites, bench)
        if ablate:
            from fidelity.gating.ablation import ablations  # noqa: PLC0415

            found = ablations(config, subject, rewrites, bench)
            report = report.model_copy(update={"ablations": found, "run": run_info(bench)})
        write_report(folder, report)
    return report, reports / folder.name.removeprefix(".partial-")


def gate_again(stored: Path, policy: Policy, reports: Path, reporter: Reporter) -> tuple[GateReport, Path]:
    """Judge a stored run under `policy`: the same outputs, truth and expected outputs, no model, no device."""
    source = stored_run(stored)
    before = GateReport.read(source / "report.json")
    truth, labels = load_truth(source), stored_labels(source, before.labels)
    with new_run(reports, f"{before.subject.source.removeprefix('timm:')}-again") as folder:
        store_truth(folder, truth)
        if labels is not None:
            keep_labels(labels, folder)
        predictions = stored_predictions(source, folder, before.predictions, policy)
        runs = _runs_again(source, folder, before, (truth, labels), policy, predictions)
        predicted = tuple(
            PredictionReport(folder=name, prediction=each.prediction) for name, each in predictions.items()
        )
        kept = (reason for reason in before.reasons if reason.stage not in ("compare", "predict"))
        reasons = (*kept, *prediction_reasons(predicted), *run_reasons(runs))
        failing = {run.label for run in runs if not run.judgement.passed}
        bench = Bench(folder, Cache(), reporter, policy)
        report = before.model_copy(
            update={
                "passed": not any(reason.severity == "fail" for reason in reasons),
                "headline": headline(runs, reasons, before.not_tested),
                "reasons": reasons,
                "runs": runs,
                "predictions": predicted,
                "located": tuple(each for each in before.located if each.label in failing),
                "policy": policy,
                "run": run_info(bench),
            }
        )
        write_report(folder, report)
    return report, reports / folder.name.removeprefix(".partial-")


def _runs_again(
    source: Path,
    folder: Path,
    before: GateReport,
    known: tuple[Embeddings, LabelSet | None],
    policy: Policy,
    predictions: Mapping[str, Predicted],
) -> tuple[DeviceRun, ...]:
    """Every stored run, judged and kept again."""
    photographs = tuple(i.name for i in before.subject.inputs if i.kind == "photograph")
    executions: dict[str, Execution] = {}
    plans: dict[str, RunPlan] = {}
    runs: list[DeviceRun] = []
    for run in before.runs:
        execution = read_execution(_job_folder(source, run))
        plan = RunPlan(label=run.label, device=run.device, precision=run.precision, weights_dtype=run.weights_dtype)
        cpu = cpu_outputs(executions, plans, plan)
        artefact = next(a for a in before.artefacts if a.weights_dtype == run.weights_dtype)
        about = Truth(known[0], only_output(artefact.manifest.contract), photographs, known[1])
        runs.append(judged(plan, execution, about, policy, cpu, stored_for(run, predictions)))
        executions[run.label], plans[run.label] = execution, plan
        keep(execution, jobs_folder(folder, run.label))
    return tuple(runs)


def _job_folder(source: Path, run: DeviceRun) -> Path:
    folder = (source / run.job).resolve()
    if not folder.is_relative_to(source) or not folder.is_dir():
        raise BadInput(f"{source}: the job of run {run.label!r} is missing or outside the run folder")
    return folder
