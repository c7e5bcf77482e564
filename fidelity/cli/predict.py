"""`fidelity predict`: what a device's arithmetic will do to a model, before any device is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cli import options as o
from fidelity.cli.layernorm_sweep import layernorm_sweep
from fidelity.cli.lines import check_lines
from fidelity.errors import EXIT_FAIL, EXIT_PASS, BadInput

if TYPE_CHECKING:
    from fidelity.arithmetic.profile import Profile
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
    from fidelity.api.artefacts import predict as predict_artefact  # noqa: PLC0415
    from fidelity.api.artefacts import predict_model  # noqa: PLC0415
    from fidelity.comparison.policy import load_policy  # noqa: PLC0415
    from fidelity.gating.single import load_array  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    if sweep:
        return layernorm_sweep(what, profile or "", weights, images, o.names(inputs), seed, session)
    limits = load_policy(policy)
    if what.endswith(".json"):
        from fidelity.gating.predicting import judge_prediction  # noqa: PLC0415
        from fidelity.prediction.prediction import Prediction  # noqa: PLC0415

        prediction = judge_prediction(Prediction.read(Path(what)), limits)
    elif what.startswith("timm:") and reference is None:
        if input_file is not None:
            raise BadInput("--input is for a FILE: a SOURCE takes images")
        prediction = predict_model(
            what,
            profile=_profile(profile),
            weights=weights,
            rewrites=rewrites,
            weights_dtype=weights_dtype,
            policy=limits,
            inputs=o.names(inputs),
            images=images,
            seed=seed,
            reporter=session.reporter,
        )
    else:
        if what.startswith("timm:"):
            raise BadInput("--reference is for a FILE: a SOURCE is its own reference")
        if input_file is not None and reference is not None:
            raise BadInput("--input and --reference: a reference is known for the images alone")
        file = Path(what)
        prediction = predict_artefact(
            file,
            profile=_profile(profile),
            reference=reference,
            weights=weights,
            policy=limits,
            inputs=load_array(input_file, file) if input_file else o.names(inputs),
            images=images,
            goldens=goldens,
            seed=seed,
            reporter=session.reporter,
        )
    session.show(prediction, prediction_lines(prediction, None if verbose else _SHOWN))
    return EXIT_PASS if prediction.passed else EXIT_FAIL


def _profile(which: str | None) -> Profile:
    from fidelity.arithmetic.profile import load_profile, shipped  # noqa: PLC0415

    if which is None:
        raise BadInput(f"predict needs --profile, a JSON file or one of {', '.join(shipped())}")
    return load_profile(which)


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
