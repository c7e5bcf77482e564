"""junit.xml: the same verdict as report.json, for a CI system that knows nothing of fidelity.

One suite a stage. Nothing is ever `skipped`: a CI system shows that as green, and what was asked for
and not tested is an error. The suite `gate` fails whenever the gate does, so that a reason without
a case of its own (the size of an artefact, say) cannot be lost.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from fidelity.comparison.judgement import Finding
from fidelity.report.document import ArtefactReport, DeviceRun, GateReport, PredictionReport
from fidelity.report.expected_rows import ratio_failures
from fidelity.report.printable import printable
from fidelity.report.readings import input_failures
from fidelity.rewrites.proof import Proof, SiteProof, WeightsProof
from fidelity.tflite.finding import AuditFinding

_NO_WEIGHTS = WeightsProof(tensors=(), lost=(), unexplained=(), copied_values=0, derived_tensors=())


@dataclass(frozen=True)
class Case:
    """One JUnit case: it passes when it has no problems. `broken` makes them an error, not a failure.

    `seconds` only where nothing else counts them: CI systems add up what cases say.
    """

    name: str
    problems: tuple[str, ...] = ()
    kind: str = "failed"
    broken: bool = False
    remarks: tuple[str, ...] = ()
    seconds: float | None = None


def junit(report: GateReport) -> str:
    """The report as JUnit XML text; the same report gives the same text."""
    document = JUnitXml("fidelity gate")
    for name, cases in _suites(report):
        suite = TestSuite(printable(name))
        suite.timestamp = printable(report.run.started)
        suite.add_testcases([_element(case, name) for case in cases])
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    stream = io.BytesIO()
    document.write(stream, pretty=True)
    return stream.getvalue().decode()


def _suites(report: GateReport) -> Iterator[tuple[str, list[Case]]]:
    yield "gate", [_verdict(report)]
    yield "prove", list(_proof_cases(report.proof))
    yield "audit", [_audit_case(artefact) for artefact in report.artefacts] or [_nothing("audited")]
    if report.predictions:
        yield "predict", [_prediction_case(each) for each in report.predictions]
    for run in report.runs:
        yield f"run: {run.label}", list(_run_cases(run, report))
    if not report.runs:
        yield "run", [_nothing("run")]
    if report.not_tested:
        yield (
            "not tested",
            [
                Case(f"{missing.label} on {missing.device}", (missing.reason,), "not_tested", broken=True)
                for missing in report.not_tested
            ],
        )


def _nothing(done: str) -> Case:
    return Case(f"nothing was {done}", (f"nothing was {done}, so nothing is known",), "nothing", broken=True)


def _verdict(report: GateReport) -> Case:
    problems, remarks = [], []
    for reason in report.reasons:
        line = f"{reason.stage}: {reason.code}: {reason.message}"
        if reason.severity == "fail":
            problems.append(line)
        else:
            remarks.append(f"{reason.severity}: {line}")
    if problems or not report.passed:
        problems.insert(0, report.headline)
    return Case("verdict", tuple(problems), "gate_failed", remarks=tuple(remarks))


def _proof_cases(proof: Proof) -> Iterator[Case]:
    """One a contract, the weights map, the whole model, and the proof itself.

    The last is red whenever the proof fails, so that a site which belongs to no rewrite counts.
    """
    for contract in proof.contracts:
        sites = [site for site in proof.sites if contract.name in site.rewrites]
        name = f"rewrite {contract.name} v{contract.version}: {contract.exactness.value}"
        remarks = () if sites else ("it applies nowhere in this model, so nothing is proved of it",)
        yield Case(name, _site_failures(proof, sites), "not_proved", remarks=remarks)
    yield Case("weights map", proof.model_copy(update={"sites": ()}).failures, "weights_not_exact")
    whole = [site for site in proof.sites if site.path == ""]
    missing = () if whole else ("the whole model was not compared",)
    yield Case("whole model", missing + _site_failures(proof, whole), "not_proved")
    problems = () if proof.passed else proof.failures or ("no call was compared",)
    yield Case("proof", problems, "not_proved")


def _site_failures(proof: Proof, sites: list[SiteProof]) -> tuple[str, ...]:
    """The proof's own reasons, as far as they are about these sites."""
    about = proof.model_copy(update={"sites": tuple(sites), "weights_map": _NO_WEIGHTS})
    silent = [site.path or "the whole model" for site in sites if not site.calls]
    return (*about.failures, *(f"{where}: no call was compared" for where in silent))


