"""Faults of what a device hands back: its arrays, and what it says of the run that made them.

No operator is to blame for these: the numbers were right, or never there, and what arrives is wrong. Each takes what
came back and a drawn number that chooses the input, channel or element, and gives None where there is no room for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fidelity.devices.job import JobResult, Residency

Array = NDArray[Any]
Outputs = dict[str, dict[str, Array]]
LARGEST = 65504.0


@dataclass(frozen=True)
class Returned:
    """What came back: arrays by input and output name, the result, and the CPU's arrays of the same artefact."""

    outputs: Outputs
    result: JobResult
    cpu: Outputs | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether it says that it comes from anything but the CPU."""
        return self.result.device != "cpu"


Spoil = Callable[[Returned, int], Returned | None]


def _each(back: Returned, change: Callable[[Array], Array]) -> Returned:
    """Every array changed in the same way."""
    return replace(back, outputs={n: {k: change(a) for k, a in each.items()} for n, each in back.outputs.items()})


def _one(back: Returned, drawn: int, change: Callable[[Array], Array]) -> Returned:
    """The arrays of one input changed."""
    name = sorted(back.outputs)[drawn % len(back.outputs)]
    changed = {key: change(array) for key, array in back.outputs[name].items()}
    return replace(back, outputs={**back.outputs, name: changed})


def _set(array: Array, place: int, value: float) -> Array:
    changed = np.array(array)
    changed.reshape(-1)[place % changed.size] = value
    return changed


def overflow(back: Returned, drawn: int) -> Returned | None:
    """One element of one input's is infinite."""
    return _one(back, drawn, lambda array: _set(array, drawn, np.inf))


def wrong_scale(back: Returned, drawn: int) -> Returned | None:
    """All of it 1.5 times as large, which no correlation sees."""
    return _each(back, lambda array: array * array.dtype.type(1.5))


def wrong_sign(back: Returned, drawn: int) -> Returned | None:
    """One input's is negated."""
    return _one(back, drawn, lambda array: -array)


def swapped_halves(back: Returned, drawn: int) -> Returned | None:
    """The halves of the last axis are exchanged."""
    return _each(back, lambda array: np.roll(array, array.shape[-1] // 2, axis=-1))


def shifted_row(back: Returned, drawn: int) -> Returned | None:
    """Read from one element on: each has its neighbour's value."""
    return _each(back, lambda array: np.roll(array, 1, axis=-1))


def zeroed_token(back: Returned, drawn: int) -> Returned | None:
    """One input's is all zeros (LiteRT #7693): the only row that an embedding has."""
    return _one(back, drawn, np.zeros_like)


def dead_channel(back: Returned, drawn: int) -> Returned | None:
    """One channel is zero at every input."""
    return _each(back, lambda array: _set(array, drawn, 0.0))


def saturated_channel(back: Returned, drawn: int) -> Returned | None:
    """One channel is at fp16's largest number at every input."""
    return _each(back, lambda array: _set(array, drawn, LARGEST))


def nan_element(back: Returned, drawn: int) -> Returned | None:
    """One element of one input's is NaN."""
    return _one(back, drawn, lambda array: _set(array, drawn, np.nan))


def stale_output(back: Returned, drawn: int) -> Returned | None:
    """Every input has the output of the one before it: the buffer was read before it was written."""
    names = list(back.outputs)
    return replace(back, outputs={name: back.outputs[names[place - 1]] for place, name in enumerate(names)})


def aliased_output(back: Returned, drawn: int) -> Returned | None:
    """All outputs are one piece of memory: what the last run wrote is read for every input."""
    last = back.outputs[list(back.outputs)[-1]]
    return replace(back, outputs=dict.fromkeys(back.outputs, last))


def cpu_bits(back: Returned, drawn: int) -> Returned | None:
    """The CPU's own bits, told as a GPU's."""
    return replace(back, outputs=back.cpu) if back.on_gpu and back.cpu else None


def constant(back: Returned, drawn: int) -> Returned | None:
    """The same number everywhere, of the right norm."""
    return _each(back, lambda array: np.full_like(array, array.shape[-1] ** -0.5))


def missing_output(back: Returned, drawn: int) -> Returned | None:
    """One input has no output."""
    return replace(back, outputs={**back.outputs, sorted(back.outputs)[drawn % len(back.outputs)]: {}})


def missing_input(back: Returned, drawn: int) -> Returned | None:
    """Nothing came back for one input."""
    absent = sorted(back.outputs)[drawn % len(back.outputs)]
    return replace(back, outputs={name: each for name, each in back.outputs.items() if name != absent})


def extra_output(back: Returned, drawn: int) -> Returned | None:
    """One output more than the model has."""
    return replace(back, outputs={n: {**each, "debug": np.zeros(3, np.float32)} for n, each in back.outputs.items()})


def wrong_shape(back: Returned, drawn: int) -> Returned | None:
    """Without its first axis."""
    return _each(back, lambda array: array.reshape(-1))


def wrong_dtype(back: Returned, drawn: int) -> Returned | None:
    """The right numbers as float64."""
    return _each(back, lambda array: array.astype(np.float64))


def non_resident(back: Returned, drawn: int) -> Returned | None:
    """One node was left to the CPU."""
    residency = back.result.residency
    if not back.on_gpu or residency is None:
        return None
    left = residency.model_copy(update={"nodes_on_device": residency.nodes_on_device - 1, "partitions": 2})
    return _said(back, residency=left)


def no_residency(back: Returned, drawn: int) -> Returned | None:
    """It does not say how many nodes it took."""
    nothing: Residency | None = None
    return _said(back, residency=nothing) if back.on_gpu else None


def wrong_model(back: Returned, drawn: int) -> Returned | None:
    """Another file ran: a stale one on the device."""
    return _said(back, model_sha256="0" * 64)


def wrong_device(back: Returned, drawn: int) -> Returned | None:
    """The other kind of device ran."""
    return _said(back, device="cpu" if back.on_gpu else "gpu")


def wrong_precision(back: Returned, drawn: int) -> Returned | None:
    """A GPU that computed fp32 where fp16 was to be tested."""
    return _said(back, precision_had="fp32") if back.on_gpu else None


def not_deterministic(back: Returned, drawn: int) -> Returned | None:
    """Two runs of one input differed."""
    told = tuple(
        each.model_copy(update={"deterministic": False if place == 0 else each.deterministic})
        for place, each in enumerate(back.result.outputs)
    )
    return _said(back, outputs=told)


def failed_run(back: Returned, drawn: int) -> Returned | None:
    """It crashed behind the last output."""
    return _said(back, status="crashed", error="killed by SIGSEGV")


def _said(back: Returned, **changes: object) -> Returned:
    return replace(back, result=back.result.model_copy(update=changes))


OUTPUTS: dict[str, Spoil] = {
    each.__name__: each
    for each in (
        overflow,
        wrong_scale,
        wrong_sign,
        swapped_halves,
        shifted_row,
        zeroed_token,
        dead_channel,
        saturated_channel,
        nan_element,
        stale_output,
        aliased_output,
        cpu_bits,
        constant,
        missing_output,
        missing_input,
        extra_output,
        wrong_shape,
        wrong_dtype,
        non_resident,
        no_residency,
        wrong_model,
        wrong_device,
        wrong_precision,
        not_deterministic,
        failed_run,
    )
}
"""Every fault of what comes back, by name."""
