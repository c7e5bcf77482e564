"""Drivers are found, asked one by one and believed only as far as what they print; devices are named by word."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from fidelity.devices import discovery, drivers, install_software_gpu
from fidelity.devices.drivers import Driver, VulkanDevice, driver_environment
from fidelity.errors import BadInput, EnvironmentMissing

SOFTWARE = VulkanDevice(name="llvmpipe (LLVM 15.0.6)", type="cpu", driver="llvmpipe", info="Mesa 25.0.7", fp16=True)
SINGLE = SOFTWARE.model_copy(update={"name": "SwiftShader Device", "driver": "SwiftShader", "fp16": False})
HARDWARE = VulkanDevice(name="Adreno (TM) 740", type="integrated", driver="turnip", info="Mesa 25", fp16=True)
HARDWARE_SINGLE = HARDWARE.model_copy(update={"name": "Old GPU", "fp16": False})
MANIFEST = json.dumps({"file_format_version": "1.0.0", "ICD": {"library_path": "lib.so", "api_version": "1.3.0"}})


def machine(monkeypatch: pytest.MonkeyPatch, **devices: VulkanDevice) -> None:
    """A machine with a driver of each name, in this order of manifests."""
    found = {Path(f"/drivers/{name}.json"): device for name, device in devices.items()}
    monkeypatch.setattr(drivers, "_manifests", lambda: list(found))
    monkeypatch.setattr(drivers, "probe", lambda manifest: Driver(manifest, (found[manifest],)))


def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> tuple[VulkanDevice, ...]:
    """What comes of a driver whose inquiry is a program of this body."""
    path = tmp_path / "inquiry"
    path.write_text(f"#!{sys.executable}\nimport json, os, signal, sys, time\n{body}\n", "utf-8")
    path.chmod(0o755)
    monkeypatch.setattr(drivers, "sys", SimpleNamespace(executable=str(path)))
    monkeypatch.setattr(drivers, "_SECONDS", 1.0)
    return drivers.probe(tmp_path / "icd.json").devices


def test_hardware_comes_first_and_fp16_before_none(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, a=SINGLE, b=SOFTWARE, c=HARDWARE_SINGLE, d=HARDWARE)
    order = [driver.devices[0].name for driver in drivers.drivers()]
    assert order == [device.name for device in (HARDWARE, HARDWARE_SINGLE, SOFTWARE, SINGLE)]


def test_gpu_is_the_first_and_others_go_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, lvp_icd=SOFTWARE, freedreno=HARDWARE)
    assert discovery.resolve("gpu").info.name == HARDWARE.name
    for spec in ("gpu:llvmpipe", "gpu:LLVMPIPE", "gpu:lvp_icd"):
        device = discovery.resolve(spec)
        assert (device.spec, device.job_device, device.info.name) == (spec, "gpu", SOFTWARE.name)
        assert device.environment["VK_DRIVER_FILES"] == "/drivers/lvp_icd.json"
        assert device.info.software


def test_what_is_listed_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, a=SOFTWARE, b=SINGLE, c=HARDWARE)
    for info in discovery.discover():
        assert discovery.resolve(info.spec).info == info


def test_an_adapter_that_is_not_there_is_told_with_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, a=SOFTWARE, b=HARDWARE)
    with pytest.raises(EnvironmentMissing, match=r"no adapter of that name here; there are: 'Adreno.*', 'llvmpipe"):
        discovery.resolve("gpu:mali")


def test_a_machine_without_a_driver_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    with pytest.raises(EnvironmentMissing, match="run: make software-gpu") as caught:
        discovery.resolve("gpu")
    assert caught.value.exit_code == 3
    cpu, none = discovery.discover()
    assert (cpu.spec, cpu.unusable) == ("cpu", None)
    assert none.unusable is not None
    assert "make software-gpu" in none.unusable
    assert discovery.resolve("cpu").job_device == "cpu"  # needs no driver


@pytest.mark.parametrize("spec", ["", "tpu", "gpu:", "GPU", "cpu:0", "gpu "])
def test_a_word_for_no_device_is_bad_input(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, a=SOFTWARE)
    with pytest.raises(BadInput, match="expected cpu, gpu, gpu:<adapter>, android:<serial>"):
        discovery.resolve(spec)


def test_an_honest_inquiry_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = f"print(json.dumps([{HARDWARE.model_dump()!r}]))"
    assert asked(monkeypatch, tmp_path, body) == (HARDWARE,)


def test_an_inquiry_sees_its_own_driver_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = (
        "print(json.dumps([{'name': os.environ['VK_DRIVER_FILES'], 'type': 'cpu', "
        "'driver': '', 'info': '', 'fp16': False}]))"
    )
    (device,) = asked(monkeypatch, tmp_path, body)
    assert device.name == str(tmp_path / "icd.json")


FAULTS = {
    "crash": "os.kill(os.getpid(), signal.SIGSEGV)",
    "silence": "",
    "hang": "time.sleep(60)",
    "chatter": "print('loading...')",
    "bytes": "sys.stdout.buffer.write(bytes(range(256)))",
    "field": """print('[{"name": "x"}]')""",
    "kind": """print('{"name": "x"}')""",
    "nested": "print('[' * 100000)",
}


@pytest.mark.parametrize("body", FAULTS.values(), ids=FAULTS)
def test_a_driver_that_fails_has_no_devices(body: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = time.monotonic()
    assert asked(monkeypatch, tmp_path, body) == ()
    assert time.monotonic() - started < 10


def test_a_driver_that_fails_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = [Path("/drivers/broken.json"), Path("/drivers/good.json")]
    monkeypatch.setattr(drivers, "_manifests", lambda: manifests)
    monkeypatch.setattr(drivers, "probe", lambda m: Driver(m, (SOFTWARE,) if m.stem == "good" else ()))
    assert [driver.manifest.stem for driver in drivers.drivers()] == ["good"]


def test_manifests_are_those_of_the_environment_when_it_names_any(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("VK_DRIVER_FILES", "VK_ICD_FILENAMES"):
        monkeypatch.delenv("VK_DRIVER_FILES", raising=False)
        monkeypatch.delenv("VK_ICD_FILENAMES", raising=False)
        monkeypatch.setenv(name, os.pathsep.join([str(tmp_path / "a.json"), "", str(tmp_path / "b.json")]))
        assert drivers._manifests() == [tmp_path / "a.json", tmp_path / "b.json"]


def test_manifests_are_looked_for_where_the_loader_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VK_DRIVER_FILES", raising=False)
    monkeypatch.delenv("VK_ICD_FILENAMES", raising=False)
    monkeypatch.setattr(drivers, "_MANIFEST_FOLDERS", (tmp_path / "system", tmp_path / "gone"))
    monkeypatch.setattr(drivers, "CACHE", tmp_path / "cache")
    contents = {
        "system/good.json": MANIFEST,
        "system/layer.json": '{"layer": {}}',
        "system/broken.json": "{",
        "system/binary.json": "\udcff",
        "cache/root/icd.d/cached.json": MANIFEST,
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", errors="surrogateescape"))
    assert [path.name for path in drivers._manifests()] == ["good.json", "cached.json"]


@pytest.mark.parametrize("content", ["3", "null", "true", "[]", '"ICD"', "[" * 100_000])
def test_a_manifest_of_any_other_json_is_none(content: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, "utf-8")
    assert not drivers._is_manifest(path)


def test_a_cached_driver_brings_its_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(drivers, "CACHE", tmp_path)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/given")
    library = tmp_path / "root" / "lib" / "libvulkan_lvp.so"
    library.parent.mkdir(parents=True)
    library.touch()
    cached = driver_environment(tmp_path / "root" / "lvp_icd.json")
    assert cached["LD_LIBRARY_PATH"] == os.pathsep.join([str(library.parent), "/given"])
    assert "LD_LIBRARY_PATH" not in driver_environment(Path("/elsewhere/lvp_icd.json"))


def test_the_runtime_folder_exists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The delegate fails without one; a value that names none is replaced, one that does is kept."""
    for given in (tmp_path, tmp_path / "gone"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(given))
        assert Path(driver_environment(tmp_path / "x.json")["XDG_RUNTIME_DIR"]).is_dir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert driver_environment(tmp_path / "x.json")["XDG_RUNTIME_DIR"] == str(tmp_path)


