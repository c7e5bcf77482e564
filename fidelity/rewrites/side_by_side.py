"""Run an original module and its rewritten counterpart on the same call, in float64 and float32.

The original float64 model runs once per input; what every site of interest was called with and gave
is noted, and the three other versions of that module are called with it. So each is compared on
right inputs, and an error shows where it is made, not where it ends up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from fidelity.rewrites.contract import Exactness
from fidelity.rewrites.extremes import extreme_activations
from fidelity.rewrites.proof import CounterExample, Difference, SiteProof
from fidelity.rewrites.rounding import amplification, limit, longest_sum, row_difference

FLOAT64_FLOOR = 1e-12  # the issue's own limit: no difference below it is ever called one
Results = Mapping[torch.dtype, tuple[torch.Tensor, torch.Tensor]]
"""What the original and the rewritten module gave for one call, in each precision."""
_UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}
_FLOOR = {torch.float64: FLOAT64_FLOOR, torch.float32: 0.0}


@dataclass(frozen=True)
class Versions:
    """One module four times: original and rewritten, in float64 and float32."""

    original: Mapping[torch.dtype, nn.Module]
    rewritten: Mapping[torch.dtype, nn.Module]

    def within(self, path: str) -> Versions:
        """Those of the module at `path` in this one."""
        return Versions(
            {dtype: module.get_submodule(path) for dtype, module in self.original.items()},
            {dtype: module.get_submodule(path) for dtype, module in self.rewritten.items()},
        )


@dataclass(frozen=True)
class Recorded:
    """One call of a module of the original in float64, and what it gave."""

    recorder: SiteRecorder
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: torch.Tensor


@dataclass
class SiteRecorder:
    """Collects the worst of every call at one site. Mutable while recording; `proof` ends it.

    The module's versions are handed in with each call and not kept: they may be made for it alone.
    """

    path: str
    rewrites: tuple[str, ...]
    extremes: bool
    calls: int = 0
    identical: bool = True
    worst: dict[torch.dtype, Difference] = field(default_factory=dict)
    failed: CounterExample | None = None

    def see(
        self, versions: Versions, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: torch.Tensor
    ) -> None:
        """Compare on one recorded float64 call, and on extremes of its first argument once."""
        self._compare(versions, name, args, kwargs, output)
        if self.extremes and self.calls == 1:
            for what, x in extreme_activations(args[0]):
                given = (x, *args[1:])
                wanted = versions.original[torch.float64](*given, **kwargs)
                self._compare(versions, f"{name}, {what}", given, kwargs, wanted)

    def judge(self, name: str, results: Results, terms: int, amplified: Callable[[], torch.Tensor]) -> None:
        """Hold results of one call against each other; `terms` and `amplified` as rounding.py derives the limit."""
        self.calls += 1
        measured = cache(amplified)
        self.identical &= torch.equal(*results[torch.float32])
        for dtype in (torch.float64, torch.float32):
            self._note(dtype, name, results[dtype], terms, measured)

    def _compare(
        self, versions: Versions, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: torch.Tensor
    ) -> None:
        """`output` is the original's in float64: it was computed while recording."""
        original = versions.original[torch.float64]
        results = {}
        for dtype in (torch.float64, torch.float32):
            given = tree_map(partial(_cast, dtype=dtype), (args, dict(kwargs)))
            reference = output if dtype is torch.float64 else versions.original[dtype](*given[0], **given[1])
            results[dtype] = reference, versions.rewritten[dtype](*given[0], **given[1])
        terms = longest_sum(original, [a for a in args if isinstance(a, torch.Tensor)])
        self.judge(name, results, terms, partial(amplification, original, args, kwargs))

    def _note(
        self,
        dtype: torch.dtype,
        name: str,
        results: tuple[torch.Tensor, torch.Tensor],
        terms: int,
        amplified: Callable[[], torch.Tensor],
    ) -> None:
        reference, actual = results
        difference = row_difference(actual, reference)
        allowed = _allowed(dtype, difference, terms, amplified)
        finite = torch.isfinite(reference.reshape(-1, reference.shape[-1])).all(dim=-1)
        difference = torch.where(finite, difference, torch.zeros(()))  # no claim where the original is not finite
        row = int((difference / allowed).argmax())
        found = Difference(worst=float(difference[row]), allowed=float(allowed[row]), input=name)
        before = self.worst.get(dtype)
        if before is None or found.worst / found.allowed > before.worst / before.allowed:
            self.worst[dtype] = found
        if found.worst > found.allowed and self.failed is None:
            self.failed = _counter_example(name, row, results, found)

    def proof(self) -> SiteProof:
        """The record of this site."""
        exactness = Exactness.EXACT if self.identical else Exactness.ROUNDING
        missing = Difference(worst=float("nan"), allowed=float("nan"), input="never called")
        return SiteProof(
            path=self.path,
            rewrites=self.rewrites,
            calls=self.calls,
            float64=self.worst.get(torch.float64, missing),
            float32=self.worst.get(torch.float32, missing),
            exactness=exactness if self.failed is None else Exactness.NOT_EQUIVALENT,
            counter_example=self.failed,
        )


@contextmanager
def recording(recorders: Mapping[str, SiteRecorder], module: nn.Module) -> Iterator[list[Recorded]]:
    """Within: notes what this thread's calls of `module`, the original in float64, give at each recorder's path in it.

    They are for `see` afterwards: a module that is recorded is itself one of the four versions, and
    must not be called again while it is being recorded.
    """
    calls: list[Recorded] = []
    thread = threading.get_ident()
    handles = []
    for path, recorder in recorders.items():

        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any, seen: SiteRecorder = recorder) -> None:
            if threading.get_ident() == thread:  # other passes run through the same module meanwhile
                calls.append(Recorded(seen, args, kwargs, output))

        handles.append(module.get_submodule(path).register_forward_hook(hook, with_kwargs=True))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _allowed(
    dtype: torch.dtype, difference: torch.Tensor, terms: int, amplified: Callable[[], torch.Tensor]
) -> torch.Tensor:
    """The limit for kappa = 1; where some row passes it, the limit for the measured kappa.

    kappa belongs to the call, not to the dtype: `amplified` measures it once for both.
    """
    plain = limit(_UNIT[dtype], terms, 1.0, _FLOOR[dtype]).expand(difference.shape)
    if bool((difference <= plain).all()):
        return plain
    return limit(_UNIT[dtype], terms, amplified(), _FLOOR[dtype])


def _cast(value: Any, *, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _counter_example(
    name: str, row: int, results: tuple[torch.Tensor, torch.Tensor], found: Difference
) -> CounterExample:
    reference, actual = (r.double().reshape(-1, r.shape[-1])[row] for r in results)
    gap = (actual - reference).abs()
    column = int(torch.where(torch.isfinite(gap), gap, torch.inf).argmax())
    return CounterExample(
        input=name,
        row=row,
        column=column,
        expected=float(reference[column]),
        got=float(actual[column]),
        difference=found.worst,
        allowed=found.allowed,
    )
