"""An array as the bytes of a .npy file, the same bytes on every machine: what is stored with a hash beside it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray


def npy_bytes(array: NDArray[Any]) -> bytes:
    """The .npy file (format 1.0) of an array, in C order. Raises ValueError for an array of objects."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
