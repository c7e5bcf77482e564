"""Weights from a file: safetensors, or a .pt opened weights-only (no pickled code is ever run).

Every tensor must fit: a checkpoint that half fits is the beginning of a wrong embedding that
looks right, so missing, extra and misshapen tensors are all errors, all named at once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fidelity.errors import BadInput

if TYPE_CHECKING:
    from torch import nn

State = dict[str, torch.Tensor]


def load_weight_file(model: nn.Module, path: Path, part: Callable[[State], State] = dict) -> None:
    """Load the checkpoint at `path` into `model`, in place, float32.

    `part` takes and renames what belongs to the model, where the file holds more than that. A
    checkpoint in its publisher's own naming is passed through the timm architecture's
    `checkpoint_filter_fn` first. Raises BadInput naming missing, extra or misshapen tensors,
    tensors that are not finite, or a file that is not a checkpoint.
    """
    state = part(_read(path))
    if set(state) != set(model.state_dict()):
        state = _renamed(state, model)
    problems = _problems(state, model.state_dict())
    if problems:
        raise BadInput(f"weights file {path}: {'; '.join(problems)}")
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})


def _read(path: Path) -> State:
    if not path.is_file():
        raise BadInput(f"weights file {path}: no such file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError  # noqa: PLC0415 - only this branch needs it
        from safetensors.torch import load_file  # noqa: PLC0415

        try:
            loaded: object = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise BadInput(f"weights file {path}: not a safetensors file: {error}") from error
    elif path.suffix in (".pt", ".pth", ".bin"):
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            # torch.load raises pickle, zip, runtime and key errors for files it does not like
            reason = " ".join(str(error).split())[:160]
            raise BadInput(f"weights file {path}: not a weights-only checkpoint: {reason}") from error
    else:
        raise BadInput(f"weights file {path}: expected .safetensors, .pt, .pth or .bin")
    while isinstance(loaded, dict) and len(loaded) == 1 and isinstance(next(iter(loaded.values())), dict):
        loaded = next(iter(loaded.values()))  # {"state_dict": {...}} and the like
    if not isinstance(loaded, dict) or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise BadInput(f"weights file {path}: holds no plain mapping of names to tensors")
    return {str(name): tensor for name, tensor in loaded.items()}


def _renamed(state: State, model: nn.Module) -> State:
    """The state under timm's names, if the architecture knows this checkpoint's format."""
    rename = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if rename is None:
        return state
    try:
        renamed: State = rename(dict(state), model)
    except (KeyError, RuntimeError, IndexError, AttributeError):
        return state  # not a format it knows: the tensors are then reported under their own names
    return renamed


def _problems(state: State, wanted: State) -> list[str]:
    shared = set(state) & set(wanted)
    misshapen = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in sorted(shared)
        if state[name].shape != wanted[name].shape
    ]
    nonfinite = [name for name in sorted(shared) if not torch.isfinite(state[name].float()).all()]
    return [
        *_listed("missing tensor", sorted(set(wanted) - set(state))),
        *_listed("extra tensor", sorted(set(state) - set(wanted))),
        *_listed("wrong shape:", misshapen),
        *_listed("not finite:", nonfinite),
    ]


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what} {', '.join(names[:3])}{more}"]
