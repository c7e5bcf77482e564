"""What a caller of the Python functions may give: models, inputs, references; made into what the stages take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fidelity.errors import BadInput
from fidelity.gating.references import check_shapes, find_reference
from fidelity.gating.single import Reference, check_array, image_input, image_inputs
from fidelity.models.input_contract import InputContract, Scaling, input_contract
from fidelity.models.inputs import InputSet, load_inputs

if TYPE_CHECKING:
    from torch import nn

    from fidelity.models.subject import Subject

StrPath = str | Path
Inputs = Mapping[str, NDArray[Any]] | Sequence[str] | None
"""Arrays by a name of the caller's choice; or names of photographs and stress images; or None, all of these."""
Truth = Mapping[str, NDArray[np.float64]]
"""A model's float64 output [1, D] for every input, by the inputs' names."""

IMAGES = Path("golden/images")
GOLDENS = Path("golden")
GIVEN = "given"
"""The word for weights that came with a module."""


def subject_of_model(model: str | nn.Module, weights: str, inputs: Inputs, images: StrPath, seed: int) -> Subject:
    """A source `timm:NAME`, or a module as it is, with the inputs that it is judged on.

    Raises BadInput for a module in training mode, of other than float32 weights, or arrays that do not fit it.
    """
    from fidelity.models.subject import built, subject_of  # noqa: PLC0415 - torch is an extra

    if isinstance(model, str):
        module, source, named = built(model, weights, seed), model, weights
    else:
        module, source, named = _checked(model), f"module:{type(model).__name__}", GIVEN
    contract = _contract(module, inputs)
    if isinstance(inputs, Mapping):
        chosen = given_arrays(inputs, contract.shape)
        check_shapes(source, chosen, contract.shape)
    else:
        chosen = load_inputs(Path(images), contract, seed=seed)
        chosen = chosen if inputs is None else chosen.only(_names(inputs))
    return subject_of(module, chosen, contract, source=source, weights=named, seed=seed)


def inputs_of(artefact: Path, inputs: Inputs, images: StrPath, seed: int) -> InputSet:
    """The inputs that an artefact runs on. Raises BadInput for arrays that it does not take."""
    if not isinstance(inputs, Mapping):
        return image_inputs(artefact, Path(images), None if inputs is None else _names(inputs), seed)
    taken = image_input(artefact)
    for name, array in inputs.items():
        check_array(np.asarray(array), taken, f"input {name!r}")
    return InputSet.given({name: np.asarray(array) for name, array in inputs.items()})


def reference_of(
    reference: str | nn.Module | Truth, inputs: InputSet, weights: str, seed: int, goldens: StrPath
) -> Reference:
    """What an artefact is held against: `timm:NAME`, `golden:NAME`, a module, or its float64 outputs by input."""
    if isinstance(reference, str):
        return find_reference(reference, weights, seed, inputs, Path(goldens))
    if isinstance(reference, Mapping):
        return Reference(_truth(reference), None, "the given outputs")
    from fidelity.models.subject import truth  # noqa: PLC0415 - torch is an extra

    arrays: dict[str, NDArray[np.float32]] = inputs.arrays
    subject = subject_of_model(reference, GIVEN, arrays, IMAGES, seed)
    return Reference(truth(subject), subject.record.weights_sha256, subject.record.source, subject)


def given_arrays(arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> InputSet:
    """A caller's arrays as inputs of a model. Raises BadInput for another dtype than float32."""
    for name, array in arrays.items():
        if np.asarray(array).dtype != np.float32:
            raise BadInput(f"input {name!r}: {np.asarray(array).dtype}, expected float32 {list(shape)}")
    return InputSet.given({name: np.asarray(array) for name, array in arrays.items()})


def _names(inputs: Sequence[str]) -> tuple[str, ...]:
    """Raises BadInput for one name that was given bare: its letters are no names."""
    if isinstance(inputs, str):
        raise BadInput(f"inputs {inputs!r}: expected a list of names, as in [{inputs!r}], or arrays by name")
    return tuple(inputs)


def _checked(module: nn.Module) -> nn.Module:
    import torch  # noqa: PLC0415 - an extra

    if module.training:
        raise BadInput(f"module {type(module).__name__} is in training mode: call eval() first")
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            raise BadInput(f"parameter {name} is {parameter.dtype} on {parameter.device}: expected float32 on the CPU")
    return module


def _contract(module: nn.Module, inputs: Inputs) -> InputContract:
    """A timm model's own; of another module the arrays tell the size, and photographs are scaled to [-1, 1]."""
    if not isinstance(inputs, Mapping) or hasattr(module, "pretrained_cfg"):
        return input_contract(module)
    shapes = {np.asarray(array).shape for array in inputs.values()}
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 4 or shape[:2] != (1, 3):
        raise BadInput(f"inputs of shapes {sorted(map(list, shapes))}: expected [1, 3, H, W], all the same")
    return InputContract(shape=shape, mean=Scaling().mean, std=Scaling().std)


def _truth(outputs: Truth) -> dict[str, NDArray[np.float64]]:
    for name, array in outputs.items():
        if np.asarray(array).dtype != np.float64 or np.asarray(array).ndim != 2 or not np.isfinite(array).all():
            raise BadInput(
                f"reference of input {name!r}: expected finite float64 [1, D], not {np.asarray(array).dtype}"
            )
    return {name: np.asarray(array) for name, array in outputs.items()}