SIMULATION = """\
Reading package lists...
Inst libvulkan1 (1.3.239.0-1 Debian:12.5/stable [amd64])
Inst mesa-vulkan-drivers [22.3.6-1+deb12u1] (25.0.7-2~bpo12+1 Debian Backports:stable-backports [amd64])
Conf libvulkan1 (1.3.239.0-1 Debian:12.5/stable [amd64])
"""


def test_packages_to_unpack_are_those_that_apt_would_install() -> None:
    assert install_software_gpu.missing_packages(SIMULATION) == [
        ("libvulkan1", "1.3.239.0-1"),
        ("mesa-vulkan-drivers", "25.0.7-2~bpo12+1"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('ID=debian\nVERSION_ID="12"\n', ("debian", "12")),
        ("# a remark\n\nNAME=x\nID=ubuntu\nVERSION_ID=24.04\n", ("ubuntu", "24.04")),
        ("ID=arch\n", ("arch", "")),
        ("", ("", "")),
    ],
)
def test_the_system_is_known_by_its_own_file(text: str, told: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text(text, "utf-8")
    assert install_software_gpu.distribution(path) == told
    assert install_software_gpu.distribution(tmp_path / "gone") == ("", "")


def test_only_the_software_driver_is_adopted(tmp_path: Path) -> None:
    icd = tmp_path / "usr" / "share" / "vulkan" / "icd.d"
    icd.mkdir(parents=True)
    library = tmp_path / "usr" / "lib" / "lib.so"
    library.parent.mkdir(parents=True)
    library.touch()
    (icd / "lvp_icd.x86_64.json").write_text(MANIFEST, "utf-8")
    (icd / "radeon_icd.json").write_text(MANIFEST, "utf-8")
    install_software_gpu.adopt(tmp_path)
    assert [path.name for path in icd.iterdir()] == ["lvp_icd.x86_64.json"]
    adopted = json.loads((icd / "lvp_icd.x86_64.json").read_text("utf-8"))
    assert adopted["ICD"]["library_path"] == str(library)


def test_nothing_is_installed_where_a_driver_is_ready_or_none_can_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(*_: object) -> None:
        pytest.fail("it tried to install")

    monkeypatch.setattr(install_software_gpu, "install", forbidden)
    monkeypatch.setattr(install_software_gpu, "unpack", forbidden)
    monkeypatch.setattr(install_software_gpu, "drivers", lambda: (Driver(Path("/x.json"), (SOFTWARE,)),))
    assert install_software_gpu.main() == 0
    assert "ready: llvmpipe" in capsys.readouterr().out
    monkeypatch.setattr(install_software_gpu, "drivers", lambda: (Driver(Path("/x.json"), (SINGLE,)),))
    monkeypatch.setattr(install_software_gpu, "distribution", lambda: ("plan9", "4"))
    assert install_software_gpu.main() == 0
    assert "Until then the GPU is not tested" in capsys.readouterr().out
