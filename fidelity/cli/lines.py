"""What verbs print alike: the checks of a judgement, each with the smallest limit that would pass."""

from __future__ import annotations

from fidelity.comparison.judgement import Judgement

_HEAD = f"  {'':4} {'metric':26} {'worst':>14}  (the smallest limit that would pass)"


def check_lines(judgement: Judgement) -> list[str]:
    """One line a limit, under a heading; then every finding, then the verdict."""
    lines = [_HEAD] if judgement.checks else []
    for check in judgement.checks:
        worst = "undefined" if check.worst is None else f"{check.worst:.9g}"
        bounds = (check.limit.at_least, check.limit.at_most)
        allowed = " to ".join("..." if bound is None else f"{bound:g}" for bound in bounds)
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"  {mark} {check.metric:26} {worst:>14}  allowed {allowed}  at {', '.join(check.inputs) or '-'}")
    lines += [f"{finding.severity}: {finding.message}" for finding in judgement.findings]
    return [*lines, "PASS" if judgement.passed else "FAIL"]
