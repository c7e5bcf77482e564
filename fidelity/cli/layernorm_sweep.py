"""`fidelity predict SOURCE --sweep`: which LayerNorm scale this model needs, and where its outputs collapse."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fidelity.cli import options as o
from fidelity.errors import EXIT_FAIL, EXIT_PASS, BadInput
from fidelity.record import write_text

if TYPE_CHECKING:
    from fidelity.arithmetic.layernorm_sweep import Advice, CollapsePoint, LayerNormSweep, ScaleOutcome

CAVEAT = (
    "a correlation that has collapsed is that of a constant output: it depends on the LayerNorms' biases, "
    "and says nothing of its own about another checkpoint"
)


def layernorm_sweep(
    source: str,
    profile: str,
    weights: str,
    images: Path,
    inputs: tuple[str, ...] | None,
    seed: int,
    session: o.Session,
) -> int:
    """Sweep a source model under one profile, or several separated by commas, on the photographs.

    With an output NAME.json the figures are written beside it, as NAME-collapse.svg and NAME-scales.svg.
    0 when every profile has a scale that is safe for this model, 1 when one has none.
    """
    if not source.startswith("timm:"):
        raise BadInput(f"{source}: a sweep is of a SOURCE, timm:NAME; an artefact's scale is fixed")
    from fidelity.arithmetic.profile import load_profile  # noqa: PLC0415 - torch is an extra
    from fidelity.arithmetic.torch.sweep import sweep_layernorm  # noqa: PLC0415
    from fidelity.models.input_contract import input_contract  # noqa: PLC0415
    from fidelity.models.inputs import load_inputs  # noqa: PLC0415
    from fidelity.models.source import Source  # noqa: PLC0415
    from fidelity.report.layernorm_plot import collapse_plot, scales_plot  # noqa: PLC0415

    profiles = tuple(load_profile(name.strip()) for name in profile.split(",") if name.strip())
    if not profiles:
        raise BadInput("a sweep needs --profile, one or several separated by commas")
    found = load_inputs(images, input_contract(Source.parse(source).build()), seed=seed)
    names = inputs if inputs is not None else found.photographs
    result = sweep_layernorm(source, weights, profiles, found.only(names).arrays, seed, session.reporter)
    if session.output is not None:
        for name, svg in (("collapse", collapse_plot(result)), ("scales", scales_plot(result))):
            write_text(session.output.with_name(f"{session.output.stem}-{name}.svg"), svg)
    session.show(result, sweep_lines(result))
    return EXIT_PASS if all(advice.scale for advice in result.advice) else EXIT_FAIL


def sweep_lines(result: LayerNormSweep) -> list[str]:
    """The sweep for a person: by profile the scales, the advice and the collapse; then the caveat."""
    lines = [
        f"{result.source}, weights {result.weights}: {result.norms} norms, largest magnitude {result.peak:.1f}, "
        f"{len(result.inputs)} inputs"
    ]
    for advice in result.advice:
        name = advice.profile
        lines.append(f"under {name}, rows divided by:")
        lines += [_scale_line(each) for each in result.scales if each.profile == name]
        lines.append(f"  {advice_text(advice)}")
        lines += [_collapse_line(point) for point in result.collapse if point.profile == name]
    return [*lines, CAVEAT]


def advice_text(advice: Advice) -> str:
    """The advice as a sentence."""
    if not advice.scale:
        return "no scale is safe for this model under this profile"
    if advice.scale == "row":
        return f"no fixed scale is safe for this model; use the per-row scale ({advice.margin:.1f} bits of margin)"
    use = "use stock LayerNorm" if advice.scale == "none" else f"use {advice.scale}"
    return (
        f"safe for this model: {advice.least:g} to {advice.greatest:g}; {use}, "
        f"{advice.margin:.1f} bits from the nearer end"
    )


def _scale_line(each: ScaleOutcome) -> str:
    found = each.outcome
    return (
        f"  {found.scale:>5} {'safe' if each.safe else 'FAIL'}: {found.overflowing:.1%} of rows overflow, "
        f"{found.underflowing:.1%} underflow, headroom {found.headroom:.2f} bits at {each.at} ({found.tightest}), "
        f"worst error {found.worst_error:.2g} at {each.worst_at}"
    )


def _collapse_line(point: CollapsePoint) -> str:
    blocks = f", by block {' '.join(f'{value:.3f}' for value in point.blocks)}" if point.blocks else ""
    return (
        f"  peak {point.peak:.0f}, {point.form}: correlation {point.correlation:.6f} "
        f"[{point.worst:.6f}, {point.best:.6f}]{blocks}"
    )
