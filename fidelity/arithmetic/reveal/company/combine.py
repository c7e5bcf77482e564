"""Partial sums combined as order.combined has them, a whole level at a time: hundreds of candidates, not one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fidelity.arithmetic.order import Combining, Groups
from fidelity.arithmetic.reveal.company.graphs import Single

_FOURS_UNTIL = 16
Add = Callable[[Single, Single], Single]


def combined_last(values: Single, how: Combining | Groups, add: Add) -> Single:
    """`values` [..., n] combined along the last axis to [...]; `add` is elementwise on arrays of one shape."""
    left = values
    for size in how if isinstance(how, tuple) else ():
        left = _grouped(left, size, add)
    while how == "halves" and left.shape[-1] > 1:
        half = (left.shape[-1] + 1) // 2
        alone = left.shape[-1] - half
        left = np.concatenate([add(left[..., :alone], left[..., half:]), left[..., alone:half]], axis=-1)
    while how == "neighbours" and left.shape[-1] > 1:
        left = _grouped(left, 2, add)
    while how == "fours" and left.shape[-1] > _FOURS_UNTIL:
        left = _grouped(left, 4, add)
    return _grouped(left, left.shape[-1], add)[..., 0]


def _grouped(values: Single, size: int, add: Add) -> Single:
    """Running groups of `size` neighbours, the last one of what is left."""
    count = values.shape[-1]
    whole = count - count % size
    groups = [values[..., :whole].reshape(*values.shape[:-1], -1, size)] if whole else []
    if whole < count:
        groups.append(values[..., np.newaxis, whole:])
    return np.concatenate([_running(group, add) for group in groups], axis=-1)


def _running(values: Single, add: Add) -> Single:
    total = values[..., 0]
    for place in range(1, values.shape[-1]):
        total = add(total, values[..., place])
    return total
