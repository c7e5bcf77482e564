"""The gate on a two-block model: the whole way of the data, its cache, its verdicts, its run folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fidelity.cache import Cache
from fidelity.cli.gate import exit_code, gate_lines
from fidelity.comparison.policy import Limit, Policy, load_policy
from fidelity.devices.discovery import Device
from fidelity.errors import BadInput
from fidelity.gating import execution
from fidelity.gating.config import GateConfig, load_config, overridden
from fidelity.gating.evidence import load_truth
from fidelity.gating.whole import gate_again, gate_whole
from fidelity.progress import Reporter
from fidelity.report.document import GateReport

ROOT = Path(__file__).parents[1]
TWO_BLOCK = "timm:vit_pe_core_base_patch16_224?depth=2&embed_dim=64&num_heads=2&img_size=64"
CPU = {"label": "cpu float32", "device": "cpu", "weights_dtype": "float32"}
GPU = {"label": "gpu fp16", "device": "gpu", "weights_dtype": "float32"}


def config(*runs: dict[str, str], **changes: object) -> GateConfig:
    whole = {"source": TWO_BLOCK, "images": str(ROOT / "golden/images"), "runs": runs, **changes}
    return GateConfig.model_validate(whole)


def run(chosen: GateConfig, folder: Path, cache: Cache, **options: bool) -> tuple[GateReport, Path]:
    return gate_whole(chosen, load_policy(), folder, cache, Reporter(), ablate=options.get("ablate", False))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory, cache: Cache) -> tuple[GateReport, Path]:
    return run(config(CPU), tmp_path_factory.mktemp("reports"), cache)


def test_a_faithful_conversion_passes_with_all_its_evidence(passed: tuple[GateReport, Path]) -> None:
    report, folder = passed
    assert report.passed, report.reasons
    assert exit_code(report) == 0
    assert {p.name for p in folder.iterdir()} >= {
        "report.json",
        "junit.xml",
        "index.html",
        "truth.npy",
        "jobs",
    }
    assert (folder.parent / "latest").resolve() == folder.resolve()
    assert not list(folder.parent.glob(".partial-*"))
    assert GateReport.read(folder / "report.json") == report
    assert len(report.runs[0].comparison.outputs) == len(report.subject.inputs) == 13


def test_a_second_gate_takes_everything_from_the_cache(
    passed: tuple[GateReport, Path], cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "run_job", lambda *_: pytest.fail("a job was run again"))
    report, _ = run(config(CPU), tmp_path, cache)
    before = passed[0]
    assert report.model_copy(update={"run": before.run}) == before
    assert "prove" not in report.run.seconds


def test_a_stored_run_is_judged_again_without_model_or_device(
    passed: tuple[GateReport, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "run_job", lambda *_: pytest.fail("a device was asked"))
    report, folder = passed
    again, _ = gate_again(folder, load_policy(), tmp_path, Reporter())
    assert again.model_copy(update={"run": report.run}) == report
    strict = stricter(load_policy())
    judged, written = gate_again(folder, strict, tmp_path, Reporter())
    assert not judged.passed
    assert exit_code(judged) == 1
    assert any(reason.code == "outside_limit" for reason in judged.reasons)
    third, _ = gate_again(written, load_policy(), tmp_path, Reporter())
    assert third.passed


def stricter(policy: Policy) -> Policy:
    """A policy that no fp32 run can meet: relative L2 of at most 1e-12, under float32's 6e-8."""
    runs = tuple(
        entry.model_copy(update={"limits": {**entry.limits, "relative_l2": Limit(at_most=1e-12)}})
        for entry in policy.runs
    )
    return policy.model_copy(update={"name": "strict", "runs": runs})


def test_an_altered_truth_or_output_is_noticed(passed: tuple[GateReport, Path], tmp_path: Path) -> None:
    report, folder = passed
    for victim in (folder / "truth.npy", next((folder / report.runs[0].job / "outputs").glob("*.raw"))):
        content = victim.read_bytes()
        victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(BadInput, match="sha256"):
            gate_again(folder, load_policy(), tmp_path, Reporter())
        victim.write_bytes(content)
    assert not (tmp_path / "latest").exists()


