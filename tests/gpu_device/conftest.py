"""What the tests of devices share: `gpu` is a device, `target` a device's CPU or GPU by one of its executors."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fidelity.devices.discovery import Device, resolve
from fidelity.pytest_plugin import device_specs

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from over_adbd import OverAdbd, over_adbd  # noqa: E402
from targets import Choice, Target, choices, target  # noqa: E402

_TARGETS = pytest.StashKey[dict[Choice, Target]]()


@pytest.fixture(scope="session")
def gpu(gpu_device: Device) -> Device:
    """The device, by the short name that these tests use."""
    return gpu_device


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The conformance suite on every target; the CPU here belongs to the first local device that is asked for."""
    every = [choice for spec in device_specs(metafunc.config) for choice in choices(spec)]
    seen: dict[tuple[str, str, str], Choice] = {}
    for choice in every:
        host = "here" if choice.where == "cpu" and choice.executor != "adb" else choice.spec
        seen.setdefault((host, choice.executor, choice.where), choice)
    if "one_target" in metafunc.fixturenames:
        metafunc.parametrize("one_target", list(seen.values()), indirect=True, ids=str, scope="session")
    if "same_device" in metafunc.fixturenames:
        places = {f"{choice.spec}-{choice.where}": choice for choice in seen.values() if choice.executor != "adb"}
        ids = list(places)
        metafunc.parametrize("same_device", list(places.values()), indirect=True, ids=ids, scope="session")


@pytest.fixture(scope="session")
def over_adbd_here(request: pytest.FixtureRequest) -> Iterator[OverAdbd]:
    """The C runner over a real adbd, for jobs on this machine: its jobs have the first local device's driver."""
    local = next(spec for spec in device_specs(request.config) if not spec.startswith("android"))
    with over_adbd(resolve(local).environment) as found:
        yield found


@pytest.fixture(scope="session")
def one_target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A device's CPU or GPU by one executor."""
    return _target(request, tmp_path_factory, request.param)


@pytest.fixture(scope="session")
def same_device(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Target, Target]]:
    """Every pair of executors of one device."""
    given: Choice = request.param
    every = [one for one in choices(given.spec) if one.where == given.where]
    return list(itertools.combinations([_target(request, tmp_path_factory, one) for one in every], 2))


def _target(request: pytest.FixtureRequest, folders: pytest.TempPathFactory, choice: Choice) -> Target:
    """One object a session for each choice: it remembers the jobs that it ran."""
    made = request.config.stash.setdefault(_TARGETS, {})
    if choice not in made:
        over = partial(request.getfixturevalue, "over_adbd_here")
        made[choice] = target(request.config, choice, lambda: folders.mktemp("job"), over)
    return made[choice]
