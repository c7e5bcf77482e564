"""Which weights a text tower gets: `seeded`, `pretrained` (open_clip's hub) or `file:PATH`.

A file may be of the tower alone, or of the whole model: what belongs to the vision tower and to the loss
is left aside, and what is left must be the text tower's tensors, each of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.models.text_source import TextSource, open_clip
from fidelity.models.weight_file import State, load_weight_file

if TYPE_CHECKING:
    from torch import nn

    from fidelity.models.weights import Weights

_ASIDE = ("visual.", "logit_scale", "logit_bias")
_TEXT = "text."


def build_text_tower(source: TextSource, weights: Weights, seed: int) -> nn.Module:
    """The source's text tower with these weights; eval mode, float32, CPU.

    Raises BadInput (unknown model, weights that do not fit) or EnvironmentMissing (no package, no hub).
    """
    if weights.kind == "massive":
        raise BadInput("weights 'massive': for image towers; a text tower takes seeded, pretrained or file:PATH")
    tower = source.build()
    if weights.kind == "seeded":
        from fidelity.models.seeded_text import fill_seeded_text  # noqa: PLC0415

        fill_seeded_text(tower, seed)
    else:
        path = _downloaded(source) if weights.kind == "pretrained" else Path(weights.path or "")
        load_weight_file(tower, path, text_part)
    return tower


def text_part(state: State) -> State:
    """The text tower's tensors of a checkpoint, under the tower's own names."""
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(_ASIDE)}
    if kept and all(name.startswith(_TEXT) for name in kept):
        return {name.removeprefix(_TEXT): tensor for name, tensor in kept.items()}
    return kept


def _downloaded(source: TextSource) -> Path:
    """The published checkpoint, out of open_clip's hub or its cache."""
    package = open_clip()
    tags = package.list_pretrained_tags_by_model(source.name)
    if len(tags) != 1 or source.options:
        what = f"open_clip publishes {len(tags)} sets of weights for it" if len(tags) != 1 else "its size is another"
        raise BadInput(f"weights 'pretrained' for {source}: {what}; give one with --weights file:PATH")
    try:
        return Path(package.download_pretrained(package.get_pretrained_cfg(source.name, tags[0])))
    except Exception as error:
        # huggingface_hub, urllib and httpx raise a dozen unrelated types when a hub is out of reach
        reason = " ".join(str(error).split())[:160]
        raise EnvironmentMissing(
            f"weights 'pretrained': open_clip could not load {source.name} from its hub ({type(error).__name__}: "
            f"{reason}); download the checkpoint elsewhere and give it with --weights file:PATH"
        ) from error
