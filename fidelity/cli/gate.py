"""`fidelity gate` and `fidelity compare`: the verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cache import Cache
from fidelity.cli import options as o
from fidelity.cli.devices import result_lines
from fidelity.errors import EXIT_ENVIRONMENT, EXIT_FAIL, EXIT_PASS

if TYPE_CHECKING:
    from fidelity.gate.config import GateConfig
    from fidelity.report.document import DeviceRun, GateReport

PolicyOption = Annotated[str, typer.Option("--policy", help="default, or a policy TOML file.")]
REPORTS = Path("reports")


def gate(
    config: Annotated[Path | None, typer.Argument(help="A TOML file; without one, PE-Core B/16.")] = None,
    source: Annotated[str | None, typer.Option(help="Override the configuration's source.")] = None,
    weights: Annotated[str | None, typer.Option(help="Override its weights.")] = None,
    rewrites: Annotated[str | None, typer.Option(help="Override its rewrites.")] = None,
    device: Annotated[str | None, typer.Option(help="Only the runs on this kind of device.")] = None,
    images: Annotated[Path | None, typer.Option(help="Override its folder of photographs.")] = None,
    inputs: o.Inputs = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Override its seed.")] = None,
    policy: PolicyOption = "default",
    stored: Annotated[Path | None, typer.Option("--from", help="Judge this stored run again.")] = None,
    ablate: Annotated[bool, typer.Option("--ablate", help="Leave each rewrite out in turn.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder of cached results.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the reports.")] = REPORTS,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """May this artefact be released? Proves, converts, audits, runs, judges and reports."""
    from fidelity.compare.policy import load_policy  # noqa: PLC0415
    from fidelity.gate.config import load_config, overridden  # noqa: PLC0415
    from fidelity.gate.whole import gate_again, gate_whole  # noqa: PLC0415 - loads torch when it must

    session = o.Session(json, verbose, None)
    limits = load_policy(policy)
    if stored is not None:
        report, folder = gate_again(stored, limits, output, session.reporter)
    else:
        changes = {
            "source": source,
            "weights": weights,
            "rewrites": rewrites,
            "seed": seed,
            "only": o.names(inputs),
        }
        chosen: GateConfig = overridden(load_config(config), changes, images, device)
        report, folder = gate_whole(chosen, limits, output, Cache(cache), session.reporter, ablate=ablate)
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
    lines = [run_line(run) for run in report.runs]
    lines += [f"{each.label:12} NOT TESTED: {each.reason}" for each in report.not_tested]
    lines += [f"without {a.left_out}, {a.device}: {a.outcome}: {a.why}" for a in report.ablations]
    lines += [f"{reason.severity}: {reason.message}" for reason in report.reasons if reason.severity != "note"][:20]
    return [*lines, f"{'PASS' if report.passed else 'FAIL'}: {report.headline}"]


def run_line(run: DeviceRun) -> str:
    """Label, residency, worst correlation, steady time and verdict of one run."""
    from fidelity.gate.reasons import worst_correlation  # noqa: PLC0415

    r = run.result.residency
    nodes = f"{r.nodes_on_device}/{r.nodes_total} nodes" if r else "residency not known"
    verdict = "pass" if run.judgement.passed else "FAIL"
    return (
        f"{run.label:12} {verdict:4} {nodes}, {run.result.precision_had}, worst correlation "
        f"{worst_correlation(run)}, {len(run.comparison.outputs)} inputs"
    )


def compare(
    file: o.Artefact,
    reference: Annotated[str, typer.Option(help="timm:NAME or golden:NAME")],
    weights: o.Weights = "seeded",
    device: o.Device = "cpu",
    precision: o.Precision = "default",
    policy: PolicyOption = "default",
    images: o.Images = o.IMAGES,
    inputs: o.Inputs = None,
    goldens: Annotated[Path, typer.Option(help="Folder of the goldens.")] = Path("golden"),
    seed: o.Seed = 0,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Does this artefact, on this device, match PyTorch in float64?"""
    from fidelity.compare.policy import load_policy  # noqa: PLC0415
    from fidelity.gate.config import RunPlan  # noqa: PLC0415
    from fidelity.gate.references import find_reference  # noqa: PLC0415
    from fidelity.gate.single import compare_once, image_input, image_inputs  # noqa: PLC0415
    from fidelity.tflite.graph import read_graph  # noqa: PLC0415
    from fidelity.tflite.manifest import weights_dtype_of  # noqa: PLC0415

    session = o.Session(json, verbose, output)
    limits = load_policy(policy)
    chosen = image_inputs(image_input(file), images, o.names(inputs), seed)
    found = find_reference(reference, weights, seed, images, o.names(inputs), goldens)
    dtype = weights_dtype_of(read_graph(file))
    plan = RunPlan(label=f"{device} {precision}", device=device, precision=precision, weights_dtype=dtype)
    with session.reporter.stage(f"run on {device}", 1) as step:
        compared = compare_once(file, plan, chosen, found, limits, Cache(), step)
    session.show(compared, compare_lines(compared))
    return EXIT_PASS if compared.judgement.passed else EXIT_FAIL


def compare_lines(run: DeviceRun) -> list[str]:
    """How it ran, every limit with its worst figure (the smallest limit that would pass), the findings."""
    lines = [*result_lines(run.result), run_line(run)]
    for check in run.judgement.checks:
        worst = "undefined" if check.worst is None else f"{check.worst:.9g}"
        bounds = (check.limit.at_least, check.limit.at_most)
        allowed = " to ".join("..." if bound is None else f"{bound:g}" for bound in bounds)
        mark = "ok  " if check.passed else "FAIL"
        lines.append(f"  {mark} {check.metric:26} {worst:>14}  allowed {allowed}  at {', '.join(check.inputs) or '-'}")
    lines += [f"{finding.severity}: {finding.message}" for finding in run.judgement.findings]
    return [*lines, "PASS" if run.judgement.passed else "FAIL"]
