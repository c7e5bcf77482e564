"""The survey itself: whatever a model does, at whatever stage, it is a row, and the others are made."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from timm.models import register_model
from timm.models._registry import _model_entrypoints
from torch import nn

from fidelity.cache import Cache
from fidelity.comparison.policy import load_policy
from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.progress import Reporter
from fidelity.survey import make_row as module
from fidelity.survey.isolated import isolated_row
from fidelity.survey.make_row import Asked, make_row
from fidelity.survey.plan import Entry, Plan, load_plan, only
from fidelity.survey.row import Row, Stage
from fidelity.survey.survey import Setting, survey

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "golden/images"
SMALLEST = "timm:vit_pe_core_base_patch16_224?depth=1&embed_dim=32&num_heads=2&img_size=32&attn_pool_num_heads=2"


class Stub(nn.Module):
    """A linear map of the image's mean, by a model that fails where it is told to."""

    def __init__(self, fails: str) -> None:
        super().__init__()
        if fails == "build":
            raise KeyError("no such configuration")
        self.fails, self.in_chans = fails, 3
        self.pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3}
        self.head = nn.Linear(3, 16)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.fails == "prove":
            raise IndexError("no such token")
        x = image.mean(dim=(2, 3))
        if self.fails == "trace" and x.sum() > 0:
            x = x + 1
        return self.head(x)


@pytest.fixture
def stub() -> Iterator[Callable[[str], str]]:
    """Registers a model with timm, for the time of a test, that fails at the stage of its name."""
    names: list[str] = []

    def register(fails: str) -> str:
        def create(pretrained: bool = False, **_: Any) -> nn.Module:
            return Stub(fails)

        create.__name__ = f"stub_fails_at_{fails}"
        create.__module__ = __name__
        register_model(create)
        names.append(create.__name__)
        return f"timm:{create.__name__}"

    yield register
    for name in names:
        _model_entrypoints.pop(name, None)


def asked(source: str, cache: Path, **changes: Any) -> Asked:
    entry = Entry(name="stub", family="none", source=source, rewrites="none", **changes)
    return Asked(
        entry=entry,
        devices=("cpu",),
        inputs=("astronaut", "camera", "black"),
        images=str(IMAGES),
        seed=0,
        policy=load_policy(),
        cache=str(cache),
    )


@pytest.mark.parametrize(
    ("fails", "stage", "words"),
    [
        ("build", "build", "KeyError: 'no such configuration'"),
        ("prove", "prove", "IndexError: no such token"),
        ("trace", "convert", "cannot be traced"),
    ],
)
def test_a_model_that_fails_is_a_row_that_names_the_stage(
    stub: Callable[[str], str], tmp_path: Path, fails: str, stage: str, words: str
) -> None:
    told: list[Stage] = []
    row = make_row(asked(stub(fails), tmp_path), told.append)
    assert row.stopped is not None
    assert (row.verdict, row.stopped.stage, row.stopped.passing) == ("stopped", stage, False)
    assert words in row.stopped.message
    assert "\n" not in row.stopped.message
    assert row.explained
    assert told[-1] == stage
    assert (row.parameters == 64) == (fails != "build")
    assert (row.proved is True) == (fails == "trace")


@pytest.mark.parametrize("source", ["timm:no_such_model_at_all", "timm:test_vit?no_such_option=1", "nonsense"])
def test_a_source_that_is_none_is_a_row(tmp_path: Path, source: str) -> None:
    row = make_row(asked(source, tmp_path))
    assert row.stopped is not None
    assert row.stopped.stage == "build"


def test_what_a_converter_or_the_machine_cannot_do_is_passing(
    stub: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gate(_: object, __: object, ___: object, bench: module.Bench) -> None:
        with bench.reporter.stage("convert and audit", 4):
            raise EnvironmentMissing("x.tflite: converting the model: stopped at its limit of 900 seconds")

    monkeypatch.setattr(module, "run_gate", gate)
    row = make_row(asked(stub("nowhere"), tmp_path))
    assert row.stopped is not None
    assert (row.stopped.stage, row.stopped.passing) == ("convert", True)


def worker(code: str) -> list[str]:
    """A worker that does this in place of a row's; its folder is the last argument."""
    return [sys.executable, "-c", code]


HANGS = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
HANGS += "start_new_session=True); open(sys.argv[1] + '/stage.txt', 'w').write('convert'); time.sleep(600)"


def test_a_worker_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    started = time.monotonic()
    row = isolated_row(asked("timm:x", tmp_path, seconds=2.0), worker=worker(HANGS))
    assert time.monotonic() - started < 20
    assert row.stopped is not None
    assert (row.stopped.stage, row.stopped.passing) == ("convert", True)
    assert "limit of 2 seconds" in row.stopped.message
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
        ("raise SystemExit('out of luck')", "ended with code 1: out of luck"),
        ("pass", "ended with code 0"),
    ],
)
def test_a_worker_that_dies_or_makes_nothing_is_a_row(tmp_path: Path, code: str, words: str) -> None:
    row = isolated_row(asked("timm:x", tmp_path), worker=worker(code))
    assert row.stopped is not None
    assert words in row.stopped.message


