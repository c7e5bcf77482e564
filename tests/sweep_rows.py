"""Rows and chunks of a sweep without a model: the figures that a faithful device would have, but for what is asked."""

from __future__ import annotations

import hashlib

import numpy as np

from fidelity.comparison.metrics import OUTPUT_METRICS
from fidelity.comparison.run_facts import RunFacts, RunKind
from fidelity.models.input_contract import InputContract
from fidelity.sweeping.order import SweepOrder
from fidelity.sweeping.rows import ChunkResult, ChunkRun, ImageRow, ImageRun
from fidelity.sweeping.spread import Spread, spread_of

WIDTH = 8


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def order(**changes: object) -> SweepOrder:
    fields = {
        "artefact": "model.tflite",
        "artefact_sha256": sha256("model"),
        "weights_dtype": "float32",
        "input": "image",
        "output": "embedding",
        "source": "timm:none",
        "weights": "seeded",
        "weights_sha256": sha256("weights"),
        "seed": 0,
        "contract": InputContract(shape=(1, 3, 4, 4), mean=(0.5,) * 3, std=(0.5,) * 3),
        "devices": ("cpu",),
        "root": ".",
    }
    return SweepOrder.model_validate({**fields, **changes})


def faithful(**changes: float) -> ImageRun:
    """Every metric at its ideal figure but for `changes`."""
    metrics = {name: metric.scale.ideal for name, metric in OUTPUT_METRICS.items()}
    metrics |= {"centred_correlation": 1.0, "misplacement": -0.5, "nearest_neighbour_regret": 0.0} | changes
    return ImageRun(metrics=metrics, kept=metrics["nearest_neighbour_regret"] == 0)


def row(number: int, run: ImageRun | None = None, content: str | None = None, output: str | None = None) -> ImageRow:
    told = (run or faithful()).model_copy(update={"output_sha256": sha256(output or f"output {number}")})
    digest = sha256(content or f"content {number}")
    return ImageRow(
        number=number,
        name=f"{number:03d}.png",
        bytes=1,
        sha256=digest,
        reference_sha256=sha256(digest),
        runs={"cpu": told},
    )


def unreadable(number: int) -> ImageRow:
    return ImageRow(number=number, name=f"{number:03d}.png", bytes=1, sha256=sha256(f"{number}"), unreadable="cut")


def facts(**changes: object) -> RunFacts:
    fields = {
        "device_asked": "cpu",
        "kind": RunKind(device="cpu", precision="fp32", weights="float32"),
        "status": "ok",
        "precision_asked": "default",
        "asked": (),
        "deterministic": {"image0": True},
        "model_sha256_asked": sha256("model"),
        "model_sha256_had": sha256("model"),
    }
    return RunFacts.model_validate({**fields, **changes})


def vectors(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=WIDTH)


def spread(numbers: list[int]) -> Spread | None:
    return spread_of([(vectors(number), vectors(number)) for number in numbers], np.zeros(WIDTH))


def chunk(number: int, rows: list[ImageRow], key: str = "key", **told: object) -> ChunkResult:
    read = [each.number for each in rows if each.unreadable is None]
    run = ChunkRun(facts=facts(**told), spread=spread(read)) if read else ChunkRun()
    return ChunkResult(key=key, number=number, rows=tuple(rows), runs={"cpu": run})
