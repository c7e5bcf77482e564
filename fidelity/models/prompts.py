"""Labels and prompt templates: text files of one a line, read as untrusted, and the sets that are built in.

A template's `{}` is replaced by the label and nothing else is: a format string could reach into Python.
"""

from __future__ import annotations

from pathlib import Path

from fidelity.errors import BadInput, EnvironmentMissing

PLACE = "{}"
FEWEST = 2  # a choice
SIMPLE = "simple"
IMAGENET = ("imagenet", "imagenet-small")
BUILT_IN = (SIMPLE, *IMAGENET)
"""`simple` is CLIP's plain prompt; the others are its sets of 80 and of 7 for ImageNet, out of open_clip."""

_LARGEST = 4 << 20  # bytes: 100,000 labels of 40 letters


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a text file, one a line, blank lines left out.

    Raises BadInput for a file that is not UTF-8 text, fewer than two labels, and a label that is
    listed twice: which of the two is right then has no answer.
    """
    labels = _lines(path, "labels")
    if len(labels) < FEWEST:
        raise BadInput(f"labels {path}: holds {len(labels)} label(s); a choice needs {FEWEST}, one a line")
    if doubled := twice(labels):
        raise BadInput(f"labels {path}: {doubled!r} is listed twice")
    return labels


def read_templates(which: str) -> tuple[str, ...]:
    """The templates of a built-in set, or of a text file, one a line.

    Raises BadInput for a file that is not UTF-8 text, is empty, or has a template without `{}` or twice.
    """
    if which == SIMPLE:
        return (f"a photo of a {PLACE}.",)
    if which in IMAGENET:
        return _of_open_clip(which)
    path = Path(which)
    if not path.is_file():
        raise BadInput(f"templates {which!r}: no such file, and not one of {', '.join(BUILT_IN)}")
    templates = _lines(path, "templates")
    if not templates:
        raise BadInput(f"templates {path}: empty; expected one template a line, such as: a photo of a {PLACE}.")
    for template in templates:
        if PLACE not in template:
            raise BadInput(f"templates {path}: {template!r} has no {PLACE} for the label")
    if doubled := twice(templates):
        raise BadInput(f"templates {path}: {doubled!r} is listed twice, and would count twice in the mean")
    return templates


def prompt(template: str, label: str) -> str:
    """The template with the label in its place."""
    return template.replace(PLACE, label)


def twice(texts: tuple[str, ...]) -> str | None:
    """The first text that stands in the list for a second time."""
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            return text
        seen.add(text)
    return None


def _lines(path: Path, what: str) -> tuple[str, ...]:
    try:
        if path.stat().st_size > _LARGEST:
            raise BadInput(f"{what} {path}: larger than {_LARGEST >> 20} MiB")
        text = path.read_text("utf-8")
    except OSError as error:
        raise BadInput(f"{what} {path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{what} {path}: not UTF-8 text") from error
    return tuple(line for line in (" ".join(each.split()) for each in text.splitlines()) if line)


def _of_open_clip(which: str) -> tuple[str, ...]:
    try:
        from open_clip import zero_shot_metadata  # noqa: PLC0415 - an extra, and it loads torch
    except ImportError as error:
        raise EnvironmentMissing(
            f"templates {which!r}: out of open_clip, which is not installed: pip install 'fidelity[labels]'"
        ) from error
    small = which == IMAGENET[1]
    chosen = zero_shot_metadata.SIMPLE_IMAGENET_TEMPLATES if small else zero_shot_metadata.OPENAI_IMAGENET_TEMPLATES
    return tuple(template(PLACE) for template in chosen)
