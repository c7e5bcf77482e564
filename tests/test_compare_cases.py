"""Synthetic runs that the tests of compare/ share, and a check that they look like the real ones."""

from __future__ import annotations

import numpy as np

from fidelity.comparison.comparison import Comparison, compare
from fidelity.comparison.expectation import Expectation, ProfileId, expected_outputs
from fidelity.comparison.judgement import Judgement
from fidelity.comparison.policy import Policy, load_policy
from fidelity.comparison.run_facts import RunFacts, RunKind
from fidelity.comparison.verdict import judge
from fidelity.devices.job import Residency

NAMES = ("astronaut", "black", "camera", "cat", "coffee", "noise", "rocket", "white")
PHOTOGRAPHS = ("astronaut", "camera", "cat", "coffee", "rocket")
POLICY = load_policy()
KINDS = tuple(run.kind for run in POLICY.runs)
GPU_FP16 = RunKind(device="gpu", precision="fp16", weights="float16")
CPU_FP32 = RunKind(device="cpu", precision="fp32", weights="float32")
FULL = Residency(nodes_on_device=817, nodes_total=817, partitions=1, source="test")

Arrays = dict[str, dict[str, np.ndarray]]


def references(*, width: int = 1024, seed: int = 7) -> Arrays:
    """Unit float64 [1, width] embeddings, half of whose energy is common to all inputs."""
    generator = np.random.default_rng(seed)
    common = generator.standard_normal(width)
    rows = {name: common + generator.standard_normal(width) for name in NAMES}
    return {name: {"embedding": (row / np.linalg.norm(row))[None]} for name, row in rows.items()}


def as_run(arrays: Arrays) -> Arrays:
    """What a device with perfect arithmetic would return: the reference, rounded to float32."""
    return {name: {key: a.astype(np.float32) for key, a in keyed.items()} for name, keyed in arrays.items()}


def with_noise(arrays: Arrays, error: float, *, seed: int = 11) -> Arrays:
    """The arrays with normally distributed noise of relative L2 error `error`, in float32."""
    generator = np.random.default_rng(seed)
    noisy: Arrays = {}
    for name, keyed in arrays.items():
        noisy[name] = {}
        for key, array in keyed.items():
            noise = generator.standard_normal(array.shape)
            noise *= error * np.linalg.norm(array) / np.linalg.norm(noise)
            noisy[name][key] = (array + noise).astype(np.float32)
    return noisy


def facts(kind: RunKind = GPU_FP16, **changes: object) -> RunFacts:
    """The facts of a run without fault."""
    sound: dict[str, object] = {
        "device_asked": kind.device,
        "kind": kind,
        "status": "ok",
        "precision_asked": "fp32" if kind.device == "gpu" and kind.precision == "fp32" else "default",
        "residency": FULL if kind.device == "gpu" else None,
        "asked": NAMES,
        "deterministic": dict.fromkeys(NAMES, True),
        "model_sha256_asked": "ab" * 32,
        "model_sha256_had": "ab" * 32,
    }
    return RunFacts.model_validate(sound | changes)


def verdict(
    actual: Arrays,
    reference: Arrays | None = None,
    *,
    kind: RunKind = GPU_FP16,
    policy: Policy = POLICY,
    expected: Arrays | None = None,
    **changes: object,
) -> Judgement:
    """compare, then judge, with everything else in order; `expected` is what the emulation gives."""
    of = None if expected is None else expectation(actual, expected, reference)
    return judge(measured(actual, reference), facts(kind, **changes), policy, expectation=of)


def expectation(actual: Arrays, expected: Arrays, reference: Arrays | None = None, **changes: object) -> Expectation:
    """What the gate records of a run with these expected outputs."""
    truth = references() if reference is None else reference
    profile = ProfileId(name="gpu-of-the-tests", sha256="ef" * 32, measured=True)
    rows = expected_outputs(actual, expected, truth, truth)
    whole = Expectation(profile=profile, outputs=rows, comparison=measured(expected, reference))
    return whole.model_copy(update=changes)


def measured(actual: Arrays, reference: Arrays | None = None) -> Comparison:
    """compare against the standard references."""
    given = references() if reference is None else reference
    return compare(actual, given, [name for name in PHOTOGRAPHS if name in given])


def codes(judgement: Judgement, severity: str = "fail") -> set[str]:
    """Codes of the findings of one severity."""
    return {finding.code for finding in judgement.findings if finding.severity == severity}


def failed_metrics(judgement: Judgement) -> set[str]:
    """Metrics whose limit did not hold."""
    return {check.metric for check in judgement.checks if not check.passed}


def test_the_references_have_the_common_component_of_real_embeddings() -> None:
    # 0.53 was measured between photographs for the reference model (facts: mean correlation)
    rows = np.concatenate([keyed["embedding"] for keyed in references().values()])
    off_diagonal = np.corrcoef(rows)[~np.eye(len(rows), dtype=bool)]
    assert 0.4 < off_diagonal.mean() < 0.6
