"""`python -m fidelity.devices.install_software_gpu`: a Vulkan driver with fp16 compute, where none is.

Three ways, the first that applies: nothing, when such a driver is there; the system's package
manager, when this is root on Debian 12 (its backports suite), Debian 13 or Ubuntu 24.04 and later;
the same packages unpacked into a per-user cache that fidelity finds by itself, when apt is there.
Where none applies it says what to install; the gate then says that the GPU was not tested.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fidelity.devices.drivers import CACHE, Driver, drivers

PACKAGES = ("mesa-vulkan-drivers", "libvulkan1")
OLDEST_MESA = 25  # 22.3 is refused by the delegate; 25.0.7 is the one measured
_BACKPORTS = {"12": "bookworm-backports"}
_SUPPORTED = {"debian": {"12", "13"}, "ubuntu": {"24.04", "24.10", "25.04", "25.10", "26.04"}}
BACKPORTS_SOURCES = Path("/etc/apt/sources.list.d/fidelity-backports.sources")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SECONDS = 600


def main() -> int:
    """Install what is missing; 0 also where nothing can be done, since the CPU can still be judged."""
    ready = fp16_driver()
    if ready is not None:
        say(f"ready: {ready.devices[0].name}, {ready.devices[0].info}")
        return 0
    system, version = distribution()
    if version not in _SUPPORTED.get(system, set()) or shutil.which("apt-get") is None:
        say(advice(f"{system} {version} is not one that fidelity can install a driver on"))
        return 0
    try:
        if os.geteuid() == 0:
            install(version)
        else:
            unpack(version)
    except (subprocess.SubprocessError, OSError) as error:
        say(advice(f"installing it failed: {last_line(error)}"))
        return 0
    ready = fp16_driver()
    say(f"installed: {ready.devices[0].info}" if ready else advice("what was installed offers no fp16"))
    return 0


def fp16_driver() -> Driver | None:
    """The first driver with a device that computes in fp16."""
    return next((driver for driver in drivers() if any(device.fp16 for device in driver.devices)), None)


def distribution(path: Path = Path("/etc/os-release")) -> tuple[str, str]:
    """ID and VERSION_ID of the system; empty where it does not say."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return "", ""
    fields = dict(line.split("=", maxsplit=1) for line in lines if "=" in line)
    return fields.get("ID", "").strip('"'), fields.get("VERSION_ID", "").strip('"')


def install(version: str) -> None:
    """With the system's package manager, as root."""
    suite = _BACKPORTS.get(version)
    if suite:
        BACKPORTS_SOURCES.write_text(backports(suite, mirror([])), "utf-8")
    run(["apt-get", "update", "-q"])
    target = ["-t", suite] if suite else []
    run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *target, *PACKAGES])


def unpack(version: str) -> None:
    """The same packages and the libraries that they need, unpacked into the per-user cache."""
    suite = _BACKPORTS.get(version)
    private = CACHE / "apt"
    for folder in ("lists/partial", "archives/partial", "sources"):
        (private / folder).mkdir(parents=True, exist_ok=True)
    shutil.copytree("/etc/apt/sources.list.d", private / "sources", dirs_exist_ok=True)
    if suite:
        (private / "sources" / BACKPORTS_SOURCES.name).write_text(backports(suite, mirror([])), "utf-8")
    options = [
        *("-o", f"Dir::State::lists={private / 'lists'}"),
        *("-o", f"Dir::Cache={private}"),
        *("-o", f"Dir::Etc::sourceparts={private / 'sources'}"),
        *("-o", "Debug::NoLocking=1"),
    ]
    run(["apt-get", *options, "update", "-q"])
    target = ["-t", suite] if suite else []
    names = missing_packages(run(["apt-get", *options, "install", "-s", "--no-install-recommends", *target, *PACKAGES]))
    root = CACHE / "root"
    run(
        ["apt-get", *options, "download", "-q", *(f"{name}={number}" for name, number in names)],
        private / "archives",
    )
    for package in sorted((private / "archives").glob("*.deb")):
        run(["dpkg-deb", "-x", str(package), str(root)])
    adopt(root)
    shutil.rmtree(private)


def missing_packages(simulation: str) -> list[tuple[str, str]]:
    """(package, version) of everything that apt says it would install."""
    return re.findall(r"^Inst (\S+)(?: \[[^\]]*\])? \((\S+)", simulation, flags=re.MULTILINE)


def adopt(root: Path) -> None:
    """Point the unpacked lavapipe manifest at the unpacked library, and drop the others."""
    manifests = sorted(root.rglob("icd.d/*.json"))
    for manifest in manifests:
        if not manifest.name.startswith("lvp_icd"):
            manifest.unlink()
            continue
        content = json.loads(manifest.read_text("utf-8"))
        library = next(root.rglob(Path(content["ICD"]["library_path"]).name))
        content["ICD"]["library_path"] = str(library)
        manifest.write_text(json.dumps(content), "utf-8")


def mirror(options: list[str]) -> str:
    """The address of the Debian mirror that this machine uses already."""
    listed = run(["apt-get", *options, "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)"])
    for line in listed.splitlines():
        site, _, rest = line.partition(" ")
        if rest.endswith(" main") and "security" not in line and "updates" not in line:
            return site
    raise OSError("no package mirror is configured in /etc/apt")


def backports(suite: str, site: str) -> str:
    """A deb822 source for one suite of the machine's own mirror."""
    return f"Types: deb\nURIs: {site}\nSuites: {suite}\nComponents: main\nSigned-By: {_KEYRING}\n"


def run(command: list[str], folder: Path | None = None) -> str:
    """The command's stdout. Raises CalledProcessError with its stderr."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=True,
    )
    return done.stdout


def last_line(error: BaseException) -> str:
    """What a failed command said last, or the error itself."""
    text = getattr(error, "stderr", None) or str(error)
    return (str(text).strip().splitlines() or [type(error).__name__])[-1][:200]


def advice(why: str) -> str:
    """What a person can do; the gate goes on without a GPU."""
    return (
        f"no Vulkan driver with fp16 compute: {why}. Install Mesa {OLDEST_MESA} or newer with its lavapipe "
        "(Vulkan) driver, or a GPU driver with shaderFloat16. Until then the GPU is not tested."
    )


def say(line: str) -> None:
    """One line on stdout."""
    sys.stdout.write(f"software GPU: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
