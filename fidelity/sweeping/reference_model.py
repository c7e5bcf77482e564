"""The unrewritten tower in float64, built once a process and used for every chunk that comes to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fidelity.errors import BadInput
from fidelity.models.source import Source
from fidelity.models.weights import Weights, build_model, weights_sha256
from fidelity.sweeping.order import SweepOrder

Embed = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""One image, float32 [1, 3, H, W], to its embedding, float64 [1, D]."""


def reference_model(order: SweepOrder) -> Embed:
    """The order's reference as a function. Raises BadInput when this host's weights are others than the order's.

    One image at a time, on one thread: how a batch is made up or split must not show in the last bit.
    """
    return _built(order.source, order.weights, order.weights_sha256, order.seed)


@lru_cache(maxsize=1)
def _built(source: str, weights: str, expected: str, seed: int) -> Embed:
    import torch  # noqa: PLC0415 - an extra: the core must import without it

    from fidelity.models.tower import ImageTower  # noqa: PLC0415

    torch.set_num_threads(1)
    model = build_model(Source.parse(source), Weights.parse(weights), seed)
    if (had := weights_sha256(model)) != expected:
        raise BadInput(f"{source}: weights {had[:16]}... on this host, {expected[:16]}... where the sweep was started")
    tower = ImageTower(model).double().eval()

    def embed(image: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.inference_mode():
            found: NDArray[np.float64] = tower(torch.from_numpy(image).double()).numpy()
            return found

    return embed
