"""`fidelity gate` and `fidelity compare`: the verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cache import Cache
from fidelity.cli import options as o
from fidelity.cli.lines import check_lines, ranking_line
from fidelity.cli.run import result_lines
from fidelity.errors import EXIT_ENVIRONMENT, EXIT_FAIL, EXIT_PASS, BadInput

if TYPE_CHECKING:
    from fidelity.gating.config import GateConfig
    from fidelity.report.document import DeviceRun, GateReport

ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="The device's arithmetic; else the measured one of its driver.")
]
PolicyOption = Annotated[str, typer.Option("--policy", help="default, or a policy TOML file.")]
LabelsOption = Annotated[
    Path | None, typer.Option("--labels", help="What fidelity labels wrote: are images called the same, and found?")
]
REPORTS = Path("reports")


def gate(
    config: Annotated[Path | None, typer.Argument(help="A TOML file; without one, PE-Core B/16.")] = None,
    source: Annotated[str | None, typer.Option(help="Override the configuration's source.")] = None,
    weights: Annotated[str | None, typer.Option(help="Override its weights.")] = None,
    rewrites: Annotated[str | None, typer.Option(help="Override its rewrites.")] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="Only runs on such devices, and on each of them; may be repeated.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Override its folder of photographs.")] = None,
    inputs: o.Inputs = None,
    labels: LabelsOption = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Override its seed.")] = None,
    policy: PolicyOption = "default",
    profile: ProfileOption = None,
    stored: Annotated[Path | None, typer.Option("--from", help="Judge this stored run again.")] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help="Leave each rewrite out in turn.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder of cached results.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the reports.")] = REPORTS,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """May this artefact be released? Proves, converts, audits, runs, judges and reports."""
    from fidelity.arithmetic.profile import load_profile  # noqa: PLC0415
    from fidelity.comparison.policy import load_policy  # noqa: PLC0415
    from fidelity.gating.config import load_config, overridden  # noqa: PLC0415
    from fidelity.gating.whole import gate_again, gate_whole  # noqa: PLC0415 - loads torch when it must

    session = o.Session(json, verbose, None)
    limits = load_policy(policy)
    if stored is not None and profile is not None:
        raise BadInput("--from judges by the expected outputs that the run has stored: leave --profile out")
    if stored is not None:
        report, folder = gate_again(stored, limits, output, session.reporter)
    else:
        changes = {
            "source": source,
            "weights": weights,
            "rewrites": rewrites,
            "seed": seed,
            "only": o.names(inputs),
            "labels": None if labels is None else str(labels),
        }
        chosen: GateConfig = overridden(load_config(config), changes, images, device or None)
        arithmetic = None if profile is None else load_profile(profile)
        report, folder = gate_whole(
            chosen, limits, output, Cache(cache), session.reporter, ablate=ablate, profile=arithmetic
        )
    session.show(report, [*gate_lines(report), f"report: {folder / 'index.html'}"])
    return exit_code(report)


def exit_code(report: GateReport) -> int:
    """0 pass; 3 when all that is missing is a device; 1 otherwise."""
    if report.passed:
        return EXIT_PASS
    only_devices = all(r.stage == "devices" for r in report.reasons if r.severity == "fail")
    return EXIT_ENVIRONMENT if only_devices else EXIT_FAIL


def gate_lines(report: GateReport) -> list[str]:
    """The verdict for a terminal: one line a run, then every reason, then the headline."""
    lines = [line for run in report.runs for line in (run_line(run), *map(ranking_line, run.rankings))]
    lines += [f"{each.label:12} NOT TESTED: {each.reason}" for each in report.not_tested]
    lines += [f"without {a.left_out}, {a.device}: {a.outcome}: {a.why}" for a in report.ablations]
    lines += [f"{reason.severity}: {reason.message}" for reason in report.reasons if reason.severity != "note"][:20]
    return [*lines, f"{'PASS' if report.passed else 'FAIL'}: {report.headline}"]


def run_line(run: DeviceRun) -> str:
    """Label, residency, worst correlation, steady time and verdict of one run."""
    from fidelity.gating.reasons import against_expected, worst_correlation  # noqa: PLC0415

    r = run.result.residency
    nodes = f"{r.nodes_on_device}/{r.nodes_total} nodes" if r else "residency not known"
    verdict = "pass" if run.judgement.passed else "FAIL"
    expected = against_expected(run)
    return (
        f"{run.label:12} {verdict:4} {nodes}, {run.result.precision_had}, worst correlation "
        f"{worst_correlation(run)}, {len(run.comparison.outputs)} inputs{f', {expected}' if expected else ''}"
    )


def compare(
    file: o.Artefact,
    reference: Annotated[str, typer.Option(help="timm:NAME or golden:NAME")],
    weights: o.Weights = "seeded",
    device: o.Device = "cpu",
    precision: o.Precision = "default",
    policy: PolicyOption = "default",
    profile: ProfileOption = None,
    images: o.Images = o.IMAGES,
    inputs: o.Inputs = None,
    labels: LabelsOption = None,
    goldens: Annotated[Path, typer.Option(help="Folder of the goldens.")] = Path("golden"),
    seed: o.Seed = 0,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Does this artefact, on this device, match PyTorch in float64?"""
    from fidelity.api.artefacts import compare as run_comparison  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    compared = run_comparison(
        file,
        reference=reference,
        weights=weights,
        device=device,
        precision=precision,
        policy=policy,
        profile=profile,
        inputs=o.names(inputs),
        labels=labels,
        images=images,
        goldens=goldens,
        seed=seed,
        reporter=session.reporter,
    )
    session.show(compared, compare_lines(compared))
    return EXIT_PASS if compared.judgement.passed else EXIT_FAIL


def compare_lines(run: DeviceRun) -> list[str]:
    """How it ran, every limit with its worst figure, the findings."""
    return [*result_lines(run.result), run_line(run), *map(ranking_line, run.rankings), *check_lines(run.judgement)]
