"""An operator's options as plain values, for every operator that the runtime's schema knows.

The schema's generated classes are read by introspection, so that an operator added by a newer
runtime needs nothing here: `AdjX()` becomes `adj_x`, `NewShapeAsNumpy()` becomes `new_shape`.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from fidelity.tflite.flatbuffer import Budget
from fidelity.tflite.structure import Option

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_VECTOR = "AsNumpy"


@cache
def enum_names(enum: str) -> dict[int, str]:
    """The names of a schema enumeration by number."""
    members = vars(getattr(schema, enum)).items()
    return {value: name for name, value in members if isinstance(value, int)}


_ENUMS = {
    "fused_activation_function": "ActivationFunctionType",
    "padding": "Padding",
    "in_data_type": "TensorType",
    "out_data_type": "TensorType",
}


def operator_options(operator: Any, budget: Budget) -> dict[str, Option]:
    """The options that a schema `Operator` carries; empty for none, or for a kind the schema lacks.

    Tables within options (dimension numbers of StableHLO ops and the like) are left out.
    """
    for union, kind, table in (
        ("BuiltinOptions", operator.BuiltinOptionsType(), operator.BuiltinOptions),
        ("BuiltinOptions2", operator.BuiltinOptions2Type(), operator.BuiltinOptions2),
    ):
        name = enum_names(union).get(kind, "NONE")
        raw = table() if name != "NONE" else None
        if raw is not None:
            options = getattr(schema, name)()
            options.Init(raw.Bytes, raw.Pos)
            return {
                key: value
                for key, accessor in _accessors(name)
                if (value := _value(key, getattr(options, accessor)(), budget)) is not None
            }
    return {}


@cache
def _accessors(options_class: str) -> tuple[tuple[str, str], ...]:
    """Option name and accessor of every scalar, string and vector field of a schema class."""
    found = []
    for name, member in vars(getattr(schema, options_class)).items():
        if not inspect.isfunction(member) or len(inspect.signature(member).parameters) != 1:
            continue
        if not name.endswith(("Length", "IsNone")):
            found.append((_WORD.sub("_", name.removesuffix(_VECTOR)).lower(), name))
    vectors = {name for _, name in found if name.endswith(_VECTOR)}
    return tuple(sorted(pair for pair in found if f"{pair[1]}{_VECTOR}" not in vectors))


def _value(key: str, value: Any, budget: Budget) -> Option | None:
    if isinstance(value, bytes):
        return budget.text(value)
    if key in _ENUMS and isinstance(value, int):
        return enum_names(_ENUMS[key]).get(value, str(value))
    if isinstance(value, bool | int | float):
        return value
    return budget.numbers(value) if hasattr(value, "tolist") else None
