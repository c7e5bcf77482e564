"""Look for a case that rejects a wrong rewrite."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy
from rewrite_cases import Case
from rewrite_checks import violations

from fidelity.rewrites.contract import Rewrite

Judge = Callable[[Case, Rewrite], list[str]]
EXAMPLES = 20


def by_contract(case: Case, rewrite: Rewrite) -> list[str]:
    """What is wrong with one rewrite on a case, as `fidelity prove` judges it."""
    return violations(case, [rewrite])


def survives(mutant: Rewrite, cases: SearchStrategy[Case], judge: Judge = by_contract) -> bool:
    """True when no case rejects the mutant: then a check is missing."""
    found: list[str] = []

    @settings(max_examples=EXAMPLES)
    @given(cases)
    def search(case: Case) -> None:
        if not found:
            found.extend(judge(case, mutant))

    search()
    return not found
