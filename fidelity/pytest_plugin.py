"""fidelity's pytest plugin: the marker `gpu_device`, `--device`, and fixtures for devices and goldens.

A test that asks for a GPU is skipped, with the reason, where there is none; `--require-device`
turns such a skip into a failure, so that a lab's CI cannot go green because its phone fell off.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.devices.discovery import Device, resolve
from fidelity.errors import FidelityError

GoldenLoader = Callable[[str], dict[str, NDArray[np.float64]]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    group = parser.getgroup("fidelity", "fidelity: devices and goldens")
    group.addoption(
        "--device",
        action="append",
        default=None,
        metavar="SPEC",
        help="GPU that gpu_device tests run on: gpu or gpu:<adapter>; may be given again (default: gpu)",
    )
    group.addoption(
        "--require-device",
        action="store_true",
        help="a gpu_device test whose device is missing fails instead of being skipped",
    )
    group.addoption("--goldens", default="golden", metavar="FOLDER", help="folder of the goldens")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, so that --strict-markers knows it."""
    config.addinivalue_line("markers", "gpu_device: runs on a real GPU delegate; see --device")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each device asked for, wherever the fixture `gpu` is used."""
    if "gpu" in metafunc.fixturenames:
        specs = metafunc.config.getoption("--device") or ["gpu"]
        metafunc.parametrize("gpu", specs, indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses the fixture is a gpu_device test, marked or not."""
    for item in items:
        if "gpu" in getattr(item, "fixturenames", ()):
            item.add_marker("gpu_device")


@pytest.fixture(scope="session")
def gpu(request: pytest.FixtureRequest) -> Device:
    """A device that a job can be given to; skips, or fails with --require-device, where it is missing."""
    spec: str = request.param
    try:
        device = resolve(spec)
    except FidelityError as error:
        if request.config.getoption("--require-device"):
            pytest.fail(f"--require-device: {error}", pytrace=False)
        pytest.skip(str(error))
    if device.job_device != "gpu":
        pytest.fail(f"--device {spec}: not a GPU", pytrace=False)
    return device


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> GoldenLoader:
    """A function from a golden's name to its float64 arrays, every byte checked against the manifest."""
    from fidelity.golden import read_golden  # noqa: PLC0415 - only where it is used

    root = Path(request.config.getoption("--goldens"))
    return lambda name: read_golden(root, name)[1]
