"""What a run's embeddings are used for, judged: labels for images, and images like images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.expectation import Expectation
from fidelity.comparison.policy import Limit
from fidelity.comparison.ranking_findings import JudgedRanking, allowed_errors, judge_ranking
from fidelity.comparison.retrieval import retrieval
from fidelity.comparison.zero_shot import zero_shot
from fidelity.errors import BadInput
from fidelity.models.label_set import LabelRecord, LabelSet, read_label_set, write_label_set

STORED = "labels/labels.json"


def judged_rankings(
    actual: Mapping[str, Mapping[str, NDArray[Any]]],
    truth: tuple[Mapping[str, NDArray[np.float64]], str],
    names: tuple[Sequence[str], Sequence[str]],
    labels: LabelSet,
    judging: tuple[Mapping[str, Limit], Expectation | None],
) -> tuple[JudgedRanking, ...]:
    """Zero-shot over every input that was asked for, retrieval over the photographs among them, three at least.

    `truth` is embeddings by input and the output's name, `names` the inputs asked for and the photographs,
    `judging` the limits of this kind of run and what is expected of it.
    """
    embeddings, output = truth
    asked, photographs = names
    outputs = {name: arrays[output] for name, arrays in actual.items() if output in arrays}
    record = labels.record
    found = [
        zero_shot(outputs, embeddings, (record.labels, labels.embeddings, record.sha256), output, asked),
        retrieval(outputs, embeddings, output, tuple(name for name in photographs if name in asked)),
    ]
    return tuple(judge_ranking(ranking, allowed_errors(ranking, *judging)) for ranking in found if ranking is not None)


def keep_labels(labels: LabelSet, folder: Path) -> None:
    """The label set in a run folder, so that the run can be judged again."""
    write_label_set(folder / STORED, labels.record, (labels.path.parent / labels.record.file).read_bytes())


def stored_labels(source: Path, record: LabelRecord | None) -> LabelSet | None:
    """The label set of a stored run. Raises BadInput when it is not the one that the report names."""
    if record is None:
        return None
    found = read_label_set(source / STORED)
    if found.record != record:
        raise BadInput(f"{found.path}: altered: it is not what report.json has")
    return found