def test_a_job_outside_the_run_folder_is_refused(passed: tuple[GateReport, Path], tmp_path: Path) -> None:
    report, folder = passed
    hostile = report.model_copy(update={"runs": (report.runs[0].model_copy(update={"job": "../.."}),)})
    before = (folder / "report.json").read_text()
    hostile.write(folder / "report.json")
    with pytest.raises(BadInput, match="outside the run folder"):
        gate_again(folder, load_policy(), tmp_path, Reporter())
    (folder / "report.json").write_text(before)


def test_without_a_gpu_the_cpu_is_judged_and_the_gate_says_what_is_missing(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VK_DRIVER_FILES", str(tmp_path / "none.json"))
    report, _ = run(config(CPU, GPU), tmp_path / "reports", cache)
    assert [missing.label for missing in report.not_tested] == ["gpu fp16"]
    assert report.runs[0].judgement.passed
    assert not report.passed
    assert exit_code(report) == 3


def test_a_run_that_fails_is_not_kept(cache: Cache, tmp_path: Path) -> None:
    slow = {**CPU, "label": "slow", "timeout_seconds": 1e-3}
    report, _ = run(config(slow, only=("astronaut",)), tmp_path, cache)  # type: ignore[arg-type]
    assert report.runs[0].result.status == "timeout"
    assert not report.passed
    quick, _ = run(config({**CPU, "label": "slow"}, only=("astronaut",)), tmp_path, cache)
    assert quick.runs[0].result.status == "ok"


def test_wrong_numbers_from_a_device_fail(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = execution.load_outputs

    def swapped(folder: Path, result: object) -> dict[str, dict[str, np.ndarray]]:
        outputs = honest(folder, result)  # type: ignore[arg-type]
        outputs["astronaut"], outputs["coffee"] = outputs["coffee"], outputs["astronaut"]
        return outputs

    monkeypatch.setattr(execution, "load_outputs", swapped)
    report, _ = run(config(CPU), tmp_path, cache)
    assert not report.passed
    assert {"misplacement", "correlation"} & {c.metric for c in report.runs[0].judgement.checks if not c.passed}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source = 3", "source"),
        ("nonsense = 1", "source"),
        ('source = "timm:x"\nruns = []', "runs"),
        ("source = ", "not TOML"),
    ],
)
def test_a_wrong_configuration_names_the_field(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "gate.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=words):
        load_config(path)


def test_the_command_line_overrides_the_configuration() -> None:
    built_in = load_config(None)
    assert built_in.artefact is not None
    other = overridden(built_in, {"rewrites": "none", "seed": None}, None, ["gpu:llvmpipe"])
    assert (other.rewrites, other.seed, other.artefact) == ("none", 0, None)
    assert [plan.device for plan in other.runs] == ["gpu:llvmpipe", "gpu:llvmpipe"]
    cpu_alone = overridden(built_in, {}, None, ["cpu"])
    with pytest.raises(BadInput, match="no run on a GPU"):
        overridden(cpu_alone, {}, None, ["android:1"])


def test_every_device_asked_for_makes_every_run_of_its_kind() -> None:
    built_in = load_config(None)
    phones = overridden(built_in, {}, None, ["android:one", "android:two", "android:one/cpu", "android:one"])
    labels = {plan.label: (plan.device, plan.worst_of) for plan in phones.runs}
    assert labels == {
        "gpu fp16 android:one": ("android:one", None),
        "gpu fp32 android:one": ("android:one", "gpu fp16 android:one"),
        "gpu fp16 android:two": ("android:two", None),
        "gpu fp32 android:two": ("android:two", "gpu fp16 android:two"),
        "cpu float32": ("android:one/cpu", None),
        "cpu float16": ("android:one/cpu", None),
    }
    type(built_in).model_validate(phones.model_dump())  # labels and worst_of still fit


def test_labels_that_make_one_folder_name_are_refused(tmp_path: Path) -> None:
    run_text = '[[runs]]\nlabel = "{}"\ndevice = "cpu"\nweights_dtype = "float32"\n'
    path = tmp_path / "gate.toml"
    path.write_text('source = "timm:x"\n' + run_text.format("a b") + run_text.format("a-b"))
    with pytest.raises(BadInput, match="one folder name"):
        load_config(path)


@pytest.fixture(scope="module")
def on_gpu(gpu_device: Device, tmp_path_factory: pytest.TempPathFactory, cache: Cache) -> tuple[GateReport, Path]:
    if "llvmpipe Mesa 25.0.7" not in str(gpu_device.info.driver):
        pytest.skip(f"no arithmetic has been measured for {gpu_device.info}")
    return run(config({**GPU, "device": gpu_device.spec}), tmp_path_factory.mktemp("reports"), cache)


def test_a_gpu_run_has_the_bits_that_its_arithmetic_must_give(on_gpu: tuple[GateReport, Path]) -> None:
    report, folder = on_gpu
    assert report.passed, report.reasons
    (device_run,), (entry,) = report.runs, report.predictions
    assert device_run.expected is not None
    assert device_run.expected.identical_share == 1
    assert {row.ratio for row in device_run.expected.outputs} == {1.0}
    assert len(device_run.expected.outputs) == 13
    assert entry.prediction.passed
    assert entry.prediction.expected.sites
    assert (folder / entry.folder / "expected.json").is_file()
    assert "1 x expected error" in gate_lines(report)[0]
    assert "emulate" in report.run.seconds


def test_a_stored_gpu_run_is_held_against_its_expected_outputs_without_an_emulator(
    on_gpu: tuple[GateReport, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "run_job", lambda *_: pytest.fail("a device was asked"))
    monkeypatch.setattr("fidelity.prediction.expected.Emulator", lambda *_: pytest.fail("emulated again"))
    report, folder = on_gpu
    again, written = gate_again(folder, load_policy(), tmp_path, Reporter())
    assert again.model_copy(update={"run": report.run}) == report
    tight = tightened(load_policy())
    judged, _ = gate_again(written, tight, tmp_path, Reporter())
    assert {reason.code for reason in judged.reasons if reason.severity == "fail"} == {"worse_than_expected"}


def tightened(policy: Policy) -> Policy:
    """A policy whose error ratio not even the expected bits meet."""
    runs = tuple(
        entry.model_copy(update={"limits": {**entry.limits, "error_ratio": Limit(at_most=0.999)}})
        if "error_ratio" in entry.limits
        else entry
        for entry in policy.runs
    )
    return policy.model_copy(update={"name": "tight", "runs": runs})


def test_altered_or_misplaced_expected_outputs_are_noticed(on_gpu: tuple[GateReport, Path], tmp_path: Path) -> None:
    report, folder = on_gpu
    victim = next((folder / report.predictions[0].folder / "outputs").glob("*.raw"))
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BadInput, match="sha256"):
        gate_again(folder, load_policy(), tmp_path, Reporter())
    victim.write_bytes(content)
    before = (folder / "report.json").read_text()
    outside = report.predictions[0].model_copy(update={"folder": "../.."})
    report.model_copy(update={"predictions": (outside,)}).write(folder / "report.json")
    with pytest.raises(BadInput, match="outside the run folder"):
        gate_again(folder, load_policy(), tmp_path, Reporter())
    (folder / "report.json").write_text(before)


def test_a_device_that_computes_otherwise_than_its_profile_is_found(
    gpu_device: Device, on_gpu: tuple[GateReport, Path], cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs with three times the expected error: inside every fixed limit but for the third side."""
    honest = execution.load_outputs
    truth = load_truth(on_gpu[1])

    def drifted(folder: Path, result: object) -> dict[str, dict[str, np.ndarray]]:
        outputs = honest(folder, result)  # type: ignore[arg-type]
        for name, keyed in outputs.items():
            error = keyed["embedding"] - truth[name]
            keyed["embedding"] = (truth[name] + 2.5 * error).astype(np.float32)
        return outputs

    monkeypatch.setattr(execution, "load_outputs", drifted)
    report, _ = run(config({**GPU, "device": gpu_device.spec}), tmp_path, cache)
    assert "worse_than_expected" in {reason.code for reason in report.reasons}


def test_without_a_profile_of_the_device_somebody_is_told(
    gpu_device: Device, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fidelity.gating.expecting.shipped", lambda: ("ieee-fp32", "card-mali-opencl"))
    report, _ = run(config({**GPU, "device": gpu_device.spec}), tmp_path, cache)
    assert report.passed
    assert report.predictions == ()
    assert {reason.code for reason in report.reasons if reason.stage == "compare"} == {"no_profile"}


def test_the_collapse_of_the_stock_layernorm_is_predicted_and_its_first_site_named(
    gpu_device: Device, cache: Cache, tmp_path: Path
) -> None:
    chosen = config(
        {**GPU, "device": gpu_device.spec}, rewrites="split_qkv,rotate_half,pool_one_query", weights="massive:900@0"
    )
    report, _ = run(chosen, tmp_path, cache)
    assert {"collapse", "expected_collapse", "as_expected", "overflow"} <= {reason.code for reason in report.reasons}
    first = report.predictions[0].prediction.expected.first_overflow
    assert first is not None
    assert (first.name, first.module) == ("SQUARED_DIFFERENCE", "EvaBlock_1.norm1")
    assert report.runs[0].expected is not None
    assert report.runs[0].expected.identical_share == 1


def test_unrewritten_on_the_gpu_is_refused_by_name(gpu_device: Device, cache: Cache, tmp_path: Path) -> None:
    report, _ = run(config({**GPU, "device": gpu_device.spec}, rewrites="none", only=("astronaut",)), tmp_path, cache)
    residency = report.runs[0].result.residency
    assert residency is not None
    assert 0 < residency.nodes_on_device < residency.nodes_total
    assert any("less than 5" in refusal.reason for refusal in residency.refusals)
    assert exit_code(report) == 1
    assert "not_resident" in {reason.code for reason in report.reasons}


@pytest.mark.parametrize(
    ("rewrites", "passes"),
    [
        ("split_qkv,rotate_half,pool_one_query", False),
        ("all", True),
        ("split_qkv,rotate_half,pool_one_query,row_layernorm", True),
    ],
)
def test_massive_activations_need_a_scaled_layernorm(
    gpu_device: Device, cache: Cache, tmp_path: Path, rewrites: str, passes: bool
) -> None:
    """This device keeps the sum but stores the square in fp16: |x - mean| past 256 is lost (facts.md)."""
    chosen = config({**GPU, "device": gpu_device.spec}, rewrites=rewrites, weights="massive:900@0")
    report, _ = run(chosen, tmp_path, cache)
    residency = report.runs[0].result.residency
    assert residency is not None
    assert residency.full
    assert report.runs[0].judgement.passed is passes, report.headline


def test_ablation_tells_what_each_rewrite_is_for(gpu_device: Device, cache: Cache, tmp_path: Path) -> None:
    chosen = config({**GPU, "weights_dtype": "float16", "device": gpu_device.spec}, weights="massive:900@0")
    report, _ = run(chosen, tmp_path, cache, ablate=True)
    outcomes = {row.left_out: row.outcome for row in report.ablations}
    assert outcomes["split_qkv"] == "refused"
    assert outcomes["pool_one_query"] == "refused"
    assert outcomes["safe_layernorm"] == "wrong"
    assert set(outcomes) == {"split_qkv", "rotate_half", "pool_one_query", "safe_layernorm"}
