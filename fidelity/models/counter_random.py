"""Random numbers that are the same on every machine and for every version of NumPy and torch.

NumPy promises the raw stream of a bit generator, but not the streams of its distributions; torch
promises neither. So only Philox's raw 64-bit words are used, and what is made of them is integer
arithmetic followed by one exact division: the bits cannot depend on a libm or a release.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_PIECES = 8  # 16-bit pieces summed for one normal value
_CENTRE = _PIECES * 65535 / 2
_DEVIATION = (_PIECES * (65536.0**2 - 1) / 12) ** 0.5
_CHUNK = 1 << 20


def stream(seed: int, name: str) -> np.random.Philox:
    """The counter-based bit generator of one named thing: same seed and name, same words."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64))


def uniform_integers(seed: int, name: str, count: int) -> NDArray[np.uint64]:
    """`count` uniform 64-bit words."""
    return np.asarray(stream(seed, name).random_raw(count), dtype=np.uint64)


def normal(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Approximately normal float32 values, mean 0, deviation 1, |x| <= 4.9.

    Irwin-Hall: the sum of eight uniform 16-bit integers, centred and divided in float64, rounded
    once to float32. Excess kurtosis is -0.15, which no test of arithmetic cares about; the bits
    are the same everywhere, which every golden does.
    """
    count = int(np.prod(shape, dtype=np.int64))
    generator = stream(seed, name)
    values = np.empty(count, dtype=np.float32)
    for start in range(0, count, _CHUNK):
        stop = min(start + _CHUNK, count)
        words = np.asarray(generator.random_raw((stop - start) * _PIECES // 4), dtype="<u8")
        total = words.view("<u2").reshape(-1, _PIECES).sum(axis=1, dtype=np.int64)
        values[start:stop] = (total - _CENTRE) / _DEVIATION
    return values.reshape(shape)
