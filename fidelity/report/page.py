"""A page that needs nothing else: how a template becomes HTML, and what it may never show.

Numbers stand in <data> elements with the stored value; a float that reaches a template by another
way is an error, as is an undefined name. Whatever is text is escaped, and every page forbids itself
scripts and network by its own content policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup

from fidelity.report import figures
from fidelity.report.printable import printable


def render(template: str, words: Mapping[str, Any], **values: Any) -> str:
    """One template as a document: `words` are functions and constants of its own, `values` what it shows."""
    return environment(words).get_template(template).render(**values)


def environment(words: Mapping[str, Any]) -> jinja2.Environment:
    """What templates are rendered in: escaped, strict, with the figures' ways to show a number."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("fidelity.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(
        chosen=figures.chosen,
        figure=figures.figure,
        metric_figure=figures.metric_figure,
        whole=figures.whole,
        megabytes=figures.megabytes,
        limit_text=figures.limit_text,
        stylesheet=_stylesheet(made),
    )
    made.globals.update(words)
    return made


def _stylesheet(made: jinja2.Environment) -> Markup:
    source, _, _ = made.loader.get_source(made, "report.css")  # type: ignore[union-attr]
    return Markup(source)  # noqa: S704 - our own file, and a stylesheet cannot be escaped


def _shown(value: Any) -> Any:
    """What a template's expression shows. Raises TypeError for what would show misleadingly."""
    if isinstance(value, float) or value is None:
        raise TypeError(f"a template shows {value!r}: a float goes through figure(), None has words")
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return value
