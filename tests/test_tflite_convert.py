"""Conversion by the real converter: contract, determinism, float16 weights, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_tflite_builder import GraphBuilder, add_and_scale, schema
from test_tflite_graph import differences, plain_interpreter

from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.tflite import convert as convert_module
from fidelity.tflite.audit import audit
from fidelity.tflite.convert import Conversion, Limits, cast_weights, convert
from fidelity.tflite.graph import read_graph
from fidelity.tflite.worker_process import Usage, run_worker

torch = pytest.importorskip("torch")
pytest.importorskip("litert_torch")

HALF_ULP = 2.0**-11  # float16 has 11 significant bits: rounding to nearest changes a weight by no more


class Small(torch.nn.Module):
    """[1, 5, 8] tokens through a LayerNorm and a linear map: what every artefact here is made of."""

    def __init__(self, largest: float = 1.0) -> None:
        super().__init__()
        self.norm, self.map = torch.nn.LayerNorm(8), torch.nn.Linear(8, 4)
        weight = torch.arange(32.0).reshape(4, 8).sin() * largest
        self.map.weight.data, self.map.bias.data = weight, torch.arange(4.0)

    def forward(self, tokens: Any) -> Any:
        return self.map(self.norm(tokens))


def small(largest: float = 1.0) -> Any:
    return Small(largest).eval()


SAMPLE = {"tokens": torch.zeros(1, 5, 8)}

# the same model, converted by a process of its own with another hash order and thread count
OTHER_PROCESS = """
import sys; sys.path.insert(0, sys.argv[1])
import torch; torch.set_num_threads(1)
from pathlib import Path
from test_tflite_convert import SAMPLE, convert, small
print(convert(small(), SAMPLE, Path(sys.argv[2]), outputs=("embedding",)).sha256)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Conversion, list[str]]:
    """A converted artefact, what was reported of it, and the stages that were told."""
    path = tmp_path_factory.mktemp("convert") / "small.tflite"
    stages: list[str] = []
    conversion = convert(small(), SAMPLE, path, outputs=("embedding",), on_stage=stages.append)
    return path, conversion, stages


def run(path: Path, tokens: np.ndarray) -> np.ndarray:
    runner = plain_interpreter(path.read_bytes()).get_signature_runner("serving_default")
    return np.asarray(runner(tokens=tokens)["embedding"])


def test_the_artefact_has_the_contract_and_the_values(made: tuple[Path, Conversion, list[str]]) -> None:
    path, conversion, stages = made
    graph = read_graph(path)
    assert differences(graph, plain_interpreter(path.read_bytes())) == []
    ((name, index),) = graph.signature().inputs
    assert (name, graph.main.tensors[index].shape) == ("tokens", (1, 5, 8))
    assert (conversion.artefact, conversion.file_size) == (path.name, path.stat().st_size)
    assert conversion.peak_memory_bytes > 100 << 20  # the worker has torch in it
    assert stages == ["trace", "convert"]
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    tokens = np.random.Generator(np.random.Philox(key=5)).standard_normal((1, 5, 8), dtype=np.float32)
    expected = small()(torch.from_numpy(tokens)).detach().numpy()
    # 8-term sums of values below 4 in float32: 8 * 4 * 2^-24 = 2e-6, with room for LayerNorm's two passes
    np.testing.assert_allclose(run(path, tokens), expected, rtol=0, atol=2e-5)


