"""The function that is converted: the source model followed by L2 normalisation.

PE-Core's image embedding is used through dot products, so the published graph ends with the
normalisation, inside; the pixel scaling stays outside, with the caller (card, Input and Output).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional


class ImageTower(nn.Module):
    """[N, 3, H, W] float images in the input contract's range to [N, D] embeddings of norm 1."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        embedding = cast("torch.Tensor", self.model(image))
        # not x / sqrt(sum(x^2)) as it stands: the converter fuses that into L2_NORMALIZATION,
        # which the GPU delegate refuses (measured, ai-edge-litert 2.3.0)
        return functional.normalize(embedding, dim=-1)
