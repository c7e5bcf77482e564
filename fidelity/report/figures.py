"""Stored figures as text that cannot mislead.

0.999983 must not show as 1.0000, and a figure that misses its limit must not show as one that meets
it: digits are added until the text is on the figure's own side of its limit and of its ideal.
"""

from __future__ import annotations

import math

from markupsafe import Markup

from fidelity.comparison.metrics import METRICS
from fidelity.comparison.policy import Limit

MEGABYTE = 1e6


def figure_text(value: float, *, ideal: float = 0.0, limit: Limit | None = None, digits: int = 3) -> str:
    """`value` with at least `digits` significant digits of its distance to `ideal`.

    The text, read back, is within half a unit of its last digit of `value`, on the same side of
    `limit`, and equals `ideal` only when `value` does. NaN and infinity show as report.json has
    them: NaN, Infinity, -Infinity.
    """
    if not math.isfinite(value):
        return stored_text(value)
    for tried in range(digits, 18):
        text = _rounded(value, ideal, tried)
        if _same_side(float(text), value, ideal, limit):
            return text
    return repr(value)


def _rounded(value: float, ideal: float, digits: int) -> str:
    if value == ideal:
        return f"{value:g}"
    if ideal == 0 or not 0.1 <= abs(value) < 1e4:
        return _short_exponent(f"{value:#.{digits}g}")
    decimals = digits - 1 - math.floor(math.log10(abs(value - ideal)))
    return f"{value:.{max(decimals, digits)}f}"


def _short_exponent(text: str) -> str:
    """1.50e-06 as 1.50e-6, 100. as 100."""
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa.rstrip('.')}e{int(exponent)}" if exponent else mantissa.rstrip(".")


def _same_side(shown: float, value: float, ideal: float, limit: Limit | None) -> bool:
    if not math.isfinite(shown) or (shown == ideal) != (value == ideal):
        return False
    return limit is None or (limit.excess(shown) <= 0) == (limit.excess(value) <= 0)


def stored_text(value: float) -> str:
    """A number exactly as report.json stores it, without the quotes around NaN and infinity."""
    if isinstance(value, int) or math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def figure(value: float, *, ideal: float = 0.0, limit: Limit | None = None) -> Markup:
    """HTML: the figure as text for a person, with the exact stored number in a <data> element."""
    return _data(value, figure_text(value, ideal=ideal, limit=limit))


def chosen(value: float) -> Markup:
    """HTML: a number that somebody chose (a limit, a mean), as short as it was written."""
    return _data(value, chosen_text(value))


def chosen_text(value: float) -> str:
    """A number that somebody chose: its shortest text, which reads back as the same number."""
    return _short_exponent(repr(value).removesuffix(".0"))


def metric_figure(metric: str, value: float, limit: Limit | None = None) -> Markup:
    """HTML: the figure of a metric, rounded with respect to the value that the metric aims at."""
    known = METRICS.get(metric)
    # Only an ideal of one hides errors in its last digits: 0.99998 is 2e-5 away, and 2e-5 is 2e-5.
    ideal = 1.0 if known is not None and known.scale.ideal == 1 and known.scale.unit != "share" else 0.0
    return figure(value, ideal=ideal, limit=limit)


def whole(value: int) -> Markup:
    """HTML: a count, with thin spaces between thousands."""
    return _data(value, f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"))


def megabytes(value: int) -> Markup:
    """HTML: a size in bytes as MB (10^6 bytes)."""
    text = figure_text(value / MEGABYTE, digits=4)
    return Markup('<data value="{}" data-unit="1e6">{}</data> MB').format(value, text)


def limit_text(limit: Limit) -> Markup:
    """HTML: a limit as an inequality; both sides when it has two."""
    sides = [
        Markup("{} {}").format(sign, chosen(bound))
        for sign, bound in (("≥", limit.at_least), ("≤", limit.at_most))
        if bound is not None
    ]
    return Markup(", ").join(sides)


def _data(value: float, text: str) -> Markup:
    return Markup('<data value="{}">{}</data>').format(stored_text(value), text)
