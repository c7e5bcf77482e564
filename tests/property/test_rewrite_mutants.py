"""Every mutant of every rewrite is rejected by the checks that the real one passes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy
from rewrite_cases import Case, attentions, layernorms, pools
from rewrite_checks import violations
from rewrite_mutants import MUTANTS, Mutant

CASES: dict[str, SearchStrategy[Case]] = {
    "split_qkv": attentions(rotary=False),
    "rotate_half": attentions(rotary=True),
    "pool_one_query": pools(),
    "safe_layernorm": layernorms(),
    "row_layernorm": layernorms(),
}
EXAMPLES = 30  # a mutant of an option (gate, qk-norm, position) needs a case that has it


@pytest.mark.parametrize(
    ("rewrite", "mistake"),
    [(rewrite, mistake) for rewrite, (_, mistakes) in MUTANTS.items() for mistake in mistakes],
)
def test_the_mutant_is_rejected(rewrite: str, mistake: str) -> None:
    honest, mistakes = MUTANTS[rewrite]
    mutant = Mutant(honest(), mistakes[mistake])
    found: list[str] = []

    @settings(max_examples=EXAMPLES)
    @given(CASES[rewrite])
    def search(case: Case) -> None:
        if not found:
            found.extend(violations(case, [mutant]))

    search()
    assert found, f"{rewrite} with {mistake!r} survived {EXAMPLES} cases: a check is missing"


def test_there_are_enough_mutants() -> None:
    """At least six of each of the card's four."""
    counts = {rewrite: len(mistakes) for rewrite, (_, mistakes) in MUTANTS.items()}
    assert all(count >= 6 for rewrite, count in counts.items() if rewrite != "row_layernorm"), counts
