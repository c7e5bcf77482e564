"""A gate over two devices, one of which is lost on the way: the other's evidence is whole, and a second gate resumes.

Real adbd, real runner, the two-block model on the devices' CPUs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from adb_daemon import Daemon, World
from android_stand_in import entered, nothing_left

from fidelity.cache import Cache
from fidelity.cli.gate import exit_code
from fidelity.comparison.policy import load_policy
from fidelity.gating.config import GateConfig
from fidelity.gating.whole import gate_whole
from fidelity.progress import Reporter
from fidelity.report.document import GateReport

ROOT = Path(__file__).parents[2]
INPUTS = ("astronaut", "gravel", "hubble-deep-field")
TWO_BLOCK = "timm:vit_pe_core_base_patch16_224?depth=2&embed_dim=64&num_heads=2&img_size=64"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with entered() as world:
        yield world


@pytest.fixture(scope="module")
def steady(world: World) -> Daemon:
    return world.daemon(16601)


@pytest.fixture(scope="module")
def lost(world: World) -> Daemon:
    return world.daemon(16602)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


def gate(folder: Path, cache: Cache, *devices: Daemon) -> tuple[GateReport, Path]:
    runs = [
        {"label": f"on {each.port}", "device": f"android:{each.serial}/cpu", "weights_dtype": "float32"}
        for each in devices
    ]
    config = GateConfig.model_validate(
        {"source": TWO_BLOCK, "images": str(ROOT / "golden/images"), "only": INPUTS, "runs": runs}
    )
    return gate_whole(config, load_policy(), folder, cache, Reporter(), ablate=False)


def kill_when_it_runs(world: World, daemon: Daemon) -> None:
    """Kill a device's adbd as the call that starts its runner is made."""
    adbd = [each.pid for each in psutil.Process(daemon.process.pid).children(recursive=True) if each.name() == "adbd"]
    kill = f"kill -9 {' '.join(map(str, adbd))} 2> /dev/null"
    world.hook("before", f'case "$*" in *{daemon.serial}*runner.txt*) {kill} ;; esac')


def test_one_device_is_lost_and_the_second_gate_makes_what_is_missing(
    world: World, steady: Daemon, lost: Daemon, cache: Cache, tmp_path: Path
) -> None:
    kill_when_it_runs(world, lost)
    report, folder = gate(tmp_path, cache, steady, lost)
    runs = {run.label: run for run in report.runs}
    assert (runs["on 16601"].result.status, runs["on 16602"].result.status) == ("ok", "device_lost")
    assert runs["on 16601"].judgement.passed
    assert len(runs["on 16601"].comparison.outputs) == len(INPUTS)
    assert (report.passed, exit_code(report)) == (False, 1)
    assert any("on 16602" in reason.message and lost.serial in reason.message for reason in report.reasons)
    assert GateReport.read(folder / "report.json") == report
    assert {"index.html", "junit.xml"} <= {path.name for path in folder.iterdir()}

    world.unhook()
    lost.revive()
    before = len(world.calls(steady.serial))
    again, _ = gate(tmp_path, cache, steady, lost)
    assert again.passed
    assert [run.result.status for run in again.runs] == ["ok", "ok"]
    outputs = [[each.tensors for each in run.result.outputs] for run in again.runs]
    assert outputs[0] == outputs[1]  # two devices of one kind, the same bits
    asked = world.calls(steady.serial)[before:]
    assert not [call for call in asked if "runner.txt" in call or " push " in call], "the finished device ran again"
    nothing_left(steady)
    assert lost.running() == []  # its folder of the lost job stays, until it is a day old


def test_a_device_that_is_not_there_is_not_tested_and_the_other_is(
    world: World, steady: Daemon, cache: Cache, tmp_path: Path
) -> None:
    gone = Daemon(world, 16609, tmp_path, None, {})
    report, _ = gate(tmp_path / "reports", cache, steady, gone)
    assert [run.judgement.passed for run in report.runs] == [True]
    assert [(each.label, each.device) for each in report.not_tested] == [("on 16609", f"android:{gone.serial}/cpu")]
    assert (report.passed, exit_code(report)) == (False, 3)
