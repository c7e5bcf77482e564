"""Faults of a rewritten torch module: what a rewrite gives that does not do what it says.

Each fault takes the new module and a drawn number, and gives False where the module has no such thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from fidelity.rewrites.safe_layernorm import ScaledLayerNorm

Tamper = Callable[[nn.Module, int], bool]
_EPS = 10.0
_UPWARDS = 256.0
"""The wrong way round of the overflow-safe LayerNorm's scale: (256 x)^2 passes 65,504 from |x| = 1 on."""


def overflow(module: nn.Module, drawn: int) -> bool:
    """A LayerNorm's rows scaled up before they are squared, and not down: the same real number, beyond fp16."""
    if not isinstance(module, ScaledLayerNorm):
        return False

    def forward(x: torch.Tensor) -> torch.Tensor:
        return module.normalise(x * _UPWARDS, module.eps * _UPWARDS**2)

    module.forward = forward
    return True


def wrong_scale(module: nn.Module, drawn: int) -> bool:
    """The result 1.5 times as large."""
    return _behind(module, lambda output: output * 1.5)


def wrong_sign(module: nn.Module, drawn: int) -> bool:
    """A weight negated."""
    return _changed(module, "weight", drawn, lambda value: -value)


def swapped_halves(module: nn.Module, drawn: int) -> bool:
    """The halves of a weight's rows exchanged, as an even-then-odd order that was not applied to the other side."""
    return _changed(module, "weight", drawn, lambda value: value.roll(value.shape[0] // 2, 0))


def shifted_row(module: nn.Module, drawn: int) -> bool:
    """Each row of a weight is its neighbour's: a slice that begins one row too late."""
    return _changed(module, "weight", drawn, lambda value: value.roll(1, 0))


def dropped_bias(module: nn.Module, drawn: int) -> bool:
    """A bias left behind."""
    return _changed(module, "bias", drawn, torch.zeros_like)


def swapped_operands(module: nn.Module, drawn: int) -> bool:
    """q and k exchanged."""
    return _attends(module, lambda q, k, v: _attention(k, q, v))


def zeroed_token(module: nn.Module, drawn: int) -> bool:
    """One token of the result is zero."""
    return _behind(module, lambda output: _filled(output, -2, drawn, 0.0))


def dead_channel(module: nn.Module, drawn: int) -> bool:
    """One channel of the result is zero."""
    return _behind(module, lambda output: _filled(output, -1, drawn, 0.0))


def saturated_channel(module: nn.Module, drawn: int) -> bool:
    """One channel of the result is at fp16's largest number."""
    return _behind(module, lambda output: _filled(output, -1, drawn, 65504.0))


def nan_element(module: nn.Module, drawn: int) -> bool:
    """One element of the result is NaN."""

    def poisoned(output: torch.Tensor) -> torch.Tensor:
        changed = output.clone()
        changed.view(-1)[drawn % changed.numel()] = torch.nan
        return changed

    return _behind(module, poisoned)


def stale_output(module: nn.Module, drawn: int) -> bool:
    """The result of the call before; at first the zeros that a new buffer holds."""
    kept: dict[tuple[torch.Size, torch.dtype], torch.Tensor] = {}

    def before(output: torch.Tensor) -> torch.Tensor:
        key = (output.shape, output.dtype)
        found, kept[key] = kept.get(key, torch.zeros_like(output)), output
        return found

    return _behind(module, before)


def aliased_output(module: nn.Module, drawn: int) -> bool:
    """What went in, as it was, where that has the result's shape: written in place and then read."""

    def same(_: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
        return args[0] if args[0].shape == output.shape else None

    module.register_forward_hook(same)
    return True


def rounded_twice(module: nn.Module, drawn: int) -> bool:
    """Its weights were rounded to bfloat16 on the way."""
    found = [value for name, value in module.named_parameters() if name.endswith("weight")]
    for value in found:
        value.data = value.data.bfloat16().to(value.dtype)
    return bool(found)


def wrong_eps(module: nn.Module, drawn: int) -> bool:
    """A LayerNorm's eps of 10."""
    if not isinstance(module, ScaledLayerNorm):
        return False
    module.eps = _EPS
    return True


def wrong_softmax_axis(module: nn.Module, drawn: int) -> bool:
    """Softmax over the queries instead of the keys; in a pool over the heads instead of the tokens."""
    return _attends(module, lambda q, k, v: (_logits(q, k).softmax(dim=-2)) @ v, softmax=-2)


def ignored_adj(module: nn.Module, drawn: int) -> bool:
    """k read as if it were not to be transposed: its memory in the transposed one's shape (LiteRT #8913)."""
    return _attends(module, lambda q, k, v: (q @ _untransposed(k) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v)


def _untransposed(k: torch.Tensor) -> torch.Tensor:
    return k.contiguous().reshape(*k.shape[:-2], k.shape[-1], k.shape[-2])


def _logits(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return torch.matmul(q, k.transpose(-2, -1)) / math.sqrt(q.shape[-1])


def _attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    weights = _logits(q, k).softmax(dim=-1)
    return weights @ v


def _filled(output: torch.Tensor, axis: int, drawn: int, value: float) -> torch.Tensor:
    if output.ndim < -axis:
        return output
    changed = output.clone()
    changed.select(axis, drawn % output.shape[axis]).fill_(value)
    return changed


def _behind(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    module.register_forward_hook(lambda _, __, output: change(output))
    return True


def _changed(module: nn.Module, kind: str, drawn: int, change: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """One parameter of a kind, changed in place: there is none, or it is as before, and it is False."""
    found = [value for name, value in module.named_parameters() if name.rpartition(".")[2] == kind]
    if not found:
        return False
    chosen = found[drawn % len(found)]
    before, chosen.data = chosen.data, change(chosen.data).clone()
    return not torch.equal(before, chosen.data)


class _Instead(TorchFunctionMode):
    """Another attention, and another axis of softmax, wherever they are called."""

    def __init__(self, attention: Callable[..., torch.Tensor], softmax: int | None) -> None:
        super().__init__()
        self._attention, self._softmax = attention, softmax

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return self._attention(*args[:3])
        if func is torch.Tensor.softmax and self._softmax is not None:
            return func(args[0], dim=self._softmax)
        return func(*args, **(kwargs or {}))


def _attends(module: nn.Module, attention: Callable[..., torch.Tensor], softmax: int | None = None) -> bool:
    """The module's own forward with another attention; False for one that has none."""
    pools = softmax is not None and hasattr(module, "query")
    if not pools and not hasattr(module, "rope_half") and not hasattr(module, "q_proj"):
        return False
    honest = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with _Instead(attention, softmax if pools else None):
            return honest(*args, **kwargs)

    module.forward = forward
    return True


MODULES: dict[str, Tamper] = {
    each.__name__: each
    for each in (
        overflow,
        wrong_scale,
        wrong_sign,
        swapped_halves,
        shifted_row,
        dropped_bias,
        swapped_operands,
        zeroed_token,
        dead_channel,
        saturated_channel,
        nan_element,
        stale_output,
        aliased_output,
        rounded_twice,
        wrong_eps,
        wrong_softmax_axis,
        ignored_adj,
    )
}
"""Every fault of a rewritten module, by name."""
