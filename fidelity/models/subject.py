"""The model that is judged, the inputs that it is judged on, and the float64 truth about both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fidelity.models.input_contract import InputContract, input_contract
from fidelity.models.inputs import Input, InputSet, load_inputs
from fidelity.models.source import Source
from fidelity.models.weights import Weights, build_model, weights_sha256
from fidelity.record import Record

if TYPE_CHECKING:
    from torch import nn


class SubjectRecord(Record):
    """What was judged, as stored: enough to build the very same model and inputs again."""

    source: str
    weights: str
    weights_sha256: str
    seed: int
    parameters: int
    contract: InputContract
    inputs: tuple[Input, ...]


@dataclass(frozen=True)
class Subject:
    """A built model with its inputs and its record."""

    model: nn.Module
    inputs: InputSet
    record: SubjectRecord


def build_subject(source: str, weights: str, seed: int, images: Path, only: tuple[str, ...] | None) -> Subject:
    """Build the model and read the inputs. Raises BadInput or EnvironmentMissing."""
    model = built(source, weights, seed)
    contract = input_contract(model)
    inputs = load_inputs(images, contract, seed=seed)
    if only is not None:
        inputs = inputs.only(only)
    return subject_of(model, inputs, contract, source=source, weights=weights, seed=seed)


def built(source: str, weights: str, seed: int) -> nn.Module:
    """The torch module of a source and weights, as written on the command line. Raises as `build_subject` does."""
    parsed = Weights.parse(weights)
    return build_model(Source.parse(source), parsed, seed)


def subject_of(
    model: nn.Module, inputs: InputSet, contract: InputContract, *, source: str, weights: str, seed: int
) -> Subject:
    """A model that is there already, with the inputs that it is judged on and its record."""
    record = SubjectRecord(
        source=source,
        weights=weights,
        weights_sha256=weights_sha256(model),
        seed=seed,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        contract=contract,
        inputs=inputs.records,
    )
    return Subject(model, inputs, record)


def truth(subject: Subject) -> dict[str, NDArray[np.float64]]:
    """The unrewritten tower's float64 embedding of every input, [1, D] by name."""
    from fidelity.models.passes import outputs_float64  # noqa: PLC0415 - with torch, only where a model is really run
    from fidelity.models.tower import ImageTower  # noqa: PLC0415

    return outputs_float64(ImageTower(subject.model), subject.inputs.arrays)


def normalised(outputs: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Model outputs [1, D] divided by their L2 norm, as the tower does."""
    return {name: output / np.linalg.norm(output, axis=-1, keepdims=True) for name, output in outputs.items()}
