"""For the test suites of other projects: an artefact is as faithful as its device's arithmetic allows.

from fidelity.testing import assert_faithful

def test_the_tower(gpu_device):  # the fixture of fidelity's pytest plugin
    assert_faithful("tower.tflite", my_module, device=gpu_device.spec)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fidelity.api.artefacts import compare
from fidelity.api.given import GOLDENS, IMAGES, Inputs, StrPath, Truth
from fidelity.arithmetic.profile import Profile
from fidelity.comparison.policy import Policy
from fidelity.devices.job import Precision
from fidelity.models.label_set import LabelSet
from fidelity.report.unfaithful import unfaithful

if TYPE_CHECKING:
    from torch import nn

    from fidelity.report.document import DeviceRun


def assert_faithful(
    artefact: StrPath,
    reference: str | nn.Module | Truth,
    *,
    weights: str = "seeded",
    device: str = "cpu",
    precision: Precision = "default",
    policy: str | Policy = "default",
    profile: str | Profile | None = None,
    inputs: Inputs = None,
    labels: StrPath | LabelSet | None = None,
    images: StrPath = IMAGES,
    goldens: StrPath = GOLDENS,
    seed: int = 0,
) -> DeviceRun:
    """Passes when `fidelity.compare` of the same arguments does, and gives its `DeviceRun`.

    Args: as in `fidelity.compare`.

    Raises:
        AssertionError: the run fails the policy. The message names the artefact, the device and what is wrong; for
            every failing output its mismatched elements, the greatest absolute and relative difference with input and
            index, and what was allowed; the error over the expected one; residency with refusals; and the command
            that finds the operator.
        BadInput, EnvironmentMissing: as `fidelity.compare`: a device that is not here fails the test.
    """
    __tracebackhide__ = True
    run = compare(
        Path(artefact),
        reference=reference,
        weights=weights,
        device=device,
        precision=precision,
        policy=policy,
        profile=profile,
        inputs=inputs,
        labels=labels,
        images=images,
        goldens=goldens,
        seed=seed,
    )
    if not run.judgement.passed:
        raise AssertionError(unfaithful(Path(artefact), run, told_as(reference)))
    return run


def told_as(reference: str | nn.Module | Truth) -> str:
    """The reference in a word or two, as a person would call it."""
    if isinstance(reference, str):
        return reference
    name = type(reference).__name__
    return "the given outputs" if name in ("dict", "mappingproxy") else f"the module {name}"
