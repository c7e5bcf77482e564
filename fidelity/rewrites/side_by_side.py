"""Run an original module and its rewritten counterpart on the same call, in float64 and float32.

The original float64 model runs once per input; at every site of interest a hook hands the very
arguments to the three other versions of that module. So each is compared on right inputs, and an
error shows where it is made, not where it ends up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
_UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}
_FLOOR = {torch.float64: FLOAT64_FLOOR, torch.float32: 0.0}


@dataclass(frozen=True)
class Versions:
    """One module four times: original and rewritten, in float64 and float32."""

    original: Mapping[torch.dtype, nn.Module]
    rewritten: Mapping[torch.dtype, nn.Module]


@dataclass
class SiteRecorder:
    """Collects the worst of every call at one site. Mutable while recording; `proof` ends it."""

    path: str
    versions: Versions
    rewrites: tuple[str, ...]
    extremes: bool
    calls: int = 0
    identical: bool = True
    worst: dict[torch.dtype, Difference] = field(default_factory=dict)
    failed: CounterExample | None = None

    def see(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: torch.Tensor) -> None:
        """Compare on one recorded float64 call, and on extremes of its first argument once."""
        self._compare(name, args, kwargs, output)
        if self.extremes and self.calls == 1:
            for what, x in extreme_activations(args[0]):
                given = (x, *args[1:])
                self._compare(f"{name}, {what}", given, kwargs, self.versions.original[torch.float64](*given, **kwargs))

    def _compare(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: torch.Tensor) -> None:
        """`output` is the original's in float64: it was computed while recording."""
        self.calls += 1
        amplified = cache(partial(amplification, self.versions.original[torch.float64], args, kwargs))
        for dtype in (torch.float64, torch.float32):
            given = tree_map(partial(_cast, dtype=dtype), (args, dict(kwargs)))
            reference = output if dtype is torch.float64 else self.versions.original[dtype](*given[0], **given[1])
            actual = self.versions.rewritten[dtype](*given[0], **given[1])
            if dtype is torch.float32:
                self.identical &= torch.equal(reference, actual)
            self._note(dtype, name, (reference, actual), self._terms(args), amplified)

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

    def _terms(self, args: tuple[Any, ...]) -> int:
        return longest_sum(self.versions.original[torch.float64], [a for a in args if isinstance(a, torch.Tensor)])

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


def record(recorders: Iterable[SiteRecorder], model: nn.Module, name: str, image: torch.Tensor) -> torch.Tensor:
    """Run the original float64 `model` on `image`; every recorder then sees the calls of its module.

    Returns the model's own output.
    Calls are kept until the run is over: a module of the run is itself one of the four versions,
    and must not be called again while it is being recorded.
    """
    calls: list[tuple[SiteRecorder, tuple[Any, ...], dict[str, Any], torch.Tensor]] = []
    handles = []
    for recorder in recorders:

        def hook(_: nn.Module, args: Any, kwargs: Any, output: Any, seen: SiteRecorder = recorder) -> None:
            calls.append((seen, args, kwargs, output))

        handles.append(model.get_submodule(recorder.path).register_forward_hook(hook, with_kwargs=True))
    with torch.no_grad():
        try:
            output: torch.Tensor = model(image.double())
        finally:
            for handle in handles:
                handle.remove()
        for recorder, args, kwargs, seen_output in calls:
            recorder.see(name, args, kwargs, seen_output)
    return output


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
