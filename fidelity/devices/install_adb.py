"""`python -m fidelity.devices.install_adb`: adb, and the adbd that stands in for a phone in the tests.

adb is what `android:<serial>` needs. The rest is for tests: the far side of adb, the real one, so that
every fault of a phone's connection can be had without a phone, and Android's own shell and tools
(mksh, toybox), which the scripts that run there must get along with. Debian 12 has adbd only in its
backports suite; Debian 13 has all as they are.

adbd is unpacked into the per-user cache and never installed: the package starts it at once and at every
boot, on every interface, where it gives a root shell to whoever connects.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import platformdirs

from fidelity.devices import install_software_gpu as apt

PACKAGES = ("adb", "mksh", "toybox")  # the libraries that adbd needs come with adb
_SUITES = {"12": ("-t", "bookworm-backports"), "13": ()}
_ADBD = Path("usr/lib/android-sdk/platform-tools/adbd")


def main() -> int:
    """Install what is missing; 0 also where nothing can be done, since no phone may be wanted."""
    gone = missing()
    if not gone:
        say(f"ready: {shutil.which('adb')}, {adbd()}")
        return 0
    system, version = apt.distribution()
    if system != "debian" or version not in _SUITES or shutil.which("apt-get") is None:
        say(advice(gone, f"{system} {version} is not one that fidelity can install it on"))
    elif os.geteuid() != 0:
        say(advice(gone, "only root can install packages"))
    else:
        try:
            install(version)
        except (subprocess.SubprocessError, OSError) as error:
            say(advice(gone, f"installing it failed: {apt.last_line(error)}"))
        else:
            say(f"installed: {shutil.which('adb')}, {adbd()}")
    return 0


def missing() -> list[str]:
    """What is not there of adb, adbd, mksh and toybox."""
    return [name for name in PACKAGES if shutil.which(name) is None] + ([] if adbd() else ["adbd"])


def adbd() -> Path | None:
    """The adbd that was unpacked here, or that somebody installed."""
    unpacked = _cache() / _ADBD
    found = shutil.which("adbd", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    return unpacked if unpacked.is_file() else Path(found) if found else None


def install(version: str) -> None:
    """adb and the tools with apt, from the suite that has them; adbd beside, so that nothing starts it."""
    target = _SUITES[version]
    if target:
        apt.BACKPORTS_SOURCES.write_text(apt.backports(target[1], apt.mirror([])), "utf-8")
    apt.run(["apt-get", "update", "-q"])
    apt.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *target, *PACKAGES])
    folder = _cache()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    apt.run(["apt-get", "download", "-q", *target, "adbd"], folder)
    (package,) = folder.glob("*.deb")
    apt.run(["dpkg-deb", "-x", str(package), str(folder)])
    package.unlink()


def advice(gone: list[str], why: str) -> str:
    """What a person can do; jobs for the CPU and this machine's GPU go on without adb."""
    return (
        f"{' and '.join(gone)} not there: {why}. For a phone, install Android's platform-tools or your "
        "system's adb package. Without the others, tests of Android devices are skipped."
    )


def say(line: str) -> None:
    """One line on stdout."""
    sys.stdout.write(f"adb: {line}\n")


def _cache() -> Path:
    return Path(platformdirs.user_cache_dir("fidelity")) / "adbd"


if __name__ == "__main__":
    sys.exit(main())
