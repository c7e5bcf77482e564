"""The gate: prove, convert, audit, run, compare, judge, locate what fails, report. One verdict."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fidelity.cache import tool_versions
from fidelity.files import link_or_copy
from fidelity.gating.artefacts import make_artefact
from fidelity.gating.config import GateConfig
from fidelity.gating.evidence import Embeddings, load_truth, store_truth
from fidelity.gating.expecting import Forecasts, profile_for
from fidelity.gating.failures import locate_failures
from fidelity.gating.judging import cpu_outputs, judged
from fidelity.gating.predicting import Against
from fidelity.gating.rankings import keep_labels
from fidelity.gating.reasons import (
    artefact_reasons,
    headline,
    missing_reasons,
    prediction_reasons,
    proof_reasons,
    run_reasons,
)
from fidelity.gating.running import ran, truth_about
from fidelity.gating.weights import rewritten_weights
from fidelity.gating.workbench import Bench
from fidelity.models.subject import Subject, normalised
from fidelity.report.document import ArtefactReport, DeviceRun, GateReport, PredictionReport, RunInfo
from fidelity.report.graph_operators import graph_operators
from fidelity.rewrites.proof import Proof
from fidelity.tflite.audit import audit_graph
from fidelity.tflite.graph import read_graph
from fidelity.tflite.manifest import WeightsDtype, read_manifest
from fidelity.tflite.weights import audit_weights

if TYPE_CHECKING:
    from fidelity.rewrites.contract import Rewrite


def run_gate(config: GateConfig, subject: Subject, rewrites: Sequence[Rewrite], bench: Bench) -> GateReport:
    """Judge the configured conversion of `subject`; evidence goes into `bench.folder`.

    Raises BadInput or EnvironmentMissing when a stage cannot be done at all; a device that is not
    here becomes a NotTested, and the other runs are made.
    """
    proof, truth = proved(subject, rewrites, bench)
    store_truth(bench.folder, truth)
    if bench.labels is not None:
        bench.labels.check_fits(next(iter(truth.values())), subject.record.source)
        keep_labels(bench.labels, bench.folder)
    artefacts, paths = made(config, subject, rewrites, bench)
    ran_so_far, missing = ran(config, subject, paths, truth, bench)
    runs, predictions = expected(ran_so_far, subject, paths, truth, bench)
    located, not_located = locate_failures(runs, subject, rewrites, paths, truth, bench)
    reasons = (
        *proof_reasons(proof),
        *artefact_reasons(artefacts, config.artefact),
        *prediction_reasons(predictions),
        *missing_reasons(missing),
        *run_reasons(runs),
        *not_located,
    )
    return GateReport(
        passed=not any(reason.severity == "fail" for reason in reasons),
        headline=headline(runs, reasons, missing),
        reasons=reasons,
        subject=subject.record,
        labels=bench.labels.record if bench.labels is not None else None,
        proof=proof,
        artefacts=artefacts,
        runs=runs,
        not_tested=missing,
        predictions=predictions,
        located=located,
        policy=bench.policy,
        run=run_info(bench),
    )


def proved(subject: Subject, rewrites: Sequence[Rewrite], bench: Bench) -> tuple[Proof, Embeddings]:
    """The proof of the rewrites, and the original's float64 embeddings that it was made with."""
    from fidelity.rewrites.prove import Subject as ProofSubject  # noqa: PLC0415 - torch is an extra
    from fidelity.rewrites.prove import prove, steps  # noqa: PLC0415

    record = subject.record

    def make(folder: Path) -> None:
        with bench.reporter.stage("prove", steps(subject.model)) as step:
            what = ProofSubject(subject.model, record.source, record.weights)
            found = prove(what, rewrites, subject.inputs, step)
        found.proof.write(folder / "proof.json")
        store_truth(folder, normalised(found.outputs))

    contracts = [rewrite.contract.model_dump(mode="json") for rewrite in rewrites]
    entry = bench.cache.entry("proof", {"subject": record.model_dump(mode="json"), "contracts": contracts}, make)
    return Proof.read(entry / "proof.json"), load_truth(entry)


def made(
    config: GateConfig, subject: Subject, rewrites: Sequence[Rewrite], bench: Bench
) -> tuple[tuple[ArtefactReport, ...], dict[WeightsDtype, Path]]:
    """Every artefact that a run needs, with its manifest and audit, linked into the run folder."""
    needed: tuple[WeightsDtype, ...] = tuple(dict.fromkeys(plan.weights_dtype for plan in config.runs))
    reports, paths = [], {}
    weights = rewritten_weights(subject, rewrites)
    with bench.reporter.stage("convert and audit", 4) as step:
        for dtype in needed:
            artefact = make_artefact(subject, rewrites, dtype, bench.cache, step)
            linked = bench.folder / "artefacts" / artefact.name
            for suffix in ("", ".manifest.json"):
                link_or_copy(artefact.with_name(artefact.name + suffix), linked.with_name(linked.name + suffix))
            paths[dtype] = artefact
            graph = read_graph(artefact)
            reports.append(
                ArtefactReport(
                    weights_dtype=dtype,
                    path=f"artefacts/{artefact.name}",
                    manifest=read_manifest(artefact),
                    audit=audit_graph(graph),
                    operators=graph_operators(graph),
                    weights=audit_weights(graph, weights),
                )
            )
    return tuple(reports), paths


def expected(
    runs: Sequence[DeviceRun],
    subject: Subject,
    artefacts: Mapping[WeightsDtype, Path],
    truth: Embeddings,
    bench: Bench,
) -> tuple[tuple[DeviceRun, ...], tuple[PredictionReport, ...]]:
    """Every run judged again beside what its device's arithmetic must give, and the predictions of that.

    After all runs, since the profile is known by the adapter and driver that a run had.
    """
    against = Against(truth, subject.inputs.photographs, subject.record.source)
    forecasts = Forecasts(subject.inputs.arrays, against, bench.policy, bench.cache, bench.profile)
    if not any(profile_for(run.result, bench.profile) for run in runs):
        return tuple(runs), ()
    judged_runs = []
    with bench.reporter.stage("emulate", len(subject.inputs.arrays)) as step:
        for run in runs:
            artefact = artefacts[run.weights_dtype]
            predicted = forecasts.of(run.result, artefact, bench.folder, step)
            plan, execution = bench.plans[run.label], bench.executions[run.label]
            cpu = cpu_outputs(bench.executions, bench.plans, plan)
            known = truth_about(artefact, truth, subject, bench.labels)
            judged_runs.append(judged(plan, execution, known, bench.policy, cpu, predicted) if predicted else run)
    return tuple(judged_runs), forecasts.reports()


def run_info(bench: Bench) -> RunInfo:
    """When, how and with what: the only part of a report that two equal runs differ in."""
    return RunInfo(
        name=bench.folder.name.removeprefix(".partial-"),
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(psutil.Process().create_time())),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        seconds=dict(bench.reporter.seconds),
        versions={**tool_versions(), "python": platform.python_version()},
        machine={
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": str(os.cpu_count()),
            "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        },
    )
