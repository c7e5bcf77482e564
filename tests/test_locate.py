"""Locate on devices that do one thing wrong: the operator, the kind of failure, and honesty where nothing can be told.

A device here is the emulator under the measured profile, with one operator's result spoilt wherever
that operator is run: in the whole graph, with taps, in a prefix, alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fidelity.arithmetic.observe import Observer, Part
from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.errors import BadInput
from fidelity.localisation.asked import Good, Where
from fidelity.localisation.culprit import first_wrong
from fidelity.localisation.cures import CURES
from fidelity.localisation.locate import locate
from fidelity.localisation.noise import error_of
from fidelity.localisation.on_device import Arrays, Ran, RunModel
from fidelity.localisation.records import Located
from fidelity.localisation.reference import Reference
from fidelity.tflite.edit import TAP
from fidelity.tflite.emulation.emulate import Emulator
from fidelity.tflite.graph import read_graph
from fidelity.tflite.structure import Graph, Operator

sys.path.insert(0, str(Path(__file__).parent))
from test_tflite_builder import GraphBuilder, schema

MEASURED = load_profile("mldrift-webgpu-lavapipe")
WIDTH, ROWS, DEPTH = 32, 4, 4
Spoil = Callable[[np.ndarray], None]
X = np.random.Generator(np.random.Philox(3)).standard_normal((ROWS, WIDTH)).astype(np.float32)


def network(gain: float = 1.0, scale: tuple[int, ...] = (WIDTH,), last: float = 1.0) -> bytes:
    """Four residual layers of a product, a GELU and a scale; a large gain makes the last square overflow fp16.
    What the gain does is undone at the end, unless `last` is another number than 1."""
    draw = np.random.Generator(np.random.Philox(5))
    graph = GraphBuilder()
    graph.tensor("x", (ROWS, WIDTH))
    stream = "x"
    for layer in range(DEPTH):
        names = [f"{kind}{layer}" for kind in ("product", "gelu", "scaled", "sum")]
        for name in names:
            graph.tensor(name, (ROWS, WIDTH))
        graph.constant(f"w{layer}", draw.standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH))
        graph.constant(f"s{layer}", draw.uniform(0.5, 1.5, scale))
        graph.op("FULLY_CONNECTED", [stream, f"w{layer}", ""], names[0], schema.FullyConnectedOptionsT())
        graph.op("GELU", [names[0]], names[1], schema.GeluOptionsT())
        graph.op("MUL", [names[1], f"s{layer}"], names[2], schema.MulOptionsT())
        graph.op("ADD", [stream, names[2]], names[3], schema.AddOptionsT())
        stream = names[3]
    for name in ("large", "square", "y"):
        graph.tensor(name, (ROWS, WIDTH))
    graph.constant("gain", np.full(WIDTH, gain))
    graph.constant("back", np.full(WIDTH, last / gain**2))
    graph.op("MUL", [stream, "gain"], "large", schema.MulOptionsT())
    graph.op("MUL", ["large", "large"], "square", schema.MulOptionsT())
    graph.op("MUL", ["square", "back"], "y", schema.MulOptionsT())
    return graph.build(["x"], ["y"])


def graph_of(model: bytes, folder: Path) -> Graph:
    path = folder / f"{len(list(folder.iterdir()))}.tflite"
    path.write_bytes(model)
    return read_graph(path)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return graph_of(network(), tmp_path)


def device(
    folder: Path,
    profile: Profile = MEASURED,
    tensor: str = "",
    spoil: Spoil | None = None,
    when: Callable[[Graph], bool] = lambda _: True,
) -> RunModel:
    """The emulator; the result of the operator that writes `tensor` is spoilt in the models for which `when` holds."""

    def run(model: bytes, inputs: Arrays) -> Ran:
        graph = graph_of(model, folder)
        faulty = spoil is not None and when(graph)

        def watch(op: Operator) -> Observer:
            mine = faulty and graph.main.tensors[op.outputs[0]].name == tensor

            def observe(part: Part, values: np.ndarray) -> None:
                if mine and part == "result" and spoil is not None:
                    spoil(values)

            return observe

        return Ran(Emulator(graph, profile).run(inputs, watch).outputs, resident=True)

    return run


def cpu(folder: Path, **options: object) -> RunModel:
    return device(folder, load_profile("ieee-fp32"), **options)  # type: ignore[arg-type]


def halved(values: np.ndarray) -> None:
    values *= np.float32(0.5)


def negated(values: np.ndarray) -> None:
    values *= np.float32(-1)


def shifted(values: np.ndarray) -> None:
    values[:] = np.roll(values, 1, axis=0)


def one_dead(values: np.ndarray) -> None:
    values[..., 3] = 0


def one_nan(values: np.ndarray) -> None:
    values.reshape(-1)[7] = np.nan


FAULTS = {each.__name__: each for each in (halved, negated, shifted, one_dead, one_nan)}
SITES = ("product0", "gelu1", "scaled1", "sum2", "product3", "gelu3", "large", "square")


GOOD = Good(device=0.01414, cpu=0.004472)


def located(
    graph: Graph,
    run: RunModel,
    folder: Path,
    reference: Reference | None = None,
    profile: Profile | None = MEASURED,
    host: RunModel | None = None,
) -> Located:
    where = Where("a device", run, host or cpu(folder), profile_of=lambda _: profile)
    return locate(graph, {"x": X}, where, GOOD, reference, "noise").located


PLANTED = [(tensor, fault) for tensor in SITES for fault in FAULTS if (tensor, fault) != ("large", "negated")]
"""The sign of what is squared next shows nowhere."""


@pytest.mark.parametrize(("tensor", "fault"), PLANTED)
def test_an_operator_that_is_wrong_wherever_it_runs_is_a_kernel(
    graph: Graph, tmp_path: Path, tensor: str, fault: str
) -> None:
    found = located(graph, device(tmp_path, tensor=tensor, spoil=FAULTS[fault]), tmp_path)
    assert (found.kind, found.culprit and graph.main.tensors[found.culprit.tensor].name) == ("kernel", tensor)
    assert found.device_runs == 3  # whole, traced, alone
    assert found.cure == CURES["kernel"]


@pytest.mark.parametrize("tensor", SITES)
def test_an_operator_that_is_right_alone_is_layout_or_fusion(graph: Graph, tmp_path: Path, tensor: str) -> None:
    run = device(tmp_path, tensor=tensor, spoil=shifted, when=lambda model: len(model.main.operators) > 3)
    found = located(graph, run, tmp_path)
    assert (found.kind, found.culprit and graph.main.tensors[found.culprit.tensor].name) == ("layout-or-fusion", tensor)


def test_where_taps_change_the_result_prefixes_find_it(graph: Graph, tmp_path: Path) -> None:
    run = device(tmp_path, tensor="gelu2", spoil=negated, when=lambda model: len(model.main.outputs) == 1)
    found = located(graph, run, tmp_path)
    assert found.trace is not None
    assert found.trace.changed
    assert found.culprit is not None
    assert graph.main.tensors[found.culprit.tensor].name == "gelu2"
    assert found.device_runs <= 3 + int(np.ceil(np.log2(len(graph.main.operators)))) + 4


def test_a_tap_that_lies_is_told_and_the_fault_behind_it_found(graph: Graph, tmp_path: Path) -> None:
    """As LiteRT 2.3.0 does with what it takes into a product's weights: the further output is never written."""
    honest = device(tmp_path, tensor="gelu3", spoil=negated)
    lies = next(tensor.index for tensor in graph.main.tensors if tensor.name == "gelu1")

    def run(model: bytes, inputs: Arrays) -> Ran:
        outputs = honest(model, inputs).outputs
        if len(outputs) > 1 and f"{TAP}{lies}" in outputs:
            outputs[f"{TAP}{lies}"] = outputs[f"{TAP}{lies}"] * np.float32(1e30)
        return Ran(outputs, resident=True)

    found = located(graph, run, tmp_path)
    assert found.culprit is not None
    assert graph.main.tensors[found.culprit.tensor].name == "gelu3"
    assert any("op 5 GELU" in line and "the tap lies" in line for line in found.evidence), found.evidence


