"""Which fault can be in which place, and why not in the others: nothing is left out without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fidelity.errors import BadInput
from fidelity.faults.outputs import OUTPUTS
from fidelity.faults.plant import FAULTS
from fidelity.selftest.records import Place, Unplanted

PLACES: tuple[Place, ...] = ("model", "artefact", "device", "output")

_NO_OPERATOR = "an array that came back has no operator to be wrong"
_NOT: Mapping[Place, Mapping[str, str]] = {
    "model": {},
    "artefact": {},
    "device": {
        "rounded_twice": "weights are the file's: a device that keeps bfloat16 moves the output by less than the fp16 "
        "that it is allowed",
    },
    "output": dict.fromkeys(
        ("dropped_bias", "swapped_operands", "wrong_eps", "wrong_softmax_axis", "ignored_adj", "rounded_twice"),
        _NO_OPERATOR,
    ),
}
NEEDS_FP16 = "overflow"
"""Right in float32: only a device that computes in fp16 can show it."""

_FP16 = "it is right in float32: it needs a GPU"


def faults_of(place: Place) -> tuple[str, ...]:
    """The faults that a place can have."""
    known = tuple(OUTPUTS) if place == "output" else tuple(FAULTS)
    return tuple(name for name in known if name not in _NOT[place])


def chosen_faults(only: Sequence[str] | None) -> tuple[str, ...]:
    """The faults asked for, all of them for None. Raises BadInput for an unknown one, and for none."""
    known = tuple(dict.fromkeys(name for place in PLACES for name in faults_of(place)))
    if only is None:
        return known
    unknown = [name for name in only if name not in known]
    if unknown or not only:
        what = f"fault {unknown[0]!r} is unknown" if unknown else "no fault is named"
        raise BadInput(f"{what}: expected {', '.join(known)}")
    return tuple(name for name in known if name in only)


def unplanted(faults: Sequence[str], devices: Sequence[str], gpus: Sequence[str]) -> tuple[Unplanted, ...]:
    """What is not planted of these faults, and why."""
    told = [
        Unplanted(fault=name, place=place, reason=reason)
        for place in PLACES
        for name, reason in _NOT[place].items()
        if name in faults
    ]
    if NEEDS_FP16 in faults:
        told += [
            Unplanted(fault=NEEDS_FP16, place=place, device=device, reason=_FP16)
            for place in ("artefact", "device")
            for device in devices
            if device not in gpus
        ]
        if not gpus:
            told.append(Unplanted(fault=NEEDS_FP16, place="model", reason=_FP16))
    return tuple(told)
