"""The float64 output of every block, by module path: what a golden of a small model records in full."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from fidelity.models.inputs import InputSet


def block_outputs(model: nn.Module, inputs: InputSet) -> dict[str, NDArray[np.float64]]:
    """Block I's output for every input, as "blocks.I/INPUT": [1, tokens, width], computed by a float64 copy."""
    double = copy.deepcopy(model).double().eval()
    seen: dict[str, NDArray[np.float64]] = {}
    current = ""
    handles = []
    for path, block in double.get_submodule("blocks").named_children():

        def hook(_: nn.Module, __: Any, output: torch.Tensor, path: str = path) -> None:
            seen[f"blocks.{path}/{current}"] = output.numpy().copy()

        handles.append(block.register_forward_hook(hook))
    try:
        with torch.no_grad():
            for current, array in inputs.arrays.items():  # noqa: B007 - read by the hook
                double(torch.from_numpy(array).double())
    finally:
        for handle in handles:
            handle.remove()
    return seen