def test_another_process_makes_the_same_bytes(made: tuple[Path, Conversion, list[str]], tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    result = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(Path(__file__).parent), str(other)],
        env={"PYTHONHASHSEED": "4711", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split() == [made[1].sha256]  # and nothing else was printed
    assert other.read_bytes() == made[0].read_bytes()


def test_float16_weights_round_to_nearest(made: tuple[Path, Conversion, list[str]], tmp_path: Path) -> None:
    path, half = made[0], tmp_path / "half.tflite"
    conversion = cast_weights(path, half)
    assert conversion.weights_dtype == "float16"
    graph = read_graph(half)
    (weight,) = [t for t in graph.main.tensors if t.is_constant and t.dtype == "float16"]
    expected = small().map.weight.detach().numpy()
    np.testing.assert_array_equal(graph.constant(weight), expected.astype(np.float16))
    error = np.abs(graph.constant(weight).astype(np.float64) - expected) / np.abs(expected).clip(2.0**-14)
    assert error.max() <= HALF_ULP
    assert graph.census()["DEQUANTIZE"] == 1
    assert cast_weights(path, tmp_path / "again.tflite").sha256 == conversion.sha256


def test_converting_with_float16_weights_equals_casting_afterwards(
    made: tuple[Path, Conversion, list[str]], tmp_path: Path
) -> None:
    stages: list[str] = []
    direct = convert(small(), SAMPLE, tmp_path / "direct.tflite", weights_dtype="float16", on_stage=stages.append)
    assert direct.sha256 == cast_weights(made[0], tmp_path / "cast.tflite").sha256
    assert stages == ["trace", "convert", "cast"]


def test_an_unscaled_layernorm_is_found_in_what_the_converter_makes(
    made: tuple[Path, Conversion, list[str]],
) -> None:
    assert audit(made[0]).counts == {"unscaled_variance": 1}


def test_a_weight_that_float16_cannot_hold_is_refused(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.tensor("x", (1, 4))
    graph.constant("weight", [[1.0, 2.0, 3.0, 7e4]])
    graph.tensor("y", (1, 1))
    graph.op("FULLY_CONNECTED", ["x", "weight", ""], "y", schema.FullyConnectedOptionsT())
    source = tmp_path / "large.tflite"
    source.write_bytes(graph.build(["x"], ["y"]))
    with pytest.raises(BadInput, match=r"weight 'weight.*' passes 65504"):
        cast_weights(source, tmp_path / "half.tflite")
    assert list(tmp_path.iterdir()) == [source]


def test_an_artefact_without_weights_to_cast_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "plain.tflite"
    source.write_bytes(add_and_scale())
    with pytest.raises(BadInput, match="no weights that can be cast"):
        cast_weights(source, tmp_path / "half.tflite")
    assert list(tmp_path.iterdir()) == [source]


class Branching(torch.nn.Module):
    """Depends on a value, which no tracer can follow."""

    def forward(self, tokens: Any) -> Any:
        return tokens if tokens.sum() > 0 else -tokens


@pytest.mark.parametrize(
    ("module", "outputs", "says"),
    [
        (small().train(), ("y",), "training mode"),
        (small().double(), ("y",), r"norm\.weight is torch\.float64"),
        (small().half(), ("y",), r"norm\.weight is torch\.float16"),
        (small(float("nan")), ("y",), r"map\.weight has values that are not finite"),
        (small(float("inf")), ("y",), r"map\.weight has values that are not finite"),
        (Branching().eval(), ("y",), "cannot be traced"),
        (small(), ("y", "z"), "the model gives 1 outputs, 2 were named"),
    ],
)
def test_what_cannot_be_converted_is_bad_input(
    module: Any, outputs: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=says) as error:
        convert(module, SAMPLE, tmp_path / "model.tflite", outputs=outputs)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_place_of_the_artefact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a folder"):
        convert(small(), SAMPLE, tmp_path)


def test_too_little_disk_is_told_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(convert_module.shutil, "disk_usage", lambda _: usage(1 << 30, 1 << 30, 1 << 20))
    with pytest.raises(EnvironmentMissing, match=r"needs 8 MiB of disk and 1 MiB are free"):
        convert(small(), SAMPLE, tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentMissing, match=r"model\.tflite: cannot be written"):
        convert(small(), SAMPLE, tmp_path / "file" / "model.tflite")


def test_a_missing_extra_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert_module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentMissing, match=r"pip install 'fidelity\[convert\]'"):
        convert(small(), SAMPLE, tmp_path / "model.tflite")


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(seconds=0.2), "stopped at its limit of 0.2 seconds"),
        (Limits(memory_bytes=20 << 20), "its limit is 20 MiB"),
    ],
)
def test_a_worker_past_its_limits_is_stopped(limits: Limits, says: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match=says):
        convert(small(), SAMPLE, tmp_path / "model.tflite", limits=limits)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_under_the_worker_is_told(tmp_path: Path) -> None:
    """json.tool writing to /dev/full stands for the converter: the same errno, the same words."""
    (tmp_path / "in.json").write_text("{}")
    arguments = [str(tmp_path / "in.json"), "/dev/full"]
    with pytest.raises(EnvironmentMissing, match="model: no space left on device; free some"):
        run_worker("json.tool", arguments, tmp_path / "log", Limits(), "model")


def test_a_worker_that_fails_is_told_by_its_last_line(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text("{]")
    with pytest.raises(EnvironmentMissing, match="model: the converter ended with code 1: Expecting"):
        run_worker("json.tool", [str(tmp_path / "in.json")], tmp_path / "log", Limits(), "model")
    assert (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("inputs", "outputs", "says"),
    [
        ({"x": torch.zeros(2, 3)}, ("y",), None),
        ({"x": torch.zeros(1, 3)}, ("y",), "the converter made the inputs"),
        ({"z": torch.zeros(2, 3)}, ("y",), "the converter made the inputs"),
        ({"x": torch.zeros(2, 3, dtype=torch.int32)}, ("y",), "the converter made the inputs"),
        ({"x": torch.zeros(2, 3)}, ("out",), "the converter made the outputs y, asked for were out"),
    ],
)
def test_an_artefact_with_another_contract_than_asked_for_is_refused(
    inputs: dict[str, Any],
    outputs: tuple[str, ...],
    says: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A converter that makes add_and_scale, x [2, 3] float32 to y, whatever it is given."""

    def other_converter(_: str, arguments: Sequence[str], *__: Any) -> Usage:
        Path(arguments[-1]).write_bytes(add_and_scale())
        return Usage(1.0, 1)

    monkeypatch.setattr(convert_module, "run_worker", other_converter)
    path = tmp_path / "model.tflite"
    if says is None:
        convert(torch.nn.Identity().eval(), inputs, path, outputs=outputs)
        assert path.exists()
    else:
        with pytest.raises(BadInput, match=says):
            convert(torch.nn.Identity().eval(), inputs, path, outputs=outputs)
        assert not path.exists()
