"""Float64 arrays inside a record: little-endian, base64, with their shape, so that every bit survives JSON."""

from __future__ import annotations

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from fidelity.errors import BadInput
from fidelity.record import Record


class FloatArray(Record):
    """A float64 array as text."""

    shape: tuple[int, ...]
    data: str

    @classmethod
    def of(cls, array: NDArray[np.floating]) -> FloatArray:
        """The array, widened to float64."""
        wide = np.ascontiguousarray(array, dtype="<f8")
        return cls(shape=wide.shape, data=base64.b64encode(wide.tobytes()).decode())

    def array(self) -> NDArray[np.float64]:
        """The array again. Raises BadInput when text and shape do not fit."""
        try:
            return np.frombuffer(base64.b64decode(self.data, validate=True), dtype="<f8").reshape(self.shape)
        except (ValueError, binascii.Error) as error:
            raise BadInput(f"a stored array of shape {self.shape} does not hold: {error}") from error