def _audit_case(artefact: ArtefactReport) -> Case:
    findings = artefact.audit.findings
    refused = tuple(_audit_line(finding) for finding in findings if finding.severity == "refused")
    warnings = tuple(_audit_line(finding) for finding in findings if finding.severity == "warning")
    problems = refused if refused or artefact.audit.passed else ("the audit did not pass",)
    return Case(f"{artefact.path} ({artefact.weights_dtype})", problems, "audit", remarks=warnings)


def _audit_line(finding: AuditFinding) -> str:
    operator = f", operator {finding.operator} {finding.operator_name}" if finding.operator is not None else ""
    tensor = f", tensor {finding.tensor_name}" if finding.tensor is not None else ""
    cure = f" (cured by {finding.cure})" if finding.cure else ""
    return f"{finding.rule}{operator}{tensor}: {finding.reason}{cure}"


def _run_cases(run: DeviceRun, report: GateReport) -> Iterator[Case]:
    """The run as a whole, then each input that it was asked for or that it answered."""
    broken = run.result.status != "ok"
    findings = run.judgement.findings
    problems = tuple(_line(finding) for finding in findings if finding.severity == "fail")
    if not problems and (broken or not run.judgement.passed):
        problems = (f"{run.result.status}: {run.result.error or 'the judgement did not pass'}",)
    remarks = tuple(f"{f.severity}: {_line(f)}" for f in findings if f.severity != "fail")
    kind = run.result.status if broken else "outside_policy"
    yield Case(f"{run.label} on {run.device}", problems, kind, broken, remarks)
    seconds = {output.input: sum(output.seconds) for output in run.result.outputs}
    compared = {record.input for record in run.comparison.outputs}
    for name in (*run.comparison.asked, *sorted(compared - set(run.comparison.asked))):
        failures = (*input_failures(run, report.policy, name), *ratio_failures(run, report, name))
        yield Case(f"input {name}", failures, "outside_policy", seconds=seconds.get(name))


def _prediction_case(each: PredictionReport) -> Case:
    """Red where the arithmetic overflows, as the gate is; what else it says is in the runs' own cases."""
    expected, findings = each.prediction.expected, each.prediction.judgement.findings
    problems = tuple(_line(finding) for finding in findings if finding.code == "overflow")
    remarks = tuple(f"{f.severity}: {_line(f)}" for f in findings if f.code != "overflow")
    return Case(f"{expected.model} under {expected.profile.name}", problems, "overflow", remarks=remarks)


def _line(finding: Finding) -> str:
    return f"{finding.code}: {finding.message}"


def _element(case: Case, suite: str) -> TestCase:
    """The junitparser element. One result a case, however many problems: some readers count results."""
    seconds = case.seconds if case.seconds is not None and math.isfinite(case.seconds) else None
    element = TestCase(printable(case.name), printable(f"fidelity.{suite}"), seconds)
    if case.problems:
        result = (Error if case.broken else Failure)(_summary(case.problems), printable(case.kind))
        result.text = _lines(case.problems)
        element.result = result
    if case.remarks:
        element.system_out = _lines(case.remarks)
    return element


def _summary(problems: tuple[str, ...]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return printable(problems[0]).replace("\n", " ") + more


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(printable(text) for text in texts)
