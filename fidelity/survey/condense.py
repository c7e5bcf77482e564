"""From a gate's report to the figures of a survey's row: pure, nothing is run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from fidelity.comparison.expectation import Expectation
from fidelity.prediction.module_path import block_of, module_path
from fidelity.report.document import DeviceRun, GateReport, GraphOperator, PredictionReport
from fidelity.report.residency_map import residency_map
from fidelity.rewrites.proof import Decision
from fidelity.survey.row import Foretold, OnDevice, RefusedKind, RewriteCount

NO_MODULE = "(no module)"
_QUOTED = re.compile(r'Tensor "([^"]{1,4000})"')
_MODULES = 4  # outermost modules named for one kind of refusal; the rest is in the gate's own report


def rewrite_counts(decisions: Iterable[Decision], asked: Iterable[str]) -> tuple[RewriteCount, ...]:
    """What each rewrite that was asked for did, in the order of asking; also one that nothing concerned."""
    decided = tuple(decisions)
    counts = []
    for name in asked:
        own = [each for each in decided if each.rewrite == name]
        taken = [each for each in own if each.refused is None]
        refused = Counter(f"{each.module}: {each.refused}" for each in own if each.refused is not None)
        modules = tuple(dict.fromkeys(each.module for each in taken))
        counts.append(RewriteCount(rewrite=name, taken=len(taken), modules=modules, refused=dict(refused)))
    return tuple(counts)


def on_device(run: DeviceRun, operators: tuple[GraphOperator, ...]) -> OnDevice:
    """One run in figures; the refused nodes by the operators of the artefact that it ran."""
    residency = run.result.residency
    correlations = [(o.metrics["correlation"], o.input) for o in run.comparison.outputs if "correlation" in o.metrics]
    errors = [o.metrics["relative_l2"] for o in run.comparison.outputs if "relative_l2" in o.metrics]
    worst, at = min(correlations, default=(None, None))
    return OnDevice(
        device=run.device,
        adapter=run.result.adapter.name if run.result.adapter else None,
        status=run.result.status,
        precision_had=run.result.precision_had,
        nodes_on_device=residency.nodes_on_device if residency else None,
        nodes_total=residency.nodes_total if residency else None,
        partitions=residency.partitions if residency else None,
        refused=refused_kinds(run, operators),
        worst_correlation=worst,
        worst_input=at,
        worst_relative_l2=max(errors, default=None),
        error_ratio=_worst_ratio(run.expected),
        identical_share=run.expected.identical_share if run.expected else None,
        passed=run.judgement.passed,
    )


def refused_kinds(run: DeviceRun, operators: tuple[GraphOperator, ...]) -> tuple[RefusedKind, ...]:
    """What the delegate refused, most frequent first, with the modules that the log tells or leaves possible.

    Some reasons quote the tensor that they are about, another in each line: they are one reason, and the
    tensor's own name tells the module.
    """
    residency = run.result.residency
    if residency is None:
        return ()
    counts: Counter[tuple[str, str]] = Counter()
    blocks: dict[tuple[str, str], Counter[str]] = {}
    for refused in residency_map(run, residency, operators).refused:
        reason, quoted = _QUOTED.subn("a tensor", refused.reason)
        kind = (refused.op, reason)
        counts[kind] += refused.count
        told = blocks.setdefault(kind, Counter())
        if quoted:
            named = [module_path(name) for name in _QUOTED.findall(refused.reason)]
            told.update(block_of(name) for name in named if name)
        else:
            told.update(block_of(operators[place].module or NO_MODULE) for place in refused.named or refused.doubtful)
    found = [
        RefusedKind(op=op, reason=reason, count=count, modules=_most_common(blocks[op, reason]))
        for (op, reason), count in counts.items()
    ]
    return tuple(sorted(found, key=lambda kind: (-kind.count, kind.op, kind.reason)))


def _most_common(blocks: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{name} x {count}" if count > 1 else name for name, count in blocks.most_common(_MODULES))


def foretold(report: PredictionReport) -> Foretold:
    """One prediction in figures."""
    expected = report.prediction.expected
    overflow = [f.message for f in report.prediction.judgement.findings if f.code == "overflow"]
    lacking = [f.message for f in report.prediction.judgement.findings if f.code == "emulator_lacks"]
    least = expected.sites[0] if expected.sites else None  # they are in order of danger
    return Foretold(
        profile=expected.profile.name,
        passed=report.prediction.judgement.passed,
        overflow=overflow[0] if overflow else None,
        least_headroom=least.headroom if least else None,
        at=least.place if least else None,
        lacking=lacking[0] if lacking else None,
    )


def operators_of(report: GateReport, run: DeviceRun) -> tuple[GraphOperator, ...]:
    """The operators of the artefact that a run was of."""
    fitting = (each.operators for each in report.artefacts if each.weights_dtype == run.weights_dtype)
    return next(fitting, ())


def audit_counts(report: GateReport) -> dict[str, int]:
    """How often each rule of the static audit matched, worst of the artefacts."""
    counts: Counter[str] = Counter()
    for artefact in report.artefacts:
        counts |= Counter(artefact.audit.counts)
    return dict(sorted(counts.items()))


def _worst_ratio(expected: Expectation | None) -> float | None:
    if expected is None:
        return None
    return max((o.ratio for o in expected.outputs if o.ratio is not None), default=None)
