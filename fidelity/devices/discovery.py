"""Which devices there are, and what to do about one that is not: `cpu`, `gpu`, `gpu:<adapter>`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fidelity.devices.drivers import Driver, VulkanDevice, drivers
from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.record import Record

CPU_OF_PHONE = "/cpu"
MEND = "run: make software-gpu (or python -m fidelity.devices.install_software_gpu)"


class DeviceInfo(Record):
    """One device as the command line names it; `unusable` says why it cannot be used, and the mend."""

    spec: str
    name: str
    driver: str | None = None
    software: bool = False
    fp16: bool | None = None
    unusable: str | None = None


@dataclass(frozen=True)
class Device:
    """A device that a job can be given to.

    `job_device` is the job's own word for it, cpu or gpu. A local one has the environment of its
    executor's process, and which of the two executors that is; a phone has a serial.
    """

    spec: str
    job_device: str
    environment: dict[str, str]
    info: DeviceInfo
    executor: Literal["worker", "runner"] = "worker"
    serial: str | None = None

    @property
    def queue(self) -> str:
        """What cannot be used by two jobs at once: this machine, or one phone."""
        return "here" if self.serial is None else self.serial


def on_cpu(spec: str) -> bool:
    """Whether a device's word means a CPU: this machine's, or a phone's own."""
    return spec == "cpu" or spec.endswith(CPU_OF_PHONE)


def discover() -> tuple[DeviceInfo, ...]:
    """The CPU, and every GPU adapter, hardware before software; a line with the reason where none."""
    gpus = [_info(driver, device) for driver in drivers() for device in driver.devices]
    if not gpus:
        none = "no Vulkan driver offers a device"
        gpus = [DeviceInfo(spec="gpu", name="none", unusable=f"{none}; {MEND}")]
    return (DeviceInfo(spec="cpu", name="host CPU (XNNPACK)", fp16=False), *gpus)


def resolve(spec: str) -> Device:
    """The device that `spec` names.

    `gpu` is the first hardware adapter, or the software GPU where there is none. Raises BadInput
    for a word that names no kind of device, EnvironmentMissing for one that is not here.
    """
    if spec == "cpu":
        info = DeviceInfo(spec="cpu", name="host CPU (XNNPACK)", fp16=False)
        return Device(spec, "cpu", {"CUDA_VISIBLE_DEVICES": ""}, info)
    kind, _, wanted = spec.partition(":")
    if kind != "gpu" or (":" in spec and not wanted):
        raise BadInput(f"device {spec!r}: expected cpu, gpu or gpu:<adapter>")
    found = [(driver, device) for driver in drivers() for device in driver.devices]
    if not found:
        raise EnvironmentMissing(f"device {spec}: no Vulkan driver offers a device here; {MEND}")
    for driver, device in found:
        if wanted.lower() in device.name.lower() or wanted == driver.manifest.stem:
            return Device(spec, "gpu", driver.environment, _info(driver, device))
    names = ", ".join(f"{device.name!r}" for _, device in found)
    raise EnvironmentMissing(f"device {spec}: no adapter of that name here; there are: {names}")


def _info(driver: Driver, device: VulkanDevice) -> DeviceInfo:
    return DeviceInfo(
        spec=f"gpu:{device.name.split(' ', maxsplit=1)[0]}",
        name=device.name,
        driver=f"{device.driver} {device.info} ({driver.manifest.name})",
        software=device.software,
        fp16=device.fp16,
    )
