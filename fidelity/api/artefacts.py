"""`predict`, `run`, `compare` and `locate`: what is done with a .tflite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fidelity.api.given import GOLDENS, IMAGES, Inputs, StrPath, Truth, inputs_of, reference_of, subject_of_model
from fidelity.api.sources import cache_for
from fidelity.arithmetic.profile import Profile, load_profile
from fidelity.cache import Cache
from fidelity.comparison.policy import Policy, load_policy
from fidelity.devices.discovery import resolve
from fidelity.devices.job import Precision
from fidelity.gating.config import RunPlan
from fidelity.gating.execution import Execution
from fidelity.gating.locating import Asked, Known, answered, locate_and_pack
from fidelity.gating.predicting import Against, predict_artefact, truth_in_cache
from fidelity.gating.single import Reference, check_same_weights, compare_once, run_once
from fidelity.models.inputs import InputSet
from fidelity.models.label_set import LabelSet, read_label_set
from fidelity.prediction.prediction import Prediction
from fidelity.progress import Reporter, quiet
from fidelity.tflite.graph import read_graph
from fidelity.tflite.manifest import WeightsDtype, manifest_path, read_manifest, weights_dtype_of

if TYPE_CHECKING:
    from torch import nn

    from fidelity.localisation.records import Located
    from fidelity.report.document import DeviceRun


def predict(
    artefact: StrPath,
    *,
    profile: str | Profile,
    reference: str | nn.Module | Truth | None = None,
    weights: str = "seeded",
    policy: str | Policy = "default",
    inputs: Inputs = None,
    images: StrPath = IMAGES,
    goldens: StrPath = GOLDENS,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Prediction:
    """What a device's arithmetic will do to an artefact, before any device is there.

    Args:
        artefact: a .tflite of one image input and one output.
        profile: a shipped arithmetic profile by name, a profile's JSON file, or a `Profile`.
        reference: `timm:NAME`, `golden:NAME`, a module, or float64 outputs [1, D] by input; None judges overflow alone.
        weights, seed: of a `timm:` reference, as in `prove`.
        policy: `default`, a policy's TOML file, or a `Policy`.
        inputs, images: as in `run`.
        goldens: folder of the goldens.

    Returns:
        `Prediction`: `.passed`; `.expected.sites` with headroom in bits, the most dangerous first; `.expected
        .first_overflow`; `.comparison` with the reference (relative L2 and the other metrics, worst input).

    Raises:
        BadInput: an artefact, profile, reference or array that is wrong, or made from other weights.

    Source of the arithmetic: measured on the device by `fidelity reveal`, or declared, as the profile says.
    """
    path, arithmetic, limits = Path(artefact), given_profile(profile), given_policy(policy)
    chosen = inputs_of(path, inputs, images, seed)
    against = None
    if reference is not None:
        found = reference_of(reference, chosen, weights, seed, goldens)
        check_same_weights(path, found)
        against = Against(found.truth, chosen.photographs, found.name)
    return _predicted(path, chosen, arithmetic, against, limits, reporter)


def predict_model(
    model: str | nn.Module,
    *,
    profile: str | Profile,
    weights: str = "seeded",
    rewrites: str = "all",
    weights_dtype: WeightsDtype = "float16",
    policy: str | Policy = "default",
    inputs: Inputs = None,
    images: StrPath = IMAGES,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Prediction:
    """`predict` for a model: rewritten and converted first, and held against its own float64 outputs.

    Args: as in `convert` and `predict`. Raises: as these do.
    """
    from fidelity.gating.artefacts import make_artefact  # noqa: PLC0415 - torch is an extra
    from fidelity.rewrites.catalogue import chosen, chosen_for  # noqa: PLC0415

    arithmetic, limits = given_profile(profile), given_policy(policy)
    chosen(rewrites)  # a misspelt name is told before a model is built
    subject = subject_of_model(model, weights, inputs, images, seed)
    selected = chosen_for(rewrites, subject.model)
    with cache_for(model) as cache:
        with (reporter or quiet()).stage("convert", 4) as step:
            artefact = make_artefact(subject, selected, weights_dtype, cache, step)
        with (reporter or quiet()).stage("truth", 1) as step:
            step("float64")
            outputs = truth_in_cache(subject, cache)
        against = Against(outputs, subject.inputs.photographs, subject.record.source)
        return _predicted(artefact, subject.inputs, arithmetic, against, limits, reporter)


def run(
    artefact: StrPath,
    *,
    device: str = "cpu",
    precision: Precision = "default",
    inputs: Inputs = None,
    images: StrPath = IMAGES,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> Execution:
    """One execution in a process of its own.

    Args:
        artefact: a .tflite of one input.
        device: `cpu`, `gpu`, `gpu:<adapter>`, `android:<serial>` or `android:<serial>/cpu`.
        precision: `default` (fp16 where the GPU has it), `fp16`, `fp32` or `fp16-accumulate-fp32`.
        inputs: arrays of the artefact's shape and dtype by a name of yours; or names of photographs and stress images,
            which are scaled as the manifest says; None is all of these.
        images: folder of photographs with a provenance.json. seed: of the stress images.

    Returns:
        `Execution`: `.outputs[input][output]` as the device gave them; `.result` with `.status` (anything but `ok` has
        `.error`), `.precision_had`, `.residency` and its refusals, `.timing` in seconds, `.peak_memory_bytes`.

    Raises:
        BadInput: an artefact, array or device word that is wrong. EnvironmentMissing: the device is not here.
    """
    path = Path(artefact)
    chosen = inputs_of(path, inputs, images, seed)
    with (reporter or quiet()).stage(f"run on {device}", 1) as step:
        return run_once(path, device, precision, chosen.arrays, Cache(), step)


def compare(
    artefact: StrPath,
    *,
    reference: str | nn.Module | Truth,
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
    reporter: Reporter | None = None,
) -> DeviceRun:
    """Does this artefact, on this device, match PyTorch in float64 as well as its arithmetic allows?

    Args:
        artefact, device, precision, inputs, images: as in `run`.
        reference: `timm:NAME`, `golden:NAME`, a float32 module in eval mode (its output is L2-normalised, as the
            artefact's is), or the float64 outputs [1, D] by input name, as the artefact should give them.
        goldens: folder of the goldens.
        weights, seed: of a `timm:` reference, as in `prove`.
        policy: `default`, a policy's TOML file, or a `Policy`.
        profile: the device's arithmetic; None is the measured one of its driver, where there is one.
        labels: what `fidelity labels` wrote: are images called the same, and found?

    Returns:
        `DeviceRun`: `.judgement.passed` and `.judgement.findings` in sentences; `.comparison` (every metric at every
        input); `.expected` (error over the expected error, share of identical bits); `.rankings` where labels were
        given; `.result` as in `run`.

    Raises:
        BadInput: as in `run`, or an artefact that was made from other weights. EnvironmentMissing: no such device.
    """
    path, limits = Path(artefact), given_policy(policy)
    arithmetic = None if profile is None else given_profile(profile)
    chosen = inputs_of(path, inputs, images, seed)
    found = reference_of(reference, chosen, weights, seed, goldens)
    known = labels if labels is None or isinstance(labels, LabelSet) else read_label_set(Path(labels))
    dtype = weights_dtype_of(read_graph(path))
    plan = RunPlan(label=f"{device} {precision}", device=device, precision=precision, weights_dtype=dtype)
    with (reporter or quiet()).stage(f"run on {device}", 1) as step:
        return compare_once(path, plan, chosen, found, limits, Cache(), step, arithmetic, known)


def locate(
    artefact: StrPath,
    *,
    reference: str | nn.Module | Truth | None = None,
    weights: str = "seeded",
    device: str = "gpu",
    precision: Precision = "default",
    policy: str | Policy = "default",
    profile: str | Profile | None = None,
    inputs: Inputs = ("astronaut",),
    images: StrPath = IMAGES,
    goldens: StrPath = GOLDENS,
    seed: int = 0,
    folder: StrPath | None = None,
    look: bool = False,
    reporter: Reporter | None = None,
) -> Located:
    """Where does the first wrong number come from, and whose fault is it?

    Args:
        artefact, device, precision, inputs, images: as in `run`; of several inputs the worst is traced.
        reference, goldens: as in `compare`; None takes the artefact itself in float32 for the truth.
        weights, seed, policy, profile: as in `compare`.
        folder: an existing folder, into which the repro pack is written as `repro`; None writes nothing.
        look: trace even where nothing is wrong.

    Returns:
        `Located`: `.kind` (`right`, `expected`, `overflow`, `compounding`, `layout-or-fusion`, `kernel`, `converter`,
        `fallback`, `unlocated`), `.culprit`, `.evidence` in sentences, `.cure`, `.overflow` with headroom in bits,
        `.trace` (errors are relative L2), `.device_runs`.

    Raises:
        BadInput: as in `compare`. EnvironmentMissing: no such device, or lost (the same call goes on from there).
    """
    arithmetic = None if profile is None else given_profile(profile)
    path = Path(artefact)
    asked = Asked(path, resolve(device), precision, given_policy(policy), arithmetic)
    chosen = inputs_of(path, inputs, images, seed)
    known = None
    if reference is not None:
        known = known_of(path, reference_of(reference, chosen, weights, seed, goldens))
    with (reporter or quiet()).stage(f"locate on {device}", len(chosen.arrays) + 2) as step:
        if folder is not None:
            return locate_and_pack(asked, chosen.arrays, known, Cache(), step, Path(folder), look=look)
        with answered(asked, chosen.arrays, known, Cache(), step, look=look) as answer:
            return answer.located


def known_of(artefact: Path, found: Reference) -> Known:
    """The reference; of a model also the tower, with the rewrites that the manifest names."""
    check_same_weights(artefact, found)
    if found.subject is None:
        return Known(found.name, found.truth)
    from fidelity.gating.artefacts import tower_of  # noqa: PLC0415 - torch is an extra
    from fidelity.rewrites.catalogue import chosen_for  # noqa: PLC0415

    rewrites = "all"
    if manifest_path(artefact).is_file():
        rewrites = ",".join(each.name for each in read_manifest(artefact).provenance.rewrites) or "none"
    return Known(found.name, found.truth, tower_of(found.subject, chosen_for(rewrites, found.subject.model)))


def given_profile(profile: str | Profile) -> Profile:
    """A profile by name or file, or as it is. Raises BadInput."""
    return load_profile(profile) if isinstance(profile, str) else profile


def given_policy(policy: str | Policy) -> Policy:
    """A policy by name or file, or as it is. Raises BadInput."""
    return load_policy(policy) if isinstance(policy, str) else policy


def _predicted(
    artefact: Path,
    inputs: InputSet,
    profile: Profile,
    against: Against | None,
    policy: Policy,
    reporter: Reporter | None,
) -> Prediction:
    with (reporter or quiet()).stage(f"emulate {profile.name}", len(inputs.arrays)) as step:
        return predict_artefact(artefact, inputs.arrays, profile, against, policy, Cache(), step)[0]
