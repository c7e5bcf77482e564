"""What the tests of devices share: `gpu` is the device."""

from __future__ import annotations

import pytest

from fidelity.devices.discovery import Device


@pytest.fixture(scope="session")
def gpu(gpu_device: Device) -> Device:
    """The device, by the short name that these tests use."""
    return gpu_device
