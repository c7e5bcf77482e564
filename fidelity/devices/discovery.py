"""Which devices there are, and what to do about one that is not.

`cpu`, `gpu`, `gpu:<adapter>`, `android:<serial>` (its GPU), `android:<serial>/cpu` (its CPU).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from fidelity.devices.drivers import Driver, VulkanDevice, drivers
from fidelity.devices.job import Adapter
from fidelity.devices.standing import stands_for
from fidelity.errors import BadInput, EnvironmentMissing
from fidelity.record import Record

if TYPE_CHECKING:
    from fidelity.devices.android.properties import AndroidInfo

CPU_OF_PHONE = "/cpu"
MEND = "run: make software-gpu (or python -m fidelity.devices.install_software_gpu)"


class DeviceInfo(Record):
    """One device as the command line names it; `unusable` says why it cannot be used, and the mend.

    `facts` are lines for a person that say more of a phone: its Android, battery, temperature.
    """

    spec: str
    name: str
    driver: str | None = None
    software: bool = False
    fp16: bool | None = None
    unusable: str | None = None
    facts: tuple[str, ...] = ()

    @property
    def stands_for(self) -> str:
        """What a run on it proves."""
        return stands_for(self.spec, Adapter(name=self.name, driver=self.driver, software=self.software))


_HOST = DeviceInfo(spec="cpu", name="host CPU (XNNPACK)", fp16=False)


@dataclass(frozen=True)
class Device:
    """A device that a job can be given to.

    `job_device` is the job's own word for it: cpu, gpu or reference. A local one has the environment of its
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


REFERENCE = Device(
    "reference",
    "reference",
    {"CUDA_VISIBLE_DEVICES": ""},
    DeviceInfo(spec="reference", name="host CPU (LiteRT's reference kernels)", fp16=False),
)
"""What a bare artefact is judged against. No verb offers it as a device: nothing is released on it."""


def quickest(device: Device) -> Device:
    """The same device by the executor that starts fastest, for many small jobs: the C runner where it was built."""
    from fidelity.devices.runner_build import host_runner  # noqa: PLC0415 - seldom needed

    try:
        host_runner()
    except EnvironmentMissing:
        return device
    return replace(device, executor="runner")


def on_cpu(spec: str) -> bool:
    """Whether a device's word means a CPU: this machine's, or a phone's own."""
    return spec == "cpu" or spec.endswith(CPU_OF_PHONE)


def discover() -> tuple[DeviceInfo, ...]:
    """The CPU, every GPU adapter, hardware before software, and every phone; the reason where none can be used."""
    gpus = [_info(driver, device) for driver in drivers() for device in driver.devices]
    if not gpus:
        none = "no Vulkan driver offers a device"
        gpus = [DeviceInfo(spec="gpu", name="none", unusable=f"{none}; {MEND}")]
    return (_HOST, *gpus, *phones())


def attached() -> tuple[str, ...]:
    """The words for every phone that can be used now."""
    return tuple(phone.spec for phone in phones() if phone.unusable is None)


def check_word(spec: str) -> None:
    """Raises BadInput for a word that names no kind of device, here or not: before anything else is done for it."""
    kind, colon, wanted = spec.partition(":")
    if spec != "cpu" and (kind not in ("gpu", "android") or (colon and not wanted)):
        raise BadInput(f"device {spec!r}: expected cpu, gpu, gpu:<adapter>, android:<serial> or android:<serial>/cpu")


def resolve(spec: str) -> Device:
    """The device that `spec` names.

    `gpu` is the first hardware adapter, or the software GPU where there is none; `android` the only phone.
    Raises BadInput for a word that names no kind of device, EnvironmentMissing for one that is not here.
    """
    check_word(spec)
    kind, _, wanted = spec.partition(":")
    if spec == "cpu":
        return Device(spec, "cpu", {"CUDA_VISIBLE_DEVICES": ""}, _HOST)
    if kind == "android":
        return _phone(spec, wanted)
    found = [(driver, device) for driver in drivers() for device in driver.devices]
    if not found:
        raise EnvironmentMissing(f"device {spec}: no Vulkan driver offers a device here; {MEND}")
    for driver, device in found:
        if wanted.lower() in device.name.lower() or wanted == driver.manifest.stem:
            return Device(spec, "gpu", driver.environment, _info(driver, device))
    names = ", ".join(f"{device.name!r}" for _, device in found)
    raise EnvironmentMissing(f"device {spec}: no adapter of that name here; there are: {names}")


def phones() -> tuple[DeviceInfo, ...]:
    """Every device that adb lists, usable or not; none where there is no adb."""
    from fidelity.devices.android.adb import DeviceLost  # noqa: PLC0415 - adb is only for phones
    from fidelity.devices.android.properties import android_devices  # noqa: PLC0415

    try:
        return tuple(_phone_info(each) for each in android_devices())
    except EnvironmentMissing:
        return ()
    except DeviceLost as error:
        return (DeviceInfo(spec="android", name="adb", unusable=f"{error}; run: adb kill-server"),)


def _phone(spec: str, wanted: str) -> Device:
    """The phone of a serial, or the only one."""
    from fidelity.devices.android.adb import client  # noqa: PLC0415 - adb is only for phones
    from fidelity.devices.android.phone import Phone, check_serial, is_network  # noqa: PLC0415

    serial = wanted.removesuffix(CPU_OF_PHONE)
    if wanted:
        check_serial(serial)
    client()
    there = {phone.spec.partition(":")[2]: phone for phone in phones()}
    if not wanted:
        if len(there) > 1:
            raise BadInput(f"device {spec}: {len(there)} phones are attached; say which: {', '.join(there)}")
        serial = next(iter(there), "")
    if serial not in there and is_network(serial) and Phone(serial).reconnect():
        there = {phone.spec.partition(":")[2]: phone for phone in phones()}
    info = there.get(serial)
    if info is None:
        raise EnvironmentMissing(f"device {spec}: adb lists {', '.join(there) or 'no device'}; see: fidelity doctor")
    if info.unusable:
        raise EnvironmentMissing(f"device {spec}: {info.unusable}")
    on = info.model_copy(update={"spec": f"{info.spec}{CPU_OF_PHONE}"}) if on_cpu(spec) else info
    return Device(spec, "cpu" if on_cpu(spec) else "gpu", {}, on, "runner", serial)


def _phone_info(phone: AndroidInfo) -> DeviceInfo:
    facts = {
        "SoC": phone.soc,
        "Android": phone.android,
        "platform": phone.platform,
        "battery": None if phone.battery_percent is None else f"{phone.battery_percent:g} %",
        "battery temperature": None if phone.battery_celsius is None else f"{phone.battery_celsius:g} C",
        "thermal state": phone.thermal_status,
        "free": None if phone.free_bytes is None else f"{phone.free_bytes / 2**30:.1f} GiB",
    }
    return DeviceInfo(
        spec=phone.spec,
        name=f"{phone.name}, {phone.gpu}" if phone.gpu else phone.name,
        driver=phone.gpu_driver,
        unusable=phone.unusable,
        facts=tuple(f"{what} {value}" for what, value in facts.items() if value is not None),
    )


def _info(driver: Driver, device: VulkanDevice) -> DeviceInfo:
    return DeviceInfo(
        spec=f"gpu:{device.name.split(' ', maxsplit=1)[0]}",
        name=device.name,
        driver=f"{device.driver} {device.info} ({driver.manifest.name})",
        software=device.software,
        fp16=device.fp16,
    )
