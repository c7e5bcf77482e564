"""Which rewrites there are, in the order in which they are applied."""

from __future__ import annotations

from fidelity.errors import BadInput
from fidelity.rewrites.contract import Rewrite
from fidelity.rewrites.pool_one_query import PoolOneQuery
from fidelity.rewrites.rotate_half import RotateHalf
from fidelity.rewrites.safe_layernorm import RowLayerNormRewrite, SafeLayerNormRewrite
from fidelity.rewrites.split_qkv import SplitQkv

CATALOGUE: tuple[Rewrite, ...] = (
    SplitQkv(),
    RotateHalf(),
    PoolOneQuery(),
    SafeLayerNormRewrite(),
    RowLayerNormRewrite(),
)
CARD = ("split_qkv", "rotate_half", "pool_one_query", "safe_layernorm")
"""The four of the published conversion: what `--rewrites all` means."""


def chosen(text: str) -> tuple[Rewrite, ...]:
    """The rewrites of `all`, `none` or a comma-separated list, in catalogue order.

    Raises BadInput for an unknown name, or for two rewrites of which the first leaves the second
    nothing to do.
    """
    if text == "none":
        return ()
    names = CARD if text == "all" else tuple(part.strip() for part in text.split(",") if part.strip())
    known = {rewrite.contract.name: rewrite for rewrite in CATALOGUE}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"rewrite {unknown[0]!r} is unknown" if unknown else "no rewrite is named"
        raise BadInput(f"{what}: expected all, none, or a list of {', '.join(known)}")
    if {"safe_layernorm", "row_layernorm"} <= set(names):
        raise BadInput("safe_layernorm and row_layernorm rewrite the same modules: choose one")
    return tuple(rewrite for name, rewrite in known.items() if name in names)
