"""Which worker of pytest-xdist runs which test: all tests of one device in one worker, the others file by file.

A file's fixtures are then made once: a whole gate is one of them.

xdist's own way, the mark xdist_group with --dist loadgroup, does nothing with pytest 9.2: xdist 3.8.0
writes the group into Item._nodeid, which that pytest does not read. A scheduler of xdist's own kind works
with either, and without --dist loadgroup.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any


def by_device(config: Any, log: Any, specs: Sequence[str]) -> Any:
    """xdist's scheduler of groups, with the group read from the device in a test's id."""
    scheduler = importlib.import_module("xdist.scheduler").LoadGroupScheduling(config, log)
    scheduler._split_scope = lambda nodeid: group_of(nodeid, specs) or nodeid.partition("::")[0]
    return scheduler


def group_of(nodeid: str, specs: Sequence[str]) -> str | None:
    """The device that a test's id names among its parameters; None for a test of no device.

    All local adapters are one group, since two specs may name the same one and all share the machine; so
    are the GPU and the CPU of a phone.
    """
    _, bracket, parameters = nodeid.rpartition("[")
    named = [spec for spec in specs if bracket and f"-{spec}-" in f"-{parameters.removesuffix(']')}-"]
    if not named:
        return None
    spec = max(named, key=len)
    return spec.partition("/")[0] if spec.startswith("android") else "local"