def test_a_device_that_does_what_its_arithmetic_must_is_expected(graph: Graph, tmp_path: Path) -> None:
    found = located(graph, device(tmp_path), tmp_path)
    assert (found.kind, found.culprit, found.device_runs) == ("expected", None, 1)
    assert found.errors.actual == found.errors.expected


def test_an_overflow_that_the_arithmetic_must_have_is_named_with_its_site(tmp_path: Path) -> None:
    graph = graph_of(network(gain=400.0), tmp_path)
    found = located(graph, device(tmp_path), tmp_path)
    assert found.kind == "overflow"
    assert "MUL result" in found.evidence[0]
    assert "values are not finite first there" in found.evidence[0]
    assert "safe_layernorm" in found.cure


def test_a_graph_that_is_wrong_on_the_cpu_too_is_the_converters(graph: Graph, tmp_path: Path) -> None:
    right = Emulator(graph, load_profile("ieee-fp32")).run({"x": X}).outputs
    other = graph_of(network(gain=2.0, last=1.5), tmp_path)
    found = located(other, device(tmp_path), tmp_path, Reference("golden:right", right))
    assert found.kind == "converter"
    assert found.errors.cpu > 0.1
    assert "outputs only" in found.evidence[1]


def test_a_cpu_that_is_wrong_on_a_right_artefact_does_not_accuse_the_converter(graph: Graph, tmp_path: Path) -> None:
    right = Emulator(graph, load_profile("ieee-fp32")).run({"x": X}).outputs
    wrong = cpu(tmp_path, tensor="sum1", spoil=halved)
    found = located(graph, device(tmp_path), tmp_path, Reference("golden:right", right), host=wrong)
    assert found.kind == "expected"
    assert any("its kernels are wrong too" in line for line in found.evidence)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_cpu_itself_is_located_in_float32(graph: Graph, tmp_path: Path, fault: str) -> None:
    wrong = cpu(tmp_path, tensor="gelu1", spoil=FAULTS[fault])
    found = located(graph, wrong, tmp_path, profile=load_profile("ieee-fp32"), host=wrong)
    assert (found.kind, found.culprit and graph.main.tensors[found.culprit.tensor].name) == ("kernel", "gelu1")


