"""How far apart two evaluations of one real function may be, when they only round differently.

The limit is derived for each row of each call, not tuned:

    limit = max(floor, 2 * LAMBDA * u * sqrt(K) * kappa)

u is the unit roundoff (eps / 2). Rounding a sum of K terms is a random walk of K steps of at most
u times the terms' magnitude (Higham and Mary 2019), exceeded by LAMBDA deviations in 0.3 % of
cases; two evaluations may err in opposite directions, hence 2. kappa is what the rest of the
module makes of such an error: its amplification of relative noise, measured by Monte-Carlo
arithmetic (Parker 1997) in float64, where every operand and result of every operation is
perturbed by a known relative amount. kappa >= 1, so a difference within the limit for kappa = 1
needs no measurement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Set
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

LAMBDA = 3.0
_NOISE = 2.0**-30  # far above float64's rounding, far below where softmax bends
_SAMPLES = 3
_SAMPLES_SMALL = 24  # a row of a few values needs more draws before the worst of them is seen
_SMALL = 4096


def row_difference(actual: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Relative L2 difference of each row (last axis), float64, [rows].

    A row whose reference is zero differs by 0 if it is zero too and by infinity if not; NaN and
    infinity anywhere in `actual` where `reference` is finite give infinity.
    """
    a = actual.double().reshape(-1, actual.shape[-1])
    r = reference.double().reshape(-1, reference.shape[-1])
    size = r.norm(dim=-1)
    gap = (a - r).norm(dim=-1)
    relative = torch.where(size > 0, gap / size, torch.where(gap == 0, 0.0, math.inf))
    return torch.where(torch.isfinite(relative), relative, math.inf)


def limit(unit_roundoff: float, longest_sum: int, kappa: torch.Tensor | float, floor: float) -> torch.Tensor:
    """The greatest row difference that rounding explains, [rows] or scalar."""
    derived = torch.as_tensor(kappa, dtype=torch.float64) * (2 * LAMBDA * unit_roundoff * math.sqrt(longest_sum))
    return derived.clamp(min=floor)


def longest_sum(module: torch.nn.Module, tensors: Iterable[torch.Tensor]) -> int:
    """An upper bound on the terms of any sum in the module: its widest matrix or longest axis."""
    shapes = [p.shape[1:].numel() for p in module.parameters() if p.ndim >= 2]
    return max([1, *shapes, *(size for tensor in tensors for size in tensor.shape[1:])])


def amplification(module: torch.nn.Module, args: Iterable[Any], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """kappa of each row of the float64 `module`'s output, at least 1: output noise per unit of inner noise."""
    exact = module(*args, **kwargs)
    stored = storages(module)

    def noisy(sample: int) -> Any:
        with MonteCarloArithmetic(sample, stored):
            return module(*args, **kwargs)

    return kappa(exact, map(noisy, range(samples(exact))))


def samples(exact: torch.Tensor) -> int:
    """How many noisy runs the amplification of this output is measured by."""
    return _SAMPLES if exact.numel() >= _SMALL else _SAMPLES_SMALL


def kappa(exact: torch.Tensor, noisy: Iterable[torch.Tensor]) -> torch.Tensor:
    """kappa of each row of `exact`, at least 1, by what became of it in noisy runs."""
    worst = torch.ones(exact.reshape(-1, exact.shape[-1]).shape[0], dtype=torch.float64)
    for each in noisy:
        worst = torch.maximum(worst, row_difference(each, exact) / _NOISE)
    return worst


def storages(module: torch.nn.Module) -> set[int]:
    """Where the module's weights lie: what `MonteCarloArithmetic` leaves alone."""
    return {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}


class MonteCarloArithmetic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, every float64 operand and result of an operation is off by one part in 2^30.

    The sign of each perturbation is random and reproducible. Views are left alone: they compute
    nothing. So are tensors of the storages in `exempt`, a module's weights: a product is off by as
    much when only its other factor is, and weights are most of what there is to perturb.
    """

    def __init__(self, seed: int, exempt: Set[int] = frozenset()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = torch.Generator().manual_seed(seed)
        self._exempt = exempt

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.is_view:
            return func(*args, **kwargs)
        return tree_map(self._off, func(*tree_map(self._off, args), **tree_map(self._off, kwargs)))

    def _off(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype != torch.float64:
            return value
        if value.untyped_storage().data_ptr() in self._exempt:
            return value
        signs = torch.randint(0, 2, value.shape, generator=self._generator, dtype=torch.float64)
        return value * (1 + _NOISE * (2 * signs - 1))
