"""Four blocks of timm, one for each rewrite, in one model: converted once, run together, each judged alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from timm.layers import AttentionPoolLatent, RotaryEmbeddingCat
from timm.layers.attention import Attention, AttentionRope
from torch import nn

from fidelity.models.counter_random import normal
from fidelity.rewrites.apply import RewrittenModel, apply_rewrites
from fidelity.rewrites.catalogue import chosen
from fidelity.tflite.convert import convert

HEADS, DEPTH, GRID = 4, 16, (4, 4)
WIDTH, TOKENS = HEADS * DEPTH, 1 + GRID[0] * GRID[1]
NAMES = ("split_qkv", "rotate_half", "pool_one_query", "safe_layernorm")
"""The rewrites, and the outputs: each is of the block that has the rewrite."""

TERMS = {
    "split_qkv": WIDTH + DEPTH + TOKENS + TOKENS + WIDTH,
    "rotate_half": WIDTH + 2 + DEPTH + TOKENS + TOKENS + WIDTH,
    "pool_one_query": 2 * WIDTH + DEPTH + TOKENS + TOKENS + WIDTH + WIDTH + 2 * WIDTH + WIDTH,
    "safe_layernorm": 2 * WIDTH,
}
"""Terms that follow each other in the sums of a block: projections, scores, the softmax's sum, the mixture of
values, the projection back (rotation: two; the pool: keys and values, a LayerNorm and an MLP behind it)."""

LARGE = 150.0
"""The LayerNorm's input: deviations of 150, greatest about 500, whose squares pass 65,504."""


class Blocks(nn.Module):
    """A plain attention, a rotary one, an attention pool and a LayerNorm; the last has an input of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rope = RotaryEmbeddingCat(DEPTH, in_pixels=False, feat_shape=list(GRID))
        pool = {"num_heads": HEADS, "feat_size": TOKENS, "norm_layer": nn.LayerNorm, "mlp_ratio": 2.0}
        rotary = AttentionRope(WIDTH, HEADS, qkv_bias=True, num_prefix_tokens=1)
        self.blocks = nn.ModuleList([rotary])  # where rotate_half looks for what is handed the rotary embedding
        self.plain = Attention(WIDTH, HEADS, qkv_bias=True)
        self.pool = AttentionPoolLatent(WIDTH, **pool)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-5)

    def forward(self, tokens: torch.Tensor, large: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rotary = self.blocks[0](tokens, rope=self.rope.get_embed())
        return self.plain(tokens), rotary, self.pool(tokens), self.norm(large)


@dataclass(frozen=True)
class Made:
    """The artefact of the rewritten blocks, inputs, and what the *unrewritten* blocks give in float64."""

    path: Path
    inputs: dict[str, np.ndarray]
    truth: dict[str, np.ndarray]
    taken: dict[str, tuple[str, ...]]


def made(folder: Path, seed: int) -> Made:
    """Weights of unit gain and inputs from a seed; every rewrite of the card applied and converted."""
    blocks = _filled(Blocks().eval(), seed)
    shape = (1, TOKENS, WIDTH)
    # numbers that float16 holds, so that entering the device rounds nothing
    inputs = {
        name: (scale * normal(seed, name, shape)).astype(np.float16).astype(np.float32)
        for name, scale in (("tokens", 1.0), ("large", LARGE))
    }
    samples = {name: torch.from_numpy(value.copy()) for name, value in inputs.items()}
    rewritten: RewrittenModel = apply_rewrites(blocks, chosen("all"))
    path = folder / "blocks.tflite"
    convert(rewritten.model, samples, path, outputs=NAMES)
    with torch.no_grad():
        outputs = blocks.double()(*(sample.double() for sample in samples.values()))
    truth = {name: output.numpy() for name, output in zip(NAMES, outputs, strict=True)}
    return Made(path, inputs, truth, {name: rewritten.taken(name) for name in NAMES})


def _filled(model: nn.Module, seed: int) -> nn.Module:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.from_numpy(normal(seed, name, tuple(parameter.shape)).copy())
            if parameter.ndim > 1:
                values /= parameter.shape[-1] ** 0.5
            elif "norm" in name and name.endswith("weight"):
                values = 1 + 0.3 * values
            parameter.copy_(values)
    return model
