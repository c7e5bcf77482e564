"""A proof whose blocks are in memory one at a time is the proof of the whole model at once, to the bit."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fidelity.models.input_contract import input_contract
from fidelity.models.inputs import InputSet, load_inputs
from fidelity.models.passes import Pass, block_paths, outputs_float64, started, stops, without_blocks
from fidelity.models.source import Source
from fidelity.models.tower import ImageTower
from fidelity.models.weights import Weights, build_model
from fidelity.rewrites import prove as proving
from fidelity.rewrites.catalogue import chosen
from fidelity.rewrites.contract import Contract, Rewrite, Rewritten, Site
from fidelity.rewrites.parts import Parts
from fidelity.rewrites.prove import Proved, Subject, prove
from fidelity.rewrites.rounding import amplification
from fidelity.rewrites.weights_map import Copied, Derived, check_weights

IMAGES = Path(__file__).parents[1] / "golden" / "images"
SOURCE = "timm:vit_pe_core_base_patch16_224?depth=2&embed_dim=32&num_heads=2&img_size=32"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only lose by sharing their work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def subject(weights: str = "seeded") -> tuple[Subject, InputSet]:
    model = build_model(Source.parse(SOURCE), Weights.parse(weights), 0)
    return Subject(model, SOURCE, weights), load_inputs(IMAGES, input_contract(model)).only(
        ("coffee", "rocket", "black")
    )


def proved(
    rewrites: tuple[Rewrite, ...],
    stop_at: tuple[str, ...] | None,
    weights: str = "seeded",
    only: tuple[str, ...] = ("coffee", "black"),
) -> Proved:
    judged, inputs = subject(weights)
    return prove(judged, rewrites, inputs.only(only), stop_at=stop_at)


@pytest.fixture(scope="module")
def reproducible() -> Iterator[ProcessPoolExecutor]:
    """A process whose matrix products do not depend on where in memory their operands lie.

    MKL sums a float32 product in another order at another alignment (seen on AMD EPYC: another last bit of the whole
    tower's output), which is no difference between the two ways to prove. It reads MKL_CBWR once, at its first call.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MKL_CBWR", "COMPATIBLE")
        with ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            yield pool


def both_ways(
    rewrites: tuple[Rewrite, ...], weights: str = "seeded", only: tuple[str, ...] = ("coffee", "black")
) -> tuple[Proved, Proved]:
    return proved(rewrites, None, weights, only), proved(rewrites, (), weights, only)


@pytest.mark.parametrize(
    ("names", "weights"), [("all", "seeded"), ("row_layernorm", "massive:900@0"), ("none", "seeded")]
)
def test_the_proof_is_the_same_to_the_bit(names: str, weights: str, reproducible: ProcessPoolExecutor) -> None:
    stepwise, at_once = reproducible.submit(both_ways, chosen(names), weights).result()
    assert stepwise.proof == at_once.proof
    assert stepwise.proof.passed
    assert stepwise.outputs.keys() == at_once.outputs.keys()
    for name, output in stepwise.outputs.items():
        np.testing.assert_array_equal(output, at_once.outputs[name])


class Spoiling:
    """A rewrite of the catalogue that is wrong within one block alone: in float32, where nothing else differs."""

    def __init__(self, inner: Rewrite, path: str) -> None:
        self.inner, self.path = inner, path

    @property
    def contract(self) -> Contract:
        return self.inner.contract

    def concerns(self, module: nn.Module) -> bool:
        return self.inner.concerns(module)

    def refuses(self, site: Site) -> str | None:
        return self.inner.refuses(site)

    def rewrite(self, site: Site) -> Rewritten:
        rewritten = self.inner.rewrite(site)
        weight = next(rewritten.module.parameters())
        if site.path == self.path and weight.dtype == torch.float32:
            with torch.no_grad():
                weight.mul_(1.01)
        return rewritten


def test_a_fault_in_the_last_block_is_told_alike(reproducible: ProcessPoolExecutor) -> None:
    """Every block is compared with its own versions, and the whole model's streams carry the error to the end."""
    wrong = (Spoiling(chosen("safe_layernorm")[0], "blocks.1.norm2"),)
    stepwise, at_once = (way.proof for way in reproducible.submit(both_ways, wrong, only=("coffee",)).result())
    assert stepwise == at_once
    assert not stepwise.passed
    failing = {site.path for site in stepwise.sites if site.counter_example is not None}
    assert failing == {"blocks.1.norm2", "blocks.1", ""}
    assert [t.tensor for t in stepwise.weights_map.tensors if t.bits_equal is False] == ["blocks.1.norm2.weight"]


def test_a_rewrite_that_replaces_a_whole_block_is_proved_alike() -> None:
    class Wrapped(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return self.block(*args, **kwargs)

    class Wrapping(Spoiling):
        def concerns(self, module: nn.Module) -> bool:
            return type(module).__name__ == "EvaBlock"

        def refuses(self, site: Site) -> str | None:
            return None

        def rewrite(self, site: Site) -> Rewritten:
            names = [name for name, _ in site.module.named_parameters()]
            return Rewritten(Wrapped(site.module), {f"block.{name}": Copied(name) for name in names})

    wrapping = (Wrapping(chosen("safe_layernorm")[0], ""),)
    stepwise, at_once = proved(wrapping, None).proof, proved(wrapping, ()).proof
    assert stepwise == at_once
    assert stepwise.passed, stepwise.failures
    assert len([d for d in stepwise.decisions if d.refused is None]) == 2


def test_the_whole_models_amplification_is_the_same_to_the_bit() -> None:
    judged, inputs = subject()
    image = torch.from_numpy(inputs.arrays["coffee"]).double()
    parts = Parts(judged.model, chosen("all"), block_paths(judged.model))
    double = build_model(Source.parse(SOURCE), Weights.parse("seeded"), 0).double()
    with torch.no_grad():
        wanted = amplification(double, (image,), {})
        found = proving._amplification(parts, parts.rest(), image, double(image))
    assert torch.equal(found, wanted)
    assert float(found.min()) > 1


def test_one_block_at_a_time_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The versions that were made of a block are gone when the next one's are."""
    made: list[weakref.ref[nn.Module]] = []
    alive: list[int] = []
    block = Parts.block

    def watched(self: Parts, path: str) -> Any:
        gc.collect()
        alive.append(sum(each() is not None for each in made))
        part = block(self, path)
        fresh = [*part.versions.rewritten.values(), part.versions.original[torch.float64]]
        made.extend(weakref.ref(module) for module in fresh)
        return part

    monkeypatch.setattr(Parts, "block", watched)
    proved(chosen("all"), None)
    assert len(made) == 6
    # while a block is made, the loop still holds the one before it: never two before it
    assert max(alive) <= 3, alive


def test_the_truth_is_the_whole_models_to_the_bit() -> None:
    judged, inputs = subject()
    tower = ImageTower(judged.model)
    found = outputs_float64(tower, inputs.arrays)
    double = ImageTower(build_model(Source.parse(SOURCE), Weights.parse("seeded"), 0)).double().eval()
    with torch.no_grad():
        for name, array in inputs.arrays.items():
            np.testing.assert_array_equal(found[name], double(torch.from_numpy(array).double()).numpy())
    assert judged.model.get_parameter("head.weight").dtype == torch.float32


class Staged(nn.Module):
    """Two lists of blocks, one of them within a block, and a weight of the root."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Module() for _ in range(2))
        for stage in self.stages:
            stage.blocks = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.stages[0].blocks[0].blocks = nn.ModuleList([nn.Linear(2, 2)])
        self.shift = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            x = stage.blocks(x) + self.shift
        return x


def test_blocks_are_found_at_any_depth_the_outermost_only() -> None:
    assert block_paths(Staged()) == tuple(f"stages.{s}.blocks.{b}" for s in (0, 1) for b in (0, 1))
    assert block_paths(nn.Linear(2, 2)) == ()


def test_what_is_left_without_blocks_has_no_weight_of_theirs() -> None:
    model = Staged()
    rest = without_blocks(model, block_paths(model))
    assert [name for name, _ in rest.named_parameters()] == ["shift"]
    assert rest.shift is not model.shift


def _waiting(threads: set[int]) -> set[int]:
    return {thread.ident or 0 for thread in threading.enumerate()} - threads


def test_an_error_leaves_no_pass_waiting() -> None:
    before = {thread.ident or 0 for thread in threading.enumerate()}
    model = Staged()
    rest = without_blocks(model, block_paths(model))
    x = torch.ones(1, 2)

    def fail_at_the_second_block() -> None:
        with started({n: lambda: rest(x) for n in range(3)}) as passes:
            for path, calls in stops(passes):
                if path == "stages.0.blocks.1":
                    raise RuntimeError("here")
                for key, call in calls.items():
                    passes[key].answer(call.args[0])

    with pytest.raises(RuntimeError, match="here"):
        fail_at_the_second_block()
    for thread in threading.enumerate():
        if thread.ident not in before:
            thread.join(5)
    assert not _waiting(before)


@pytest.mark.parametrize("when", ["before a block", "after a block"])
def test_what_the_model_raises_is_raised_here(when: str) -> None:
    model = Staged()
    rest = without_blocks(model, block_paths(model))

    def run() -> None:
        if when == "after a block":
            rest(torch.ones(1, 2))
        raise ValueError("the model's own")

    def walk() -> None:
        with started({0: run}) as passes:
            for _, calls in stops(passes):
                for key, call in calls.items():
                    passes[key].answer(call.args[0])

    with pytest.raises(ValueError, match="the model's own"):
        walk()


def test_only_one_thread_is_awake() -> None:
    """A pass that is made runs to its first stop before it is given back, and to the next within `answer`."""
    seen: list[str] = []
    model = nn.Module()
    model.blocks = nn.ModuleList([nn.Identity()])
    rest = without_blocks(model, ("blocks.0",))

    def run() -> None:
        seen.append("begun")
        rest.blocks[0](torch.zeros(1))
        seen.append("ended")

    one = Pass(run)
    seen.append("made")
    one.answer(torch.zeros(1))
    seen.append("answered")
    assert seen == ["begun", "made", "ended", "answered"]
    assert one.call is None


def _rows(index: list[int], axis: int) -> Copied:
    return Copied("weight", np.array(index), axis)


@pytest.mark.parametrize(
    ("origins", "lost"),
    [
        ({"a": _rows([0, 1], 0), "b": _rows([2], 0)}, False),
        ({"a": _rows([0, 1], 0)}, True),
        ({"a": _rows([0, 1], 0), "b": _rows([0, 1], 1)}, True),  # [2, 2] is in neither
        ({"a": _rows([0], 0), "b": _rows([0, 1, 2], 1)}, False),
        ({"a": Copied("weight")}, False),
        ({"a": Derived(("weight",), "a sum")}, False),
        ({}, True),
    ],
)
def test_a_value_is_lost_that_no_slice_along_any_axis_takes(origins: dict[str, Any], lost: bool) -> None:
    original = nn.Linear(3, 3, bias=False)
    new = nn.Module()
    for name, origin in origins.items():
        value = original.weight.detach()
        if isinstance(origin, Copied) and origin.index is not None:
            value = value.index_select(origin.axis, torch.from_numpy(origin.index))
        new.register_buffer(name, value)
    assert check_weights(original, new, origins).lost == (("weight",) if lost else ())
