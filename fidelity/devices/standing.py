"""What a run on a device stands for: a sentence that every report says of every run."""

from __future__ import annotations

from fidelity.devices.job import Adapter


def stands_for(device: str, adapter: Adapter | None) -> str:
    """What numbers from `device` prove, and what they do not; `device` is the command line's word for it."""
    if device == "cpu":
        return "the conversion, on the host's XNNPACK kernels; nothing of a GPU"
    if device.endswith("/cpu"):
        return "the conversion, on that device's own CPU; nothing of its GPU"
    if adapter is None:
        return "nothing: no adapter is known"
    if adapter.software:
        return (
            "the delegate's own graph, residency and fp16 arithmetic on a software driver; "
            "no hardware's kernels, driver or speed"
        )
    return "this adapter with this driver and runtime, and no other"
