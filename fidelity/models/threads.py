"""How many threads a model is worth: a small one's operations are shorter than it takes to share them out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SMALL = 5_000_000
"""Parameters up to which a model is small: torch has one thread for it, and several are converted side by side."""


@contextmanager
def few_threads(parameters: int) -> Iterator[None]:
    """While this holds, torch uses one thread for a model of few parameters, and as many as before for any other."""
    import torch  # noqa: PLC0415 - an extra

    before = torch.get_num_threads()
    if parameters <= SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
