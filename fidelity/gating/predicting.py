"""Predict an artefact: emulate it under a profile, hold it against truth, judge it. No device is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.arithmetic.profile import Profile
from fidelity.cache import Cache
from fidelity.comparison.policy import Policy
from fidelity.errors import BadInput
from fidelity.gating.evidence import Embeddings, load_truth, store_truth
from fidelity.gating.judging import only_output
from fidelity.models.subject import Subject, truth
from fidelity.prediction.expected import Step, expected_in_cache, load_expected
from fidelity.prediction.prediction import Prediction, compare_expected, judge_expected, run_kind
from fidelity.tflite.graph import read_graph
from fidelity.tflite.manifest import io_contract, weights_dtype_of

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Against:
    """What a prediction is held against: embeddings by input, the photographs among them, the reference's name."""

    embeddings: Mapping[str, NDArray[np.float64]]
    photographs: tuple[str, ...]
    name: str


def predict_artefact(
    artefact: Path,
    inputs: Arrays,
    profile: Profile,
    against: Against | None,
    policy: Policy,
    cache: Cache,
    step: Step,
) -> tuple[Prediction, Path]:
    """The prediction for an artefact of one input and one output, and the folder of its expected outputs.

    Raises BadInput for another artefact, an input that does not fit or holds NaN, and one without truth.
    """
    graph = read_graph(artefact)
    output = only_output(io_contract(graph))
    missing = sorted(set(inputs) - set(against.embeddings)) if against is not None else []
    if against is not None and missing:
        raise BadInput(f"input {missing[0]!r}: {against.name} has no reference for it")
    folder = expected_in_cache(artefact, inputs, profile, cache, step)
    expected, outputs = load_expected(folder)
    weights = weights_dtype_of(graph)
    comparison = None
    if against is not None:
        comparison = compare_expected(outputs, against.embeddings, output, against.photographs)
    prediction = Prediction(
        expected=expected,
        weights_dtype=weights,
        reference=None if against is None else against.name,
        comparison=comparison,
        judgement=judge_expected(expected, comparison, run_kind(profile, weights), policy),
    )
    return prediction, folder


def judge_prediction(prediction: Prediction, policy: Policy) -> Prediction:
    """A stored prediction under another policy."""
    before = prediction.judgement
    again = judge_expected(prediction.expected, prediction.comparison, before.kind, policy)
    return prediction.model_copy(update={"judgement": again})


def truth_in_cache(subject: Subject, cache: Cache) -> Embeddings:
    """The unrewritten model's float64 embeddings, run here if they are not in the cache."""
    key = {"subject": hashlib.sha256(subject.record.to_json().encode()).hexdigest()}
    return load_truth(cache.entry("truth", key, lambda folder: store_truth(folder, truth(subject))))
