"""Quantiles of a stream in constant memory: counts by the leading bits of a float64.

The bits of a non-negative float64, read as an integer, are in the order of the numbers. With the exponent and the
first 8 bits of the fraction a bin is at most 2^-8 (0.4 %) wide; a quantile is told as its bin's upper end, so that
it is never flattered. Counts add, so the answer cannot depend on an order.
"""

from __future__ import annotations

import math
import struct
from collections import Counter

_DROPPED = 52 - 8
_WIDTH = 1 << _DROPPED


class Quantiles:
    """Counts of distances, each at least 0; NaN counts as infinite."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self._count = 0

    def add(self, distance: float) -> None:
        """One more."""
        value = math.inf if math.isnan(distance) else max(distance, 0.0) + 0.0  # + 0.0: no negative zero
        self._bins[struct.unpack("<Q", struct.pack("<d", value))[0] >> _DROPPED] += 1
        self._count += 1

    def quantile(self, share: float) -> float:
        """A distance that at least `share` of all are not above, at most 2^-8 more than the least such. NaN of none."""
        left = math.ceil(share * self._count)
        for bits in sorted(self._bins):
            left -= self._bins[bits]
            if left <= 0:
                return _upper_end(bits)
        return math.nan


def _upper_end(bits: int) -> float:
    low = bits << _DROPPED
    if low in (0, 0x7FF << 52):  # zero and infinity have bins whose first number is all that there is
        return float(struct.unpack("<d", struct.pack("<Q", low))[0])
    return float(struct.unpack("<d", struct.pack("<Q", low + _WIDTH - 1))[0])
