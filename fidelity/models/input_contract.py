"""What a model expects of its caller: shape, layout, colour order, range and scaling.

The scaling is not in the graph, so it is part of the contract that is stored in the manifest;
getting it wrong on the device is as bad as a wrong op.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fidelity.errors import BadInput
from fidelity.record import Record

if TYPE_CHECKING:
    from torch import nn


class Scaling(Record):
    """How a caller makes values of pixels: (pixel / 255 - mean) / std per channel, red first."""

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)


class InputContract(Record):
    """One image input: NCHW float32 RGB, value = (pixel / 255 - mean) / std per channel."""

    name: str = "image"
    shape: tuple[int, int, int, int]
    dtype: str = "float32"
    layout: str = "NCHW"
    colour: str = "RGB"
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def scaling(self) -> Scaling:
        """What the manifest keeps for whoever has the artefact alone."""
        return Scaling(mean=self.mean, std=self.std)

    def scale(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [H, W, 3] RGB pixels of the right size as the float32 [1, 3, H, W] input.

        Computed in float64 and rounded once, so that it cannot depend on the order of operations.
        """
        if pixels.dtype != np.uint8 or pixels.shape != (*self.shape[2:], 3):
            raise BadInput(
                f"image of dtype {pixels.dtype} and shape {pixels.shape}: the model takes uint8 {(*self.shape[2:], 3)}"
            )
        scaled = (pixels.astype(np.float64) / 255 - np.array(self.mean)) / np.array(self.std)
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None], dtype=np.float32)

    def photograph(self, image: Image.Image) -> NDArray[np.float32]:
        """Any photograph: RGB, centre square, bicubic to the model's size, then scaled."""
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        square = image.convert("RGB").crop((left, top, left + side, top + side))
        height, width = self.shape[2:]
        resized = square.resize((width, height), Image.Resampling.BICUBIC)
        return self.scale(np.asarray(resized, dtype=np.uint8))


def input_contract(model: nn.Module) -> InputContract:
    """The contract of a timm model: its image size as built, its published mean and std.

    Raises BadInput for a model that does not take one RGB image.
    """
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    scaling = Scaling()
    embed = getattr(model, "patch_embed", None)
    size = getattr(embed, "img_size", None) or tuple(config.get("input_size", ())[1:])
    if len(size) != 2 or getattr(model, "in_chans", 3) != 3:
        raise BadInput(f"model {type(model).__name__}: not a model of one RGB image of a known size")
    mean, std = tuple(config.get("mean", scaling.mean)), tuple(config.get("std", scaling.std))
    return InputContract(shape=(1, 3, int(size[0]), int(size[1])), mean=mean, std=std)
