"""What verbs print alike: the checks of a judgement, each with the smallest limit that would pass."""

from __future__ import annotations

from fidelity.comparison.judgement import Judgement
from fidelity.comparison.ranking_findings import JudgedRanking

_HEAD = f"  {'':4} {'metric':26} {'worst':>14}  (the smallest limit that would pass)"


def check_lines(judgement: Judgement, *, several: bool = False) -> list[str]:
    """One line a limit, under a heading; then every finding, then the verdict. `several` outputs are named."""
    lines = [_HEAD] if judgement.checks else []
    for check in judgement.checks:
        worst = "undefined" if check.worst is None else f"{check.worst:.9g}"
        bounds = (check.limit.at_least, check.limit.at_most)
        allowed = " to ".join("..." if bound is None else f"{bound:g}" for bound in bounds)
        mark = "ok  " if check.passed else "FAIL"
        of = f"  of {check.output}" if several else ""
        at = ", ".join(check.inputs) or "-"
        lines.append(f"  {mark} {check.metric:26} {worst:>14}  allowed {allowed}  at {at}{of}")
    lines += [f"{finding.severity}: {finding.message}" for finding in judgement.findings]
    return [*lines, "PASS" if judgement.passed else "FAIL"]


def ranking_line(judged: JudgedRanking) -> str:
    """How often candidates come in PyTorch's order, what the others are, and where PyTorch was least sure."""
    it = judged.ranking
    of = f"/{it.asked}"
    flips = ", ".join(f"{count} {kind}" for kind, count in judged.counts.items())
    close = f", least margin {it.closest.margin:.3g} ({it.closest.input})" if it.closest is not None else ""
    return (
        f"  {it.task}, {it.candidates} candidates: top-1 {it.top1}{of}, top-{it.depth} {it.same_set}{of}, "
        f"in order {it.same_order}{of}; flips: {flips}{close}"
    )
