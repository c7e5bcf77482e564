"""Which rewrites there are, in the order in which they are applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fidelity.errors import BadInput
from fidelity.rewrites.contract import Rewrite
from fidelity.rewrites.fixed_rope import FixedRope
from fidelity.rewrites.pool_one_query import PoolOneQuery
from fidelity.rewrites.ranked_layer_scale import RankedLayerScaleRewrite
from fidelity.rewrites.rotate_half import RotateHalf
from fidelity.rewrites.safe_grn import SafeGrn
from fidelity.rewrites.safe_layernorm import RowLayerNormRewrite, SafeLayerNormRewrite
from fidelity.rewrites.safe_layernorm_2d import SafeLayerNorm2dRewrite
from fidelity.rewrites.safe_rmsnorm import SafeRmsNormRewrite
from fidelity.rewrites.split_qkv import SplitQkv

if TYPE_CHECKING:
    from torch import nn

CATALOGUE: tuple[Rewrite, ...] = (
    SplitQkv(),
    RotateHalf(),
    FixedRope(),
    PoolOneQuery(),
    SafeLayerNormRewrite(),
    RowLayerNormRewrite(),
    SafeLayerNorm2dRewrite(),
    SafeRmsNormRewrite(),
    SafeGrn(),
    RankedLayerScaleRewrite(),
)
CARD = ("split_qkv", "rotate_half", "pool_one_query", "safe_layernorm")
"""The four of the published conversion, which are those that concern a PE-Core model."""
ALTERNATIVES = ("row_layernorm",)
"""Rewrites that do another's work in another way, so that they are applied only where they are named."""


def chosen(text: str) -> tuple[Rewrite, ...]:
    """The rewrites of `all`, `none` or a comma-separated list, in catalogue order.

    Raises BadInput for an unknown name, or for two rewrites of which the first leaves the second
    nothing to do.
    """
    if text == "none":
        return ()
    known = {rewrite.contract.name: rewrite for rewrite in CATALOGUE}
    everything = tuple(name for name in known if name not in ALTERNATIVES)
    names = everything if text == "all" else tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"rewrite {unknown[0]!r} is unknown" if unknown else "no rewrite is named"
        raise BadInput(f"{what}: expected all, none, or a list of {', '.join(known)}")
    if {"safe_layernorm", "row_layernorm"} <= set(names):
        raise BadInput("safe_layernorm and row_layernorm rewrite the same modules: choose one")
    return tuple(rewrite for name, rewrite in known.items() if name in names)


def chosen_for(text: str, model: nn.Module) -> tuple[Rewrite, ...]:
    """As `chosen`, but `all` means those that concern a module of `model`; rewrites that are named stay.

    So a manifest and a proof name what was done to this model, and a rewrite that is new to the
    catalogue changes nothing about a model that has no use for it. Raises BadInput as `chosen` does.
    """
    rewrites = chosen(text)
    if text != "all":
        return rewrites
    return tuple(r for r in rewrites if any(r.concerns(module) for module in model.modules()))
