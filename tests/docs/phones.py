"""The phones of docs/devices.md: two real adbd on this machine, where the page's serials lead."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from adb_daemon import World, missing

from fidelity.devices.discovery import resolve

PAGE = "devices.md"
PORTS = (16601, 16602)


@contextmanager
def phones() -> Iterator[dict[str, str]]:
    """The variables with which a command finds both, connected, each with this machine's GPU.

    Raises RuntimeError where there can be none, with the reason.
    """
    if (why := missing()) is not None:
        raise RuntimeError(why)
    with World() as world:
        driver = {**resolve("gpu").environment, "HOME": os.environ.get("HOME", "/root")}
        for port in PORTS:
            world.connect(world.daemon(port, environment=driver))
        yield world.variables
