"""`python -m fidelity.devices.install_adb`: adb, and the adbd that stands in for a phone in the tests.

adb is what `android:<serial>` needs. adbd is the far side of it, the real one, so that every fault
of a phone's connection can be had on a machine without a phone. Debian 12 has adbd only in its
backports suite; Debian 13 has both as they are. Where this cannot install them it says what to do,
and the tests that need them are skipped with that reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from fidelity.devices import install_software_gpu as apt

PACKAGES = ("adb", "adbd")
_SUITES = {"12": ("-t", "bookworm-backports"), "13": ()}


def main() -> int:
    """Install what is missing; 0 also where nothing can be done, since no phone may be wanted."""
    missing = [name for name in PACKAGES if shutil.which(name) is None]
    if not missing:
        say(f"ready: {shutil.which('adb')}, {shutil.which('adbd')}")
        return 0
    system, version = apt.distribution()
    if system != "debian" or version not in _SUITES or shutil.which("apt-get") is None:
        say(advice(missing, f"{system} {version} is not one that fidelity can install it on"))
    elif os.geteuid() != 0:
        say(advice(missing, "only root can install packages"))
    else:
        try:
            install(version)
        except (subprocess.SubprocessError, OSError) as error:
            say(advice(missing, f"installing it failed: {apt.last_line(error)}"))
        else:
            say("installed: adb, adbd")
    return 0


def install(version: str) -> None:
    """With apt, from the suite that has both. The packages start no daemon."""
    target = _SUITES[version]
    if target:
        apt._SOURCES.write_text(apt.backports(target[1], apt.mirror([])), "utf-8")
    apt.run(["apt-get", "update", "-q"])
    apt.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *target, *PACKAGES])


def advice(missing: list[str], why: str) -> str:
    """What a person can do; jobs for the CPU and this machine's GPU go on without adb."""
    return (
        f"{' and '.join(missing)} not there: {why}. For a phone, install Android's platform-tools or your "
        "system's adb package. Without adbd the tests of Android devices are skipped."
    )


def say(line: str) -> None:
    """One line on stdout."""
    sys.stdout.write(f"adb: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
