"""What a sweep is asked wrongly, or loses on the way: one line, the right exit code, and nothing half done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fidelity.comparison.run_facts import RunFacts, RunKind
from fidelity.devices.job import Status
from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.models.input_contract import InputContract
from fidelity.sweeping import cluster, judge_chunk, tasks
from fidelity.sweeping.cluster import Workers, connected
from fidelity.sweeping.items import Chunk
from fidelity.sweeping.judge_chunk import make_gallery
from fidelity.sweeping.listing import list_items
from fidelity.sweeping.order import SweepOrder
from fidelity.sweeping.sweep import sweep_order

WIDTH = 16
Arrays = Mapping[str, NDArray[np.float32]]


@pytest.fixture
def order(tmp_path: Path) -> SweepOrder:
    """Five images, one of them cut."""
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:50])
    return SweepOrder(
        artefact="model.tflite",
        artefact_sha256="0" * 64,
        weights_dtype="float32",
        input="image",
        output="embedding",
        source="timm:none",
        weights="seeded",
        weights_sha256="0" * 64,
        seed=0,
        contract=InputContract(shape=(1, 3, 4, 4), mean=(0.5,) * 3, std=(0.5,) * 3),
        devices=("cpu",),
        root=str(tmp_path),
    )


def embed(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """A projection: the reference, and rounded to float32 the device."""
    matrix = np.random.default_rng(9).normal(size=(image.size, WIDTH))
    found: NDArray[np.float64] = image.reshape(1, -1).astype(np.float64) @ matrix
    return found


class Device:
    """Stands for run_on: gives each input's output but what `spoil` does to them; can end badly."""

    def __init__(self, status: Status = "ok", lost: str | None = None) -> None:
        self.status, self.lost = status, lost

    def __call__(self, order: SweepOrder, spec: str, inputs: Arrays, scratch: Path) -> tuple[RunFacts, dict[str, Any]]:
        facts = RunFacts(
            device_asked=spec,
            kind=RunKind(device="cpu", precision="fp32", weights="float32"),
            status=self.status,
            precision_asked="default",
            asked=(),
            deterministic={next(iter(inputs)): True},
            model_sha256_asked=order.artefact_sha256,
            model_sha256_had=order.artefact_sha256,
        )
        given = {name: {order.output: embed(array).astype(np.float32)} for name, array in inputs.items()}
        if self.lost is not None:
            given.pop(self.lost)
        return facts, given if self.status == "ok" else {}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(judge_chunk, "reference_model", lambda _: embed)
    monkeypatch.setattr(judge_chunk, "run_on", Device())
    return monkeypatch


def test_a_chunk_is_every_image_once_with_the_cut_one_named(
    order: SweepOrder, stand_in: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items = tuple(list_items(tmp_path))
    gallery, whole = make_gallery(order, items, "g", tmp_path)
    assert whole
    assert gallery.numbers == (0, 1, 3, 4)
    result = judge_chunk.judge_chunk(order, Chunk(number=7, items=items), gallery, "k", tmp_path)
    assert [row.number for row in result.rows] == [0, 1, 2, 3, 4]
    assert "not an image" in (result.rows[2].unreadable or "")
    assert result.rows[2].runs == {}
    assert all(row.runs["cpu"].metrics["relative_l2"] < 1e-6 for row in result.rows if not row.unreadable)
    assert all(row.runs["cpu"].kept for row in result.rows if not row.unreadable)
    assert (result.key, result.number, result.settled) == ("k", 7, True)


def test_an_output_that_does_not_come_is_a_failure_of_its_image(
    order: SweepOrder, stand_in: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items = tuple(list_items(tmp_path))
    gallery, _ = make_gallery(order, items, "g", tmp_path)
    stand_in.setattr(judge_chunk, "run_on", Device(lost="image3"))
    result = judge_chunk.judge_chunk(order, Chunk(number=0, items=items), gallery, "k", tmp_path)
    failed = {
        row.number: row.runs["cpu"].failures[0].code for row in result.rows if row.runs and row.runs["cpu"].failures
    }
    assert failed == {3: "missing_input"}
    assert result.runs["cpu"].spread is not None
    assert result.runs["cpu"].spread.count == 3


def test_a_device_that_dies_leaves_a_chunk_to_be_made_again(
    order: SweepOrder, stand_in: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items = tuple(list_items(tmp_path))
    stand_in.setattr(judge_chunk, "run_on", Device(status="crashed"))
    gallery, whole = make_gallery(order, items, "g", tmp_path)
    assert not whole
    assert np.isnan(gallery.outputs["cpu"].array()).all()
    result = judge_chunk.judge_chunk(order, Chunk(number=0, items=items), gallery, "k", tmp_path)
    assert not result.settled
    assert all(row.runs["cpu"].failures for row in result.rows if row.unreadable is None)


def test_a_worker_of_another_version_is_refused(order: SweepOrder) -> None:
    with pytest.raises(BadInput, match="another version"):
        tasks.gallery_task(order.model_dump_json(), "not this key", "[]", "g")


def test_the_key_is_of_what_decides_and_not_of_where_it_lies(order: SweepOrder) -> None:
    same = {"root": "elsewhere", "artefact": "elsewhere.tflite", "timeout_seconds": 1.0}
    assert order.model_copy(update=same).key() == order.key()
    for change in (
        {"artefact_sha256": "1" * 64},
        {"weights_sha256": "1" * 64},
        {"devices": ("gpu",)},
        {"precision": "fp32"},
    ):
        assert order.model_copy(update=change).key() != order.key(), change


def test_a_scheduler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "REACHED", 0.5)
    with (
        pytest.raises(EnvironmentMissing, match="cannot be reached"),
        connected(Workers(1, "tcp://127.0.0.1:9"), tmp_path),
    ):
        pass


def test_what_cannot_be_swept(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs the model itself"):
        sweep_order(tmp_path / "no.tflite", tmp_path, "golden:two-block", "seeded", 0, ("cpu",), "default")
    with pytest.raises(BadInput, match=r"no\.tflite"):
        sweep_order(tmp_path / "no.tflite", tmp_path, "timm:vit_tiny_patch16_224", "seeded", 0, ("cpu",), "default")


def test_rows_survive_json(order: SweepOrder, stand_in: pytest.MonkeyPatch, tmp_path: Path) -> None:
    items = tuple(list_items(tmp_path))
    gallery, _ = make_gallery(order, items, "g", tmp_path)
    result = judge_chunk.judge_chunk(order, Chunk(number=0, items=items), gallery, "k", tmp_path)
    text = result.model_dump_json()
    assert type(result).model_validate_json(text) == result
    assert json.loads(text)["number"] == 0
    assert type(gallery).model_validate_json(gallery.model_dump_json()).digest() == gallery.digest()
