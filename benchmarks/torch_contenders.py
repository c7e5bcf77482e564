"""One contender of emulation.py that runs the torch model, measured: prints a line of JSON.

python benchmarks/torch_contenders.py float32|pychop REPEATS
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from contenders import photograph, timed
from timm.layers import set_fused_attn
from torch.utils._python_dispatch import TorchDispatchMode

from fidelity.models.source import Source
from fidelity.models.weights import Weights, build_model

SOURCE = "timm:vit_pe_core_base_patch16_224"
_ATEN = torch.ops.aten
PRODUCTS = (_ATEN.mm, _ATEN.addmm, _ATEN.bmm, _ATEN.baddbmm, _ATEN.convolution, _ATEN.linear)


class Rounded(TorchDispatchMode):
    """Within, `rounding` is applied to every product's result."""

    def __init__(self, rounding: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rounding = rounding

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return self._rounding(result) if func.overloadpacket in PRODUCTS else result


def main() -> None:
    which, repeats = sys.argv[1:]
    run = float32() if which == "float32" else by_pychop()
    with torch.no_grad():
        print(json.dumps(timed(run, int(repeats))))


def float32() -> Callable[[], object]:
    model, x = build_model(Source.parse(SOURCE), Weights(kind="seeded"), 0), given()
    return lambda: model(x)


def by_pychop() -> Callable[[], object]:
    """Attention in separate products, so that each of them is rounded."""
    try:
        pychop = import_module("pychop")
    except ImportError as error:
        raise SystemExit(f"pychop is not there ({error}): pip install '.[benchmark]'") from error
    pychop.backend("torch")
    rounding = pychop.Chop(exp_bits=5, sig_bits=10, subnormal=True, rmode=1)
    set_fused_attn(False)
    model, x = build_model(Source.parse(SOURCE), Weights(kind="seeded"), 0), given()

    def run() -> object:
        with Rounded(rounding):
            return model(x)

    return run


def given() -> torch.Tensor:
    return torch.from_numpy(photograph((1, 3, 224, 224)))


if __name__ == "__main__":
    main()
