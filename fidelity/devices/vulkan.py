"""Which Vulkan devices a driver offers, and whether they compute in fp16.

Asked of the real loader, through its C API. Drivers crash and hang, so callers run this as
`python -m fidelity.devices.vulkan` in a process of its own and read the JSON that it prints.
"""

from __future__ import annotations

import ctypes as c
import ctypes.util
import json
import sys
from collections.abc import Iterator

_SUCCESS = 0
_API_1_2 = (1 << 22) | (2 << 12)
_TYPES = ("other", "integrated", "discrete", "virtual", "cpu")
_APPLICATION, _INSTANCE = 0, 1
_FEATURES_2, _PROPERTIES_2 = 1000059000, 1000059001
_STORAGE_16, _FLOAT16_INT8, _DRIVER = 1000083000, 1000082000, 1000196000


class _Application(c.Structure):
    _fields_ = (
        ("sType", c.c_uint32),
        ("pNext", c.c_void_p),
        ("pApplicationName", c.c_char_p),
        ("applicationVersion", c.c_uint32),
        ("pEngineName", c.c_char_p),
        ("engineVersion", c.c_uint32),
        ("apiVersion", c.c_uint32),
    )


class _Instance(c.Structure):
    _fields_ = (
        ("sType", c.c_uint32),
        ("pNext", c.c_void_p),
        ("flags", c.c_uint32),
        ("pApplicationInfo", c.POINTER(_Application)),
        ("enabledLayerCount", c.c_uint32),
        ("ppEnabledLayerNames", c.c_void_p),
        ("enabledExtensionCount", c.c_uint32),
        ("ppEnabledExtensionNames", c.c_void_p),
    )


class _Driver(c.Structure):
    _fields_ = (
        ("sType", c.c_uint32),
        ("pNext", c.c_void_p),
        ("driverID", c.c_uint32),
        ("driverName", c.c_char * 256),
        ("driverInfo", c.c_char * 256),
        ("conformanceVersion", c.c_uint8 * 4),
    )


class _Properties(c.Structure):
    """VkPhysicalDeviceProperties2: the head that is read, then room for its limits."""

    _fields_ = (
        ("sType", c.c_uint32),
        ("pNext", c.c_void_p),
        ("apiVersion", c.c_uint32),
        ("driverVersion", c.c_uint32),
        ("vendorID", c.c_uint32),
        ("deviceID", c.c_uint32),
        ("deviceType", c.c_uint32),
        ("deviceName", c.c_char * 256),
        ("rest", c.c_uint8 * 2048),
    )


class _Storage16(c.Structure):
    _fields_ = (("sType", c.c_uint32), ("pNext", c.c_void_p), ("flags", c.c_uint32 * 4))


class _Float16(c.Structure):
    _fields_ = (("sType", c.c_uint32), ("pNext", c.c_void_p), ("flags", c.c_uint32 * 2))


class _Features(c.Structure):
    _fields_ = (("sType", c.c_uint32), ("pNext", c.c_void_p), ("flags", c.c_uint32 * 64))


def physical_devices() -> Iterator[dict[str, object]]:
    """name, type, driver, info, fp16 (shaderFloat16 and 16-bit storage) of every Vulkan device."""
    vulkan = c.CDLL(ctypes.util.find_library("vulkan") or "libvulkan.so.1")
    application = _Application(_APPLICATION, None, b"fidelity", 1, None, 0, _API_1_2)
    create = _Instance(_INSTANCE, None, 0, c.pointer(application), 0, None, 0, None)
    instance = c.c_void_p()
    if vulkan.vkCreateInstance(c.byref(create), None, c.byref(instance)) != _SUCCESS:
        return
    count = c.c_uint32(0)
    vulkan.vkEnumeratePhysicalDevices(instance, c.byref(count), None)
    handles = (c.c_void_p * count.value)()
    vulkan.vkEnumeratePhysicalDevices(instance, c.byref(count), handles)
    for handle in handles[: count.value]:
        yield _describe(vulkan, c.c_void_p(handle))


def _describe(vulkan: c.CDLL, device: c.c_void_p) -> dict[str, object]:
    driver = _Driver(sType=_DRIVER)
    properties = _Properties(sType=_PROPERTIES_2, pNext=c.cast(c.pointer(driver), c.c_void_p))
    vulkan.vkGetPhysicalDeviceProperties2(device, c.byref(properties))
    storage = _Storage16(sType=_STORAGE_16)
    float16 = _Float16(sType=_FLOAT16_INT8, pNext=c.cast(c.pointer(storage), c.c_void_p))
    features = _Features(sType=_FEATURES_2, pNext=c.cast(c.pointer(float16), c.c_void_p))
    vulkan.vkGetPhysicalDeviceFeatures2(device, c.byref(features))
    kind = properties.deviceType
    return {
        "name": properties.deviceName.decode(errors="replace"),
        "type": _TYPES[kind] if kind < len(_TYPES) else "other",
        "driver": driver.driverName.decode(errors="replace"),
        "info": driver.driverInfo.decode(errors="replace"),
        "fp16": bool(float16.flags[0] and storage.flags[0]),
    }


def main() -> None:
    """Print one JSON list; an empty one where there is no loader or no driver."""
    try:
        found = list(physical_devices())
    except OSError:
        found = []
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