def test_what_the_device_did_not_compute_is_fallback(graph: Graph, tmp_path: Path) -> None:
    def partly(model: bytes, inputs: Arrays) -> Ran:
        return Ran(device(tmp_path)(model, inputs).outputs, resident=False)

    def gone(model: bytes, inputs: Arrays) -> Ran:
        return Ran({}, False, "device_lost: the phone is gone")

    for run, words in ((cpu(tmp_path), "bit for bit"), (partly, "not every node"), (gone, "the phone is gone")):
        found = located(graph, run, tmp_path)
        assert found.kind == "fallback"
        assert words in found.evidence[0]


def test_a_fault_below_the_noise_is_not_guessed(graph: Graph, tmp_path: Path) -> None:
    def hardly(values: np.ndarray) -> None:
        values *= np.float32(1 + 2.0**-13)

    found = located(graph, device(tmp_path, tensor="gelu1", spoil=hardly), tmp_path)
    assert found.culprit is None
    assert found.kind == "expected"


def test_taps_that_a_device_refuses_are_asked_for_in_halves(graph: Graph, tmp_path: Path) -> None:
    honest = device(tmp_path, tensor="gelu2", spoil=negated)

    def few(model: bytes, inputs: Arrays) -> Ran:
        if len(graph_of(model, tmp_path).main.outputs) > 6:
            return Ran({}, False, "refused: too many outputs")
        return honest(model, inputs)

    found = located(graph, few, tmp_path)
    assert found.culprit is not None
    assert graph.main.tensors[found.culprit.tensor].name == "gelu2"
    assert found.trace is not None
    assert found.trace.runs > 2
    assert found.trace.refused == {}


def test_without_a_measured_profile_storage_in_fp16_stands_for_it(graph: Graph, tmp_path: Path) -> None:
    run = device(tmp_path, tensor="product1", spoil=shifted)
    found = located(graph, run, tmp_path, profile=None)
    assert found.trace is not None
    assert found.trace.stands_in
    assert found.culprit is not None
    assert graph.main.tensors[found.culprit.tensor].name == "product1"


def test_an_operation_that_the_emulator_lacks_is_named(tmp_path: Path) -> None:
    builder = GraphBuilder()
    for name in ("x", "mid", "y"):
        builder.tensor(name, (ROWS, WIDTH))
    builder.op("ELU", ["x"], "mid")
    builder.op("ADD", ["mid", "mid"], "y", schema.AddOptionsT())
    with pytest.raises(BadInput, match="ELU"):
        located(graph_of(builder.build(["x"], ["y"]), tmp_path), device(tmp_path), tmp_path)


@pytest.mark.parametrize("first", range(12))
def test_bisection_finds_the_first_of_a_monotone_error(first: int) -> None:
    tensors = tuple(range(100, 112))
    found, looked = first_wrong(tensors, lambda tensor: tensor >= tensors[first])
    assert found == tensors[first]
    assert looked <= int(np.ceil(np.log2(len(tensors)))) + 4


@pytest.mark.parametrize("bad", [{3}, {3, 4, 11}, {0, 1}, set()])
def test_bisection_says_nothing_of_an_error_that_comes_and_goes(bad: set[int]) -> None:
    found, _ = first_wrong(tuple(range(12)), lambda tensor: tensor in bad)
    assert found is None or (found in bad and found - 1 not in bad)  # never in the middle of an error


def test_an_error_is_infinite_for_what_is_not_finite_and_zero_only_for_the_same() -> None:
    one = np.ones(4, np.float32)
    assert error_of(one, one) == 0
    assert error_of(np.array([1, np.nan, 1, 1], np.float32), one) == np.inf
    assert error_of(one, np.zeros(4, np.float32)) == np.inf
    assert error_of(one * 2, one) == pytest.approx(1)
