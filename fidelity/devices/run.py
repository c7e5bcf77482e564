"""One job on one device, wherever that is: the only way in which the rest of fidelity runs anything."""

from __future__ import annotations

from pathlib import Path

from fidelity.devices.discovery import Device
from fidelity.devices.job import Adapter, JobResult
from fidelity.devices.local import run_local_job


def run_job(folder: Path, device: Device) -> JobResult:
    """Run a folder that `prepare_job` has filled; its checked result, which result.json holds too.

    Whatever the device does becomes a result with a status; only a missing executor raises
    (EnvironmentMissing).
    """
    if device.serial is not None:
        from fidelity.devices.android.job import run_android_job  # noqa: PLC0415 - adb is only for phones

        adapter = Adapter(name=device.info.name, driver=device.info.driver, software=device.info.software)
        return run_android_job(folder, device.serial, adapter=adapter)
    return run_local_job(folder, device)