def test_a_worker_that_takes_too_much_memory_is_stopped(tmp_path: Path) -> None:
    code = "import time; x = bytearray(300_000_000); time.sleep(60)"
    row = isolated_row(asked("timm:x", tmp_path, gigabytes=0.2), worker=worker(code))
    assert row.stopped is not None
    assert "limit is 0.2 GB" in row.stopped.message


PLAN = Plan(
    title="two",
    models=tuple(Entry(name=name, family="none", source=f"timm:{name}", rewrites="none") for name in ("a", "b")),
)


class Maker:
    """Makes rows without doing anything, and counts them."""

    def __init__(self, *, passing: bool) -> None:
        self.passing, self.made = passing, list[str]()

    def __call__(self, what: Asked, told: Callable[[Stage], None]) -> Row:
        self.made.append(what.entry.name)
        if self.made == ["a", "b"] and what.entry.source == "timm:interrupts":
            raise KeyboardInterrupt
        told("build")
        return module.stopped_row(what.entry, "build", "nothing is built", {}, passing=self.passing)


def run(plan: Plan, maker: Maker, cache: Path, **changes: Any) -> tuple[Row, ...]:
    setting = Setting(load_policy(), IMAGES, devices=("cpu",), **changes)
    return survey(plan, setting, Cache(cache), Reporter(), maker).rows


def test_an_interrupted_survey_goes_on_where_it_was(tmp_path: Path) -> None:
    second = PLAN.models[1].model_copy(update={"source": "timm:interrupts"})
    plan = PLAN.model_copy(update={"models": (PLAN.models[0], second)})
    maker = Maker(passing=False)
    with pytest.raises(KeyboardInterrupt):
        run(plan, maker, tmp_path)
    rows = run(plan, maker, tmp_path)
    assert maker.made == ["a", "b", "b"]
    assert [row.entry.name for row in rows] == ["a", "b"]
    run(plan, maker, tmp_path, seed=1)
    assert maker.made[3:] == ["a", "b"]


def test_a_row_that_the_machine_ended_is_made_again(tmp_path: Path) -> None:
    maker = Maker(passing=True)
    run(PLAN, maker, tmp_path)
    run(PLAN, maker, tmp_path)
    assert maker.made == ["a", "b", "a", "b"]


def test_another_expectation_of_a_model_makes_no_other_row(tmp_path: Path) -> None:
    maker = Maker(passing=False)
    run(PLAN, maker, tmp_path)
    strict = tuple(entry.model_copy(update={"expect": "pass"}) for entry in PLAN.models)
    rows = run(PLAN.model_copy(update={"models": strict}), maker, tmp_path)
    assert maker.made == ["a", "b"]
    assert not any(row.as_expected for row in rows)


def test_the_built_in_plan_has_the_breadth_that_it_promises() -> None:
    plan = load_plan(None)
    assert len(plan.models) >= 14
    assert len({entry.family for entry in plan.models}) >= 8
    assert any(entry.expect == "pass" for entry in plan.models)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = 3", "title"),
        ("title = 'x'\nmodels = []", "models"),
        ("not toml", "not TOML"),
        ("title = 'x'\n[[models]]\nname = '../x'\nfamily = 'f'\nsource = 's'", "name"),
        ("title = 'x'\n" + "[[models]]\nname = 'x'\nfamily = 'f'\nsource = 's'\n" * 2, "two models"),
    ],
)
def test_a_plan_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=words) as caught:
        load_plan(path)
    assert "\n" not in str(caught.value)


def test_only_names_models_of_the_plan() -> None:
    assert [entry.name for entry in only(PLAN, ("b",)).models] == ["b"]
    for names in (("c",), ()):
        with pytest.raises(BadInput, match="--only"):
            only(PLAN, names)


def test_a_real_model_goes_the_whole_way_on_the_cpu(tmp_path: Path) -> None:
    entry = Entry(name="smallest", family="PE-Core", source=SMALLEST, expect="pass")
    plan = Plan(title="one", inputs=("astronaut", "camera", "chelsea"), models=(entry,))
    setting = Setting(load_policy(), IMAGES, devices=("cpu",))
    found = survey(plan, setting, Cache(tmp_path), Reporter())
    (row,) = found.rows
    assert row.verdict == "pass", row.causes
    assert {count.rewrite: count.taken for count in row.rewrites if count.taken} == {
        "split_qkv": 1,
        "rotate_half": 1,
        "pool_one_query": 1,
        "safe_layernorm": 5,
    }
    assert row.devices[0].resident
    assert found.passed
