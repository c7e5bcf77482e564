"""What an Android device is, asked of it in one call: untrusted text, of which only plain words are kept."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from fidelity.devices.android.adb import LIMITS, DeviceLost, Limits, Listed, listed
from fidelity.devices.android.phone import CallFailed, Phone, check_serial
from fidelity.devices.android.runtime import why_not
from fidelity.devices.android.store import root
from fidelity.errors import BadInput
from fidelity.record import Figure, Record

_MENDS = {
    "absent": "it is not connected; `adb devices` lists those that are",
    "offline": "it is offline: unplug it and plug it in again, or restart it",
    "unauthorized": "it does not trust this computer: unlock it and allow USB debugging",
    "authorizing": "it is still asking whether to trust this computer: unlock it and allow USB debugging",
    "recovery": "it is in recovery: restart it into Android",
    "sideload": "it is in recovery: restart it into Android",
    "bootloader": "it is in its bootloader: restart it into Android",
}
_PERMISSIONS = "this user may not open it: add a udev rule for it, or join the group plugdev"
_THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")

# Every part is optional: a Linux machine has none but the first and the last.
_ASK = r"""
echo "machine: $(uname -sm)"
if command -v getprop > /dev/null; then
  getprop
  dumpsys battery | grep -E '^ *(level|scale|temperature):'
  dumpsys thermalservice | grep -m 1 'Thermal Status:'
  dumpsys SurfaceFlinger | grep -m 1 'GLES:'
fi 2> /dev/null
folder="$1"
while [ ! -d "$folder" ]; do folder="${folder%/*}"; [ "$folder" ] || folder=/; done
echo "free: $(stat -f -c '%a %S' "$folder")"
echo fidelity-end
"""


class AndroidInfo(Record):
    """One device that adb lists; `unusable` says why no job can run on it, and the mend.

    `platform` is android-<abi>, or linux-<machine> for a Linux machine over adb, which has no
    getprop. What a device does not tell is None.
    """

    serial: str
    spec: str
    state: str
    platform: str | None = None
    model: str | None = None
    soc: str | None = None
    gpu: str | None = None
    gpu_driver: str | None = None
    android: str | None = None
    battery_percent: Figure | None = None
    battery_celsius: Figure | None = None
    thermal_status: str | None = None
    free_bytes: int | None = None
    unusable: str | None = None

    @property
    def name(self) -> str:
        """The device in a few words, for a person."""
        if self.platform is not None and self.platform.startswith("linux"):
            return f"Linux over adb ({self.platform.removeprefix('linux-')})"
        return self.model or self.serial


def android_devices(limits: Limits = LIMITS) -> tuple[AndroidInfo, ...]:
    """Every device that adb lists, each asked in a thread of its own, in adb's order.

    Raises EnvironmentMissing when there is no adb, DeviceLost when its server does not answer.
    """
    found = listed(limits)
    serials = [device.serial for device in found]
    if not found:
        return ()
    with ThreadPoolExecutor(max_workers=min(len(found), 32)) as pool:
        return tuple(pool.map(lambda device: _info(device, serials.count(device.serial), limits), found))


def mend(state: str) -> str | None:
    """Why a device in this state of adb's cannot be used and what to do; None for one that can."""
    if state == "device":
        return None
    return _PERMISSIONS if state.startswith("no permissions") else _MENDS.get(state, f"adb calls it {state!r}")


def parse_properties(serial: str, text: str) -> AndroidInfo:
    """The device that this text describes."""
    properties = {
        match[1]: match[2] for match in re.finditer(r"^\[([\w.-]{1,100})\]: \[([^\n]{0,200})\]$", text, re.MULTILINE)
    }

    def property_of(*names: str) -> str | None:
        return next((plain for name in names if (plain := _plain(properties.get(name, "")))), None)

    def one(pattern: str) -> str | None:
        match = re.search(pattern, text, flags=re.MULTILINE)
        return _plain(match[1]) or None if match else None

    machine = one(r"^machine: (\w{1,20} \w{1,20})$")
    abi = property_of("ro.product.cpu.abi")
    maker, soc = property_of("ro.soc.manufacturer"), property_of("ro.soc.model", "ro.board.platform", "ro.hardware")
    gles = one(r"^\s*GLES: ([^\n]{1,300})$")
    gpu, version = _gles(gles) if gles else (None, None)
    temperature = _number(one(r"^ *temperature: (-?[0-9]{1,5})$"))
    thermal = one(r"^\s*Thermal Status: ([0-6])$")
    free = re.search(r"^free: ([0-9]{1,18}) ([0-9]{1,9})$", text, flags=re.MULTILINE)
    release, sdk = property_of("ro.build.version.release"), property_of("ro.build.version.sdk")
    return AndroidInfo(
        serial=serial,
        spec=f"android:{serial}",
        state="device",
        platform=f"android-{abi}" if abi else machine.lower().replace(" ", "-") if machine else None,
        model=_joined(property_of("ro.product.manufacturer"), property_of("ro.product.model")),
        soc=_joined(maker, soc),
        gpu=gpu or property_of("ro.hardware.egl", "ro.hardware.vulkan"),
        gpu_driver=version,
        android=f"{release} (API {sdk})" if release and sdk else release,
        battery_percent=_number(one(r"^ *level: ([0-9]{1,3})$")),
        battery_celsius=None if temperature is None else temperature / 10,
        thermal_status=_THERMAL[int(thermal)] if thermal else None,
        free_bytes=int(free[1]) * int(free[2]) if free else None,
    )


def _info(device: Listed, often: int, limits: Limits) -> AndroidInfo:
    """What one device says of itself, or why it cannot be asked."""

    def unusable(why: str) -> AndroidInfo:
        return AndroidInfo(
            serial=device.serial, spec=f"android:{device.serial}", state=device.state, unusable=_plain(why, 300)
        )

    if (why := mend(device.state)) is not None:
        return unusable(why)
    if often > 1:
        return unusable(f"{often} devices have this serial; unplug all but one")
    try:
        said = Phone(check_serial(device.serial), limits).script(_ASK, root())
    except (BadInput, DeviceLost, CallFailed) as error:
        return unusable(str(error))
    info = parse_properties(device.serial, said)
    return info.model_copy(update={"unusable": why_not(info.platform or "a platform that it does not tell")})


def _gles(line: str) -> tuple[str | None, str | None]:
    """GPU and driver version of a line as `Qualcomm, Adreno (TM) 740, OpenGL ES 3.2 V@0676.32 (GIT@...)`."""
    _, _, rest = line.partition(", ")
    gpu, _, version = rest.partition(", ")
    return gpu or None, version or None


def _joined(maker: str | None, name: str | None) -> str | None:
    """`Google Tensor G3` of a maker and a name, which may repeat the maker."""
    if maker is None or name is None or name.lower().startswith(maker.lower()):
        return name
    return f"{maker} {name}"


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _plain(text: str, longest: int = 100) -> str:
    """Printable characters on one line, not too many."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:longest]
