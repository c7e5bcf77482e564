"""Which profile is that of the device that made a run: by what was measured where, never by guessing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fidelity.arithmetic.profile import Origin, Profile
from fidelity.devices.job import JobResult


def profile_of_run(result: JobResult, profiles: Iterable[Profile]) -> Profile | None:
    """The first profile that was measured with this runtime on this driver and adapter; None where none was.

    Only for a run in fp16 on a GPU, and only a profile that stores it. A declared profile is nobody's.
    """
    adapter = result.adapter
    if result.device == "cpu" or result.precision_had != "fp16" or adapter is None:
        return None
    fitting = (profile for profile in profiles if profile.stores_float16)
    return next((p for p in fitting if measured_on(p.origin, adapter.name, adapter.driver, result.runtime)), None)


def measured_on(origin: Origin, adapter: str, driver: str | None, runtime: Mapping[str, str]) -> bool:
    """Whether the origin's adapter is this one, its driver this driver's name and version, its runtime this one.

    A driver may say more than its version (a package's revision, the file that it was loaded from): the
    origin's has to be where it begins, up to the end of a number. Another version is another arithmetic.
    """
    if origin.kind != "measured" or origin.driver is None or driver is None:
        return False
    rest = driver.removeprefix(origin.driver)
    same_driver = driver.startswith(origin.driver) and not rest[:1].isalnum() and not rest.startswith(".")
    return origin.adapter == adapter and same_driver and origin.runtime in {f"{k} {v}" for k, v in runtime.items()}
