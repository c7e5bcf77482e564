"""fidelity's pytest plugin: the marker `gpu_device`, `--device`, `--known-issues`, fixtures for devices and goldens.

A test that asks for a GPU runs once on each: every usable phone and the first local adapter, or the
devices that `--device` names. It is skipped, with the reason, where one is missing; `--require-device`
turns such a skip into a failure, so that a lab's CI cannot go green because its phone fell off. Under
pytest-xdist (`-n N`) devices run in parallel, the tests of one device never beside each other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fidelity.devices import discovery
from fidelity.devices.discovery import Device, resolve
from fidelity.errors import FidelityError
from fidelity.pytest_scheduler import by_device

if TYPE_CHECKING:  # every pytest run in this environment loads the plugin, few need the runtime's schema
    from fidelity.devices.known_issues import KnownIssueResult

GoldenLoader = Callable[[str], dict[str, NDArray[np.float64]]]
KnownIssueTeller = Callable[["KnownIssueResult"], None]

_FIXTURE = "gpu_device"
_PROPERTY = "known_issue"
_SPECS = pytest.StashKey[tuple[str, ...]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The plugin's options."""
    group = parser.getgroup("fidelity", "fidelity: devices and goldens")
    group.addoption(
        "--device",
        action="append",
        default=None,
        metavar="SPEC",
        help="GPU that gpu_device tests run on: gpu, gpu:<adapter> or android:<serial>; may be given again "
        "(default: every usable phone and the first local GPU)",
    )
    group.addoption(
        "--require-device",
        action="store_true",
        help="a gpu_device test whose device is missing fails instead of being skipped",
    )
    group.addoption(
        "--known-issues",
        choices=("report", "fail"),
        default="report",
        help="what a device that shows a reported delegate bug is: a line in the summary, or a failure too",
    )
    group.addoption("--goldens", default="golden", metavar="FOLDER", help="folder of the goldens")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, so that --strict-markers knows it."""
    config.addinivalue_line("markers", "gpu_device: runs on a real GPU delegate; see --device")
    config.pluginmanager.register(_KnownIssuesTold(), "fidelity-known-issues")


def device_specs(config: pytest.Config) -> tuple[str, ...]:
    """The devices of this run, each once, in order. Under xdist the controller decides for its workers."""
    given = config.getoption("--device") or getattr(config, "workerinput", {}).get("fidelity_devices")
    if given:
        return tuple(dict.fromkeys(given))
    if _SPECS not in config.stash:
        config.stash[_SPECS] = _every_gpu()
    return config.stash[_SPECS]


def _every_gpu() -> tuple[str, ...]:
    """All usable phones and the first local GPU. `gpu` alone where there is none: its skip says what to do."""
    phones = discovery.attached()
    try:
        return (*phones, resolve("gpu").spec) if phones else ("gpu",)
    except FidelityError:
        return phones


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: workers that each looked for phones might collect different tests, and the run would end."""
    node.workerinput["fidelity_devices"] = list(device_specs(node.config))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each device, wherever the fixture `gpu_device` is used."""
    if _FIXTURE in metafunc.fixturenames:
        metafunc.parametrize(_FIXTURE, device_specs(metafunc.config), indirect=True, scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that uses the fixture is a gpu_device test, marked or not."""
    for item in items:
        if _FIXTURE in getattr(item, "fixturenames", ()):
            item.add_marker(_FIXTURE)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist: the tests of one device in one worker, unless another way of dealing was asked for."""
    if config.getoption("dist") not in ("load", "loadgroup"):
        return None
    return by_device(config, log, device_specs(config))


def device_or_skip(config: pytest.Config, spec: str) -> Device:
    """The GPU that `spec` names; skips, or fails with --require-device, where it is missing."""
    try:
        device = resolve(spec)
    except FidelityError as error:
        if config.getoption("--require-device"):
            pytest.fail(f"--require-device: {error}", pytrace=False)
        pytest.skip(str(error))
    if device.job_device != "gpu":
        pytest.fail(f"--device {spec}: not a GPU", pytrace=False)
    return device


@pytest.fixture(scope="session")
def gpu_device(request: pytest.FixtureRequest) -> Device:
    """A device that a job can be given to; skips, or fails with --require-device, where it is missing."""
    return device_or_skip(request.config, request.param)


@pytest.fixture(scope="session")
def known_issues(gpu_device: Device) -> tuple[KnownIssueResult, ...]:
    """Every reported delegate bug, tried on the device."""
    from fidelity.devices.known_issues import examine  # noqa: PLC0415 - only where it is used

    return examine(gpu_device)


@pytest.fixture
def tell_known_issue(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> KnownIssueTeller:
    """A function that makes one result this test's: in the summary, and by --known-issues its outcome."""

    def tell(result: KnownIssueResult) -> None:
        record_property(_PROPERTY, result.model_dump_json())
        told = f"{result.number} {result.judgement} on {result.device}: {result.evidence}"
        if result.judgement == "not testable":
            pytest.skip(told)
        if result.judgement == "shown" and request.config.getoption("--known-issues") == "fail":
            pytest.fail(told, pytrace=False)

    return tell


class _KnownIssuesTold:
    """Collects what tests told, in this process or in xdist's workers, and tells it once a device."""

    def __init__(self) -> None:
        self.told: dict[tuple[str, str], dict[str, KnownIssueResult]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Read a report as it comes in."""
        for name, value in report.user_properties if report.when == "call" else ():
            if name == _PROPERTY:
                from fidelity.devices.known_issues import KnownIssueResult  # noqa: PLC0415 - only where it is used

                result = KnownIssueResult.model_validate_json(str(value))
                self.told.setdefault((result.device, result.runtime), {})[result.number] = result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A section for what was told, if anything was."""
        if not self.told:
            return
        from fidelity.devices.known_issues import summary  # noqa: PLC0415 - only where it is used

        terminalreporter.section("known issues of the GPU delegate")
        for results in self.told.values():
            terminalreporter.line(summary(tuple(results.values())))


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> GoldenLoader:
    """A function from a golden's name to its float64 arrays, every byte checked against the manifest."""
    from fidelity.golden import read_golden  # noqa: PLC0415 - only where it is used

    root = Path(request.config.getoption("--goldens"))
    return lambda name: read_golden(root, name)[1]
