"""A share with what it proves: the exact interval of Clopper and Pearson (1934, Biometrika 26, 404)."""

from __future__ import annotations

from scipy.special import betaincinv

from fidelity.record import Figure, Record

CONFIDENCE = 0.95


class Agreement(Record):
    """`count` of `of` images, and the interval that holds the share of all such images with 95 % confidence.

    It holds for images drawn independently from what the model will meet; a copy of an image is no new draw, so
    only distinct ones are counted here.
    """

    count: int
    of: int
    share: Figure
    low: Figure
    high: Figure


def agreement(count: int, of: int) -> Agreement:
    """The exact interval: never narrower than it says, whatever the share. Of nothing, nothing is known: 0 to 1."""
    if of == 0:
        return Agreement(count=0, of=0, share=float("nan"), low=0.0, high=1.0)
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, of - count + 1, tail))
    high = 1.0 if count == of else float(betaincinv(count + 1, of - count, 1 - tail))
    return Agreement(count=count, of=of, share=count / of, low=low, high=high)
