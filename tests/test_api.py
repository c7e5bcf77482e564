"""`import fidelity`: the verbs as functions, with sources by name, modules, arrays and files."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from torch import nn

import fidelity
import fidelity.localisation.locate
import fidelity.prediction.prediction
from fidelity.errors import BadInput
from fidelity.gating.config import GateConfig, RunPlan
from fidelity.models.seeded import fill_seeded
from fidelity.progress import Reporter
from fidelity.testing import assert_faithful

NAME = "vit_pe_core_base_patch16_224"
OPTIONS = {"depth": 1, "embed_dim": 64, "num_heads": 2, "img_size": 32}
SOURCE = f"timm:{NAME}?" + "&".join(f"{key}={value}" for key, value in OPTIONS.items())
SHAPE = (1, 3, 32, 32)
TWO = ("astronaut", "black")
THREE = ("astronaut", "coffee", "rocket")
"""Photographs, of which a gate needs as many to tell nearest neighbours."""


def image(seed: int) -> NDArray[np.float32]:
    return np.random.Generator(np.random.Philox(seed)).uniform(-1, 1, SHAPE).astype(np.float32)


ARRAYS = {"first": image(1), "second": image(2), "third": image(3)}


@pytest.fixture(scope="module")
def module() -> nn.Module:
    model: nn.Module = timm.create_model(NAME, **OPTIONS)
    fill_seeded(model, 0)
    return model.eval()


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory, module: nn.Module) -> Path:
    path = tmp_path_factory.mktemp("api") / "own.tflite"
    manifest = fidelity.convert(module, path)
    assert manifest.provenance.source == "module:Eva"
    assert manifest.contract.inputs[0].shape == SHAPE
    return path


def test_importing_fidelity_loads_neither_torch_nor_litert() -> None:
    script = "import sys, fidelity; assert {'torch', 'ai_edge_litert', 'numpy'}.isdisjoint(sys.modules); fidelity.prove"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_verbs_stay_functions_whatever_is_imported_later() -> None:
    for name in fidelity.__all__:
        assert inspect.isfunction(getattr(fidelity, name)), name
    assert set(fidelity.__all__) <= set(dir(fidelity))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fidelity.nonsense  # noqa: B018


@pytest.mark.parametrize("name", fidelity.__all__)
def test_every_function_says_what_it_takes_gives_and_raises(name: str) -> None:
    text = inspect.getdoc(getattr(fidelity, name)) or ""
    assert "Raises" in text
    if name != "predict_model":
        documented = text.split("Args:")[1].split("Returns:")[0]
        parameters = set(inspect.signature(getattr(fidelity, name)).parameters) - {"reporter"}
        assert [each for each in parameters if each not in documented] == []


def test_a_source_and_a_module_of_the_same_weights_are_proved_alike(module: nn.Module) -> None:
    named = fidelity.prove(SOURCE, inputs=TWO)
    own = fidelity.prove(module, inputs=TWO)
    assert named.passed
    assert named.sites == own.sites
    assert (own.source, own.weights) == ("module:Eva", "given")
    assert fidelity.prove(module, inputs=ARRAYS).inputs == tuple(ARRAYS)


def test_a_run_of_arrays_gives_their_outputs_by_name(artefact: Path) -> None:
    done = fidelity.run(artefact, inputs=ARRAYS)
    assert done.result.status == "ok"
    assert set(done.outputs) == set(ARRAYS)
    assert done.outputs["first"]["embedding"].shape == (1, 1024)


def test_an_artefact_is_held_against_a_module_a_source_and_outputs(artefact: Path, module: nn.Module) -> None:
    by_module = fidelity.compare(artefact, reference=module, inputs=ARRAYS)
    by_source = fidelity.compare(artefact, reference=SOURCE, inputs=ARRAYS)
    with torch.no_grad():
        double = timm.create_model(NAME, **OPTIONS).double().eval()
        double.load_state_dict(module.state_dict())
        outputs = {name: double(torch.from_numpy(array).double()).numpy() for name, array in ARRAYS.items()}
    truth = {name: output / np.linalg.norm(output) for name, output in outputs.items()}
    by_outputs = fidelity.compare(artefact, reference=truth, inputs=ARRAYS)
    assert by_module.judgement.passed
    assert by_module.comparison == by_source.comparison
    for one, other in zip(by_module.comparison.outputs, by_outputs.comparison.outputs, strict=True):
        # two float64 evaluations differ by 1e-15, which an error of 1e-4 changes in its eleventh digit
        assert one.metrics["relative_l2"] == pytest.approx(other.metrics["relative_l2"], rel=1e-9)


def test_predictions_of_a_file_and_of_its_source_agree(artefact: Path, module: nn.Module) -> None:
    of_file = fidelity.predict(artefact, profile="mldrift-webgpu-lavapipe", reference=module, inputs=ARRAYS)
    of_model = fidelity.predict_model(SOURCE, profile="mldrift-webgpu-lavapipe", inputs=ARRAYS)
    assert of_file.comparison == of_model.comparison
    assert of_file.expected.sites == of_model.expected.sites
    assert of_file.expected.first_overflow is None


def test_locate_says_that_nothing_is_wrong_and_writes_nothing(artefact: Path, module: nn.Module) -> None:
    found = fidelity.locate(artefact, reference=module, device="cpu", inputs=ARRAYS)
    assert found.kind == "expected"  # what float16 weights cost, and no more
    assert set(found.inputs) == set(ARRAYS)


def test_a_gate_of_a_configuration_in_python(tmp_path: Path) -> None:
    runs = (RunPlan(label="cpu", device="cpu", weights_dtype="float16"),)
    report = fidelity.gate(GateConfig(source=SOURCE, only=THREE, runs=runs), reports=tmp_path)
    assert report.passed, report.headline
    assert (tmp_path / report.run.name / "index.html").is_file()


def test_nothing_is_printed_unless_a_reporter_is_given(artefact: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fidelity.run(artefact, inputs=ARRAYS)
    assert capfd.readouterr() == ("", "")
    fidelity.run(artefact, inputs=ARRAYS, reporter=Reporter())
    assert "run on cpu" in capfd.readouterr().err


def test_a_faithful_artefact_gives_its_run(artefact: Path, module: nn.Module) -> None:
    run = assert_faithful(artefact, module, inputs=ARRAYS)
    assert run.judgement.passed


def test_an_unfaithful_one_is_told_as_much_of_as_by_torch(artefact: Path, module: nn.Module) -> None:
    truth = {name: np.asarray(output["embedding"], np.float64) for name, output in run_of(artefact).items()}
    truth["second"][0, 7] += 0.25
    with pytest.raises(AssertionError) as caught:
        assert_faithful(artefact, truth, inputs=ARRAYS)
    text = str(caught.value)
    lines = text.splitlines()
    assert lines[0] == "own.tflite on cpu (fp32) is not faithful to the given outputs"
    assert "Greatest absolute difference: 0.25 at input 'second', index (0, 7)" in text
    assert any(line.startswith("relative_l2: 0.2") and "up to 0.004472 allowed" in line for line in lines)
    assert "Output 'embedding', 3 of 3 inputs compared" in lines
    assert f"Where it begins: fidelity locate {artefact} --device cpu" in lines


def run_of(artefact: Path) -> dict[str, dict[str, NDArray[np.float32]]]:
    return fidelity.run(artefact, inputs=ARRAYS).outputs


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ("astronaut", "expected a list of names"),
        ({"x": np.zeros((1, 3, 31, 32), np.float32)}, r"float32 \(1, 3, 31, 32\), the model takes"),
        ({"x": np.zeros(SHAPE)}, "float64"),
        ({"x": np.full(SHAPE, np.nan, np.float32)}, "holds NaN or Inf"),
        ({}, "no inputs"),
        (("nobody",), "nobody"),
    ],
)
def test_inputs_that_do_not_fit(artefact: Path, inputs: object, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        fidelity.run(artefact, inputs=inputs)  # type: ignore[arg-type]


def test_modules_that_are_not_ready(module: nn.Module) -> None:
    training = timm.create_model(NAME, **OPTIONS)
    with pytest.raises(BadInput, match=r"training mode: call eval\(\)"):
        fidelity.prove(training.train(), inputs=ARRAYS)
    with pytest.raises(BadInput, match="float16 on cpu"):
        fidelity.prove(training.eval().half(), inputs=ARRAYS)
    with pytest.raises(BadInput, match=r"expected \[1, 3, H, W\]"):
        fidelity.prove(nn.Identity().eval(), inputs={"x": np.zeros((1, 4), np.float32)})


def test_a_reference_of_other_weights_or_another_size(artefact: Path) -> None:
    with pytest.raises(BadInput, match="other weights or seed"):
        fidelity.compare(artefact, reference=SOURCE, inputs=ARRAYS, seed=1)
    with pytest.raises(BadInput, match="takes"):
        fidelity.compare(artefact, reference=SOURCE.replace("img_size=32", "img_size=48"), inputs=ARRAYS)
    with pytest.raises(BadInput, match="has no reference for it"):
        fidelity.compare(artefact, reference={"first": np.ones((1, 1024))}, inputs=ARRAYS)
    with pytest.raises(BadInput, match="float64"):
        fidelity.compare(artefact, reference={"first": np.ones((1, 1024), np.float32)}, inputs=ARRAYS)
