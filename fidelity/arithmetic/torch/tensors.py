"""Torch tensors as the kernels' arrays and back, and roundings that torch does faster with the same bits."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fidelity.arithmetic.float16 import IEEE, Conversion, rounded

Single = NDArray[np.float32]


def array(x: torch.Tensor) -> Single:
    """The tensor's numbers without a copy, where its layout allows."""
    return np.asarray(x.detach().numpy(), np.float32)


def tensor(x: Single) -> torch.Tensor:
    """The array as a tensor, without a copy."""
    return torch.from_numpy(np.ascontiguousarray(x) if x.ndim else np.array(x))


def converted(x: torch.Tensor, conversion: Conversion | None) -> torch.Tensor:
    """`float16.rounded` of a float32 tensor. A plain IEEE conversion is the processor's own."""
    if conversion is None:
        return x
    if conversion == IEEE:
        return x.half().float()
    return tensor(rounded(array(x), conversion))
