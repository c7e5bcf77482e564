"""The state of every stage in a word, from the record: the line under the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from fidelity.report.document import GateReport
from fidelity.report.located_rows import FINE


@dataclass(frozen=True)
class Stage:
    """One stage: its section in the page, whether it passed, and what there was of it."""

    title: str
    anchor: str
    passed: bool
    words: str


def stages(report: GateReport) -> tuple[Stage, ...]:
    """Prove, audit, predict, run, locate and what was not tested. A stage that saw nothing has not passed.

    Predict is there only where the arithmetic of some run's device is known, locate where a run failed.
    """
    audits = [artefact.audit.passed for artefact in report.artefacts]
    runs = [run.judgement.passed for run in report.runs]
    missing = len(report.not_tested)
    predictions = [each.prediction.passed for each in report.predictions]
    predicted = (Stage("Predict", "expected", all(predictions), _share(predictions, "prediction")),)
    kinds = [each.located.kind for each in report.located]
    found = (Stage("Locate", "located", all(kind in FINE for kind in kinds), ", ".join(dict.fromkeys(kinds))),)
    return (
        Stage("Prove", "proof", report.proof.passed, _counted(len(report.proof.sites), "comparison")),
        Stage("Audit", "audit", bool(audits) and all(audits), _share(audits, "artefact")),
        *(predicted if predictions else ()),
        Stage("Run", "runs", bool(runs) and all(runs), _share(runs, "run")),
        *(found if kinds else ()),
        Stage("Tested", "not-tested", not missing, "all that was asked" if not missing else f"{missing} not"),
    )


def _share(states: list[bool], noun: str) -> str:
    return f"{sum(states)} of {_counted(len(states), noun)}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
