"""`fidelity convert` and `fidelity audit`: make an artefact, and look at one without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cli import options as o
from fidelity.errors import EXIT_FAIL, EXIT_PASS

if TYPE_CHECKING:
    from fidelity.tflite.audit import AuditReport

_SHOWN = 12


def convert(
    source: o.Source,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .tflite file to write.")],
    weights: o.Weights = "seeded",
    rewrites: o.Rewrites = "all",
    weights_dtype: o.ArtefactDtype = "float16",
    images: o.Images = o.IMAGES,
    seed: o.Seed = 0,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Convert a source model to a .tflite, with its manifest beside it."""
    from fidelity.api.sources import convert as run_conversion  # noqa: PLC0415

    session = o.Session(json, verbose, None)
    manifest = run_conversion(
        source,
        output,
        weights=weights,
        rewrites=rewrites,
        weights_dtype=weights_dtype,
        images=images,
        seed=seed,
        reporter=session.reporter,
    )
    lines = [
        f"{output}: {manifest.file_size:,} bytes, {weights_dtype} weights, {sum(manifest.census.values())} nodes",
        f"sha256 {manifest.sha256}",
    ]
    session.show(manifest, lines)
    return EXIT_PASS


def audit(
    file: o.Artefact,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """What the GPU delegate will refuse or get wrong, by looking at the graph alone."""
    from fidelity.tflite.audit import audit as run_audit  # noqa: PLC0415

    report = run_audit(file)
    o.Session(json, verbose, output).show(report, audit_lines(report, None if verbose else _SHOWN))
    return EXIT_PASS if report.passed else EXIT_FAIL


def audit_lines(report: AuditReport, shown: int | None) -> list[str]:
    """Census, findings (the first `shown` of them), cures, verdict."""
    census = ", ".join(f"{name} {count}" for name, count in sorted(report.census.items(), key=lambda i: -i[1]))
    lines = [f"{report.artefact}: {report.nodes} nodes, {report.tensors} tensors; {census}"]
    for finding in report.findings[:shown]:
        where = "" if finding.operator is None else f" op {finding.operator} {finding.operator_name}"
        tensor = f" {finding.tensor_name}" if finding.tensor_name else ""
        cure = f" [cure: {finding.cure}]" if finding.cure else ""
        lines.append(f"{finding.severity} {finding.rule}:{where}{tensor}: {finding.reason}{cure}")
    left = len(report.findings) - len(report.findings[:shown])
    if left:
        lines.append(f"... and {left} more (-v shows all): {report.counts}")
    lines.append("audit passed" if report.passed else f"audit failed; cures: {', '.join(report.cures()) or 'none'}")
    return lines
