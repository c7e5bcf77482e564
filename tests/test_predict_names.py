"""Names: the module of a tensor, and the profile of a device. Neither is ever guessed."""

from __future__ import annotations

import pytest

from fidelity.arithmetic.profile import Origin, Profile, load_profile
from fidelity.devices.job import Adapter, JobResult
from fidelity.prediction.matching import measured_on, profile_of_run
from fidelity.prediction.module_path import module_path

TOWER = "fidelity.tflite.export_program.NamedIO/fidelity.models.tower.ImageTower_module/timm.models.eva.Eva_model"
BLOCK = f"{TOWER}/timm.models.eva.EvaBlock_0"
NORM = f"{BLOCK}/timm.layers.norm.LayerNorm_norm1"
LINEAR = f"{BLOCK}/fidelity.rewrites.split_qkv.SplitAttention_attn/torch.nn.modules.linear.Linear_q_proj"


@pytest.mark.parametrize(
    ("tensor", "path"),
    [
        (f"{NORM};3", "EvaBlock_0.norm1"),
        (f"{LINEAR};2", "EvaBlock_0.attn.q_proj"),
        (f"{LINEAR};1_dequant", "EvaBlock_0.attn.q_proj"),
        (f"{TOWER}/torch.nn.modules.normalization.LayerNorm_norm_pre;", "norm_pre"),
        (f"{NORM};;{LINEAR};1", "EvaBlock_0.norm1 + EvaBlock_0.attn.q_proj"),
        (f"{NORM};;{NORM};", "EvaBlock_0.norm1"),
        (f"{TOWER};1", "model"),
        ("timm.models.eva.Eva/torch.nn.modules.linear.Linear_fc1;", "fc1"),
        ("arith.constant12", None),
        ("y", None),
        ("", None),
        ("<script>/x.y_z", None),
        ("model/dense/BiasAdd;3", None),
    ],
)
def test_the_module_of_a_tensor(tensor: str, path: str | None) -> None:
    assert module_path(tensor) == path


GPU = load_profile("mldrift-webgpu-lavapipe")
HERE = Adapter(
    name="llvmpipe (LLVM 15.0.6, 256 bits)",
    driver="llvmpipe Mesa 25.0.7-2~bpo12+1 (LLVM 15.0.6) (lvp_icd.json)",
    software=True,
    fp16=True,
)


def result(**changes: object) -> JobResult:
    sound = {
        "status": "ok",
        "device": "gpu",
        "precision_asked": "default",
        "precision_had": "fp16",
        "adapter": HERE,
        "runtime": {"ai-edge-litert": "2.3.0", "accelerator": "libLiteRtWebGpuAccelerator.so"},
        "model_sha256": "ab" * 32,
    }
    return JobResult.model_validate(sound | changes)


def test_a_run_on_the_measured_device_has_its_profile() -> None:
    assert profile_of_run(result(), [load_profile("ieee-fp32"), load_profile("card-mali-opencl"), GPU]) == GPU


ELSEWHERE = {
    "another runtime": {"runtime": {"ai-edge-litert": "2.4.0"}},
    "no runtime": {"runtime": {}},
    "another adapter": {"adapter": HERE.model_copy(update={"name": "llvmpipe (LLVM 19.1.7, 256 bits)"})},
    "a later driver": {"adapter": HERE.model_copy(update={"driver": "llvmpipe Mesa 25.0.8 (lvp_icd.json)"})},
    "a driver whose number goes on": {"adapter": HERE.model_copy(update={"driver": "llvmpipe Mesa 25.0.71"})},
    "a driver with another part": {"adapter": HERE.model_copy(update={"driver": "llvmpipe Mesa 25.0.7.1"})},
    "no driver": {"adapter": HERE.model_copy(update={"driver": None})},
    "no adapter": {"adapter": None},
    "the cpu": {"device": "cpu"},
    "fp32": {"precision_had": "fp32"},
    "unknown precision": {"precision_had": "unknown"},
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_any_other_device_has_none(case: str) -> None:
    assert profile_of_run(result(**ELSEWHERE[case]), [GPU]) is None


def test_the_driver_may_say_more_after_its_version() -> None:
    origin = GPU.origin
    for driver in ("llvmpipe Mesa 25.0.7", "llvmpipe Mesa 25.0.7-devel", "llvmpipe Mesa 25.0.7 (x)"):
        assert measured_on(origin, HERE.name, driver, {"ai-edge-litert": "2.3.0"})


def test_a_declared_profile_and_one_that_stores_no_float16_are_nobodys() -> None:
    origin = GPU.origin.model_dump() | {"kind": "declared"}
    declared = GPU.model_copy(update={"origin": Origin.model_validate(origin)})
    wide: Profile = GPU.model_copy(update={"inputs": None})
    assert profile_of_run(result(), [declared, wide]) is None
