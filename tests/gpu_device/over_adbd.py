"""This machine's own devices by the executor that a phone has: the C runner, over a real adbd on loopback.

So the whole conformance suite goes through adb where there is no phone, and its outputs are compared
with the other executors' to the bit. What is not a phone's: Android's libraries (docs/devices.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from adb_daemon import World, missing

PORT = 16601


@dataclass(frozen=True)
class OverAdbd:
    """A serial, and the variables with which it is found."""

    serial: str
    variables: dict[str, str]


@contextmanager
def over_adbd(driver: dict[str, str]) -> Iterator[OverAdbd]:
    """A daemon whose jobs have this GPU driver. Raises RuntimeError, with the reason, where there can be none."""
    if (why := missing()) is not None:
        raise RuntimeError(why)
    with World() as world:
        daemon = world.daemon(PORT, environment={**driver, "HOME": os.environ.get("HOME", "/root")})
        world.connect(daemon)
        yield OverAdbd(daemon.serial, world.variables)
