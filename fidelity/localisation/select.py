"""Which operators of a trace are meant: by module path, index, kind or tensor name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from fidelity.errors import BadInput
from fidelity.localisation.records import Traced
from fidelity.tflite.structure import Graph

Selector = Callable[[Traced, Graph], bool]
_LISTED = re.compile(r"\b\w+_(\d+)\b")


def parse_selectors(texts: Iterable[str]) -> tuple[Selector, ...]:
    """Selectors from `op:12`, `kind:SOFTMAX`, `tensor:NAME` or a module path such as `blocks.7.norm1`.

    A path means all that is in the module. Raises BadInput for another prefix, nothing, or an index that is no number.
    """
    return tuple(_parse(text) for text in texts)


def selected(rows: Sequence[Traced], graph: Graph, selectors: Sequence[Selector]) -> tuple[Traced, ...]:
    """The rows that any selector means, in execution order. Raises BadInput when that is none."""
    found = tuple(row for row in rows if any(selector(row, graph) for selector in selectors))
    if not found:
        raise BadInput(f"{graph.path}: no operator of the trace is meant by --show: fidelity locate -v lists them all")
    return found


def _parse(text: str) -> Selector:
    prefix, separator, rest = text.partition(":")
    if not separator and text:
        return lambda row, _: _within(row.module or "", text)
    if prefix == "op" and rest.isdecimal():
        return lambda row, _: int(rest) in row.members
    if prefix == "kind":
        return lambda row, _: row.name == rest.upper()
    if prefix == "tensor":
        return lambda row, graph: graph.main.tensors[row.tensor].name == rest
    raise BadInput(f"--show {text!r}: expected a module path, op:NUMBER, kind:NAME or tensor:NAME")


def _within(module: str, path: str) -> bool:
    """Whether a module path of the graph is or lies in the one asked for.

    The converter tells a module of a list by its class, `EvaBlock_7`, PyTorch by the list, `blocks.7`; both are
    understood, and so is `mlp.0` of a Sequential, which is `mlp.Linear_0`.
    """
    asked = path.split(".")
    found = module.split(" + ")
    return any(_begins(each.split("."), asked) or _begins(_LISTED.sub(r"\1", each).split("."), asked) for each in found)


def _begins(parts: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether the parts of a path begin with those asked for; a list's own name, before a number, may be missing."""
    if not asked:
        return True
    if not parts:
        return False
    if parts[0] == asked[0] and _begins(parts[1:], asked[1:]):
        return True
    listed = len(asked) > 1 and asked[0].isidentifier() and asked[1].isdecimal()
    return listed and parts[0] == asked[1] and _begins(parts[1:], asked[2:])
