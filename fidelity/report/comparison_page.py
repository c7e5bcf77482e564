"""The page of two reports side by side."""

from __future__ import annotations

from fidelity.report.located_rows import TITLES
from fidelity.report.page import render
from fidelity.report.side_by_side import InputPair, RunComparison

SHOWN_FACT = 160
"""Characters of one fact that are shown; the whole is in what `--json` prints."""


def comparison_html(found: RunComparison) -> str:
    """The comparison as one HTML document; the same comparison gives the same text."""
    words = {"titles": TITLES, "cut": _cut}
    inputs: dict[str, list[InputPair]] = {}
    for pair in found.inputs:
        inputs.setdefault(pair.label, []).append(pair)
    places = [run for run in found.runs if any(side is not None and side.located for side in (run.a, run.b))]
    return render("comparison.html", words, found=found, inputs=inputs, places=places)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_FACT else f"{text[:SHOWN_FACT]}… ({len(text)} characters)"
