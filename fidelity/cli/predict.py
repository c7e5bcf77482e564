"""`fidelity predict`: what a device's arithmetic will do to a model, before any device is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import typer
from numpy.typing import NDArray

from fidelity.cache import Cache
from fidelity.cli import options as o
from fidelity.cli.lines import check_lines
from fidelity.cli.sweep import sweep as layernorm_sweep
from fidelity.errors import EXIT_FAIL, EXIT_PASS, BadInput

if TYPE_CHECKING:
    from fidelity.arithmetic.profile import Profile
    from fidelity.comparison.policy import Policy
    from fidelity.gating.predicting import Against
    from fidelity.prediction.prediction import Prediction
    from fidelity.prediction.site import Site

_SHOWN = 10


def predict(
    what: Annotated[str, typer.Argument(metavar="SOURCE|FILE", help="timm:NAME, a .tflite, or a stored prediction.")],
    profile: Annotated[str | None, typer.Option(help="A shipped profile by name, or a profile's JSON file.")] = None,
    reference: Annotated[str | None, typer.Option(help="timm:NAME or golden:NAME; a SOURCE is its own.")] = None,
    weights: o.Weights = "seeded",
    rewrites: o.Rewrites = "all",
    weights_dtype: o.ArtefactDtype = "float16",
    policy: Annotated[str, typer.Option("--policy", help="default, or a policy TOML file.")] = "default",
    input_file: Annotated[Path | None, typer.Option("--input", help="A .npy for the model's input.")] = None,
    images: o.Images = o.IMAGES,
    inputs: o.Inputs = None,
    goldens: Annotated[Path, typer.Option(help="Folder of the goldens.")] = Path("golden"),
    sweep: Annotated[bool, typer.Option("--sweep", help="Which LayerNorm scale does this SOURCE need?")] = False,
    seed: o.Seed = 0,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Expected error, headroom at every site, the first overflow, and a verdict; no device is asked."""
    from fidelity.comparison.policy import load_policy  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    if sweep:
        return layernorm_sweep(what, profile or "", weights, images, o.names(inputs), seed, session)
    limits = load_policy(policy)
    if what.endswith(".json"):
        from fidelity.gating.predicting import judge_prediction  # noqa: PLC0415
        from fidelity.prediction.prediction import Prediction  # noqa: PLC0415

        prediction = judge_prediction(Prediction.read(Path(what)), limits)
    else:
        choice = Choice(reference, weights, rewrites, weights_dtype, input_file, images, o.names(inputs), goldens, seed)
        arithmetic = _profile(profile)
        case = _source(what, choice, session) if what.startswith("timm:") else _file(Path(what), choice)
        prediction = _predicted(case, arithmetic, limits, session)
    session.show(prediction, prediction_lines(prediction, None if verbose else _SHOWN))
    return EXIT_PASS if prediction.passed else EXIT_FAIL


@dataclass(frozen=True)
class Choice:
    """The options that say what is predicted, on which inputs, against what."""

    reference: str | None
    weights: str
    rewrites: str
    weights_dtype: Literal["float32", "float16"]
    input_file: Path | None
    images: Path
    names: tuple[str, ...] | None
    goldens: Path
    seed: int


@dataclass(frozen=True)
class Case:
    """An artefact with its inputs and the truth about them, where there is one."""

    artefact: Path
    inputs: Mapping[str, NDArray[np.float32]]
    against: Against | None


def _profile(which: str | None) -> Profile:
    from fidelity.arithmetic.profile import load_profile, shipped  # noqa: PLC0415

    if which is None:
        raise BadInput(f"predict needs --profile, a JSON file or one of {', '.join(shipped())}")
    return load_profile(which)


def _source(source: str, choice: Choice, session: o.Session) -> Case:
    """The source model, converted (or taken from the cache); it is its own reference unless another is given."""
    from fidelity.gating.artefacts import make_artefact  # noqa: PLC0415 - torch is an extra
    from fidelity.gating.predicting import Against, truth_in_cache  # noqa: PLC0415
    from fidelity.models.subject import build_subject  # noqa: PLC0415
    from fidelity.rewrites.catalogue import chosen  # noqa: PLC0415

    if choice.input_file is not None:
        raise BadInput("--input is for a FILE: a SOURCE takes images")
    selected = chosen(choice.rewrites)
    subject = build_subject(source, choice.weights, choice.seed, choice.images, choice.names)
    with session.reporter.stage("convert", 4) as step:
        artefact = make_artefact(subject, selected, choice.weights_dtype, Cache(), step)
    photographs = subject.inputs.photographs
    if choice.reference is not None:
        return Case(artefact, subject.inputs.arrays, _reference(choice.reference, artefact, choice, photographs))
    with session.reporter.stage("truth", 1) as step:
        step("float64")
        against = Against(truth_in_cache(subject, Cache()), photographs, source)
    return Case(artefact, subject.inputs.arrays, against)


def _file(file: Path, choice: Choice) -> Case:
    from fidelity.gating.single import image_input, image_inputs, load_array  # noqa: PLC0415

    taken = image_input(file)
    if choice.input_file is not None:
        if choice.reference is not None:
            raise BadInput("--input and --reference: a reference is known for the images alone")
        return Case(file, load_array(choice.input_file, taken), None)
    found = image_inputs(taken, choice.images, choice.names, choice.seed)
    against = None if choice.reference is None else _reference(choice.reference, file, choice, found.photographs)
    return Case(file, found.arrays, against)


def _reference(text: str, artefact: Path, choice: Choice, photographs: tuple[str, ...]) -> Against:
    from fidelity.gating.predicting import Against  # noqa: PLC0415
    from fidelity.gating.references import find_reference  # noqa: PLC0415
    from fidelity.gating.single import check_same_weights  # noqa: PLC0415

    found = find_reference(text, choice.weights, choice.seed, choice.images, choice.names, choice.goldens)
    check_same_weights(artefact, found)
    return Against(found.truth, photographs, found.name)


def _predicted(case: Case, profile: Profile, policy: Policy, session: o.Session) -> Prediction:
    from fidelity.gating.predicting import predict_artefact  # noqa: PLC0415

    with session.reporter.stage(f"emulate {profile.name}", len(case.inputs)) as step:
        return predict_artefact(case.artefact, case.inputs, profile, case.against, policy, Cache(), step)[0]


def prediction_lines(prediction: Prediction, shown: int | None) -> list[str]:
    """The sites in danger (the first `shown` of them), every limit with its worst figure, the verdict."""
    expected, profile = prediction.expected, prediction.expected.profile
    kind = "measured" if profile.measured else "declared"
    sites = len(expected.sites)
    lines = [
        f"{expected.model}, {prediction.weights_dtype} weights, under {profile.name} ({kind}): "
        f"{len(expected.inputs)} inputs, {sites} sites",
        "headroom in bits, most dangerous first:",
    ]
    lines += [f"  {site_bits(site)}  {site.told()}" for site in expected.sites[:shown]]
    left = sites - len(expected.sites[:shown])
    if left:
        lines.append(f"  ... and {left} more (-v shows all)")
    if prediction.comparison is not None:
        errors = [(r.metrics["relative_l2"], r.input) for r in prediction.comparison.outputs if not r.undefined]
        if errors:
            worst, at = max(errors)
            lines.append(f"expected error, relative L2 against {prediction.reference}: worst {worst:.4g} ({at})")
    return [*lines, *check_lines(prediction.judgement)]


def site_bits(site: Site) -> str:
    """A site's headroom in seven characters, or that it has none."""
    return "  OVER " if site.overflows else f"{site.headroom:7.2f}"
