"""How large an error is, what is no error, and how much beyond the expected one is too much."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.comparison.metrics.outcome import Measured
from fidelity.comparison.metrics.relative_l2 import relative_l2

LIMIT = 2.0
"""As error_ratio's in policies/default.toml, where it is derived."""

NOISE = 2.0**-11
"""Half a unit in the last place of fp16: a smaller error of an operator is no error where it is stored in fp16."""

NOISE_SINGLE = 2.0**-14
"""The same for float32, where sums in another order differ by sqrt(K) 2^-24 and what is near zero by more. XNNPACK
and the emulator are at most 1.3e-5 apart over 913 tensors of PE-Core B/16 (a MEAN, all-black image): 4.6 times that."""


def worse(actual: float, expected: float, noise: float = NOISE) -> bool:
    """Whether an error is beyond the noise and beyond what the arithmetic gives; both may be infinite."""
    return actual > noise and actual > LIMIT * expected


def error_of(found: NDArray[Any], right: NDArray[Any]) -> float:
    """Relative L2 against the truth; infinite where it is undefined, as for what is not finite and should be."""
    outcome = relative_l2(found, right)
    if isinstance(outcome, Measured):
        return outcome.value
    nothing = outcome.cause in ("zero_reference", "empty") and not np.any(found)
    return 0.0 if nothing else float("inf")
