"""fidelity: proof that a PyTorch vision transformer still computes the same thing on a phone's GPU.

Seven functions, the verbs of the command line: `prove` the rewrites, `predict` the arithmetic, `convert`, `run`,
`compare` the artefact with PyTorch on every device, `locate` the first wrong number, `gate` the release.
`fidelity.testing.assert_faithful` is for the test suites of other projects. Each is loaded when it is first asked for,
so that importing fidelity needs neither torch nor LiteRT.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fidelity.api.artefacts import compare, locate, predict, predict_model, run
    from fidelity.api.release import gate
    from fidelity.api.sources import convert, prove

__version__ = "0.1.0"
__all__ = ["compare", "convert", "gate", "locate", "predict", "predict_model", "prove", "run"]

_HOME = {
    **dict.fromkeys(("compare", "locate", "predict", "predict_model", "run"), "fidelity.api.artefacts"),
    **dict.fromkeys(("convert", "prove"), "fidelity.api.sources"),
    "gate": "fidelity.api.release",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fidelity' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
