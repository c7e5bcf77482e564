"""Inner sites: what an operation passes through before it has a result.

A LayerNorm can overflow inside its sum of squares while every tensor of the graph is finite; so
kernels show such numbers to whoever asks.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]
Part = Literal["result", "difference", "product", "sum", "mean", "greatest", "power", "share", "operand", "peak"]
"""`sum`: an accumulator, the partial ones and the whole; `product`: what is added into it; `difference`
and `power`: steps before the last; `share`: one over a sum; `operand`: an input as it was converted;
`peak`: the largest magnitudes that running sums reached on the way."""


class Observer(Protocol):
    """Called with each array that a kernel passes through, which it must not change."""

    def __call__(self, part: Part, values: Single) -> None:
        """See one array: any shape, the values that the device holds."""
        ...


def unobserved(part: Part, values: Single) -> None:
    """Looks at nothing."""
