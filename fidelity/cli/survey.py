"""`fidelity survey`: many small models of many families, a row for each, and why each does not pass."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fidelity.cache import Cache
from fidelity.cli import options as o
from fidelity.cli.gate import PolicyOption
from fidelity.errors import EXIT_ENVIRONMENT, EXIT_FAIL, EXIT_PASS, BadInput

if TYPE_CHECKING:
    from fidelity.survey.row import Survey


def survey(
    plan: Annotated[Path | None, typer.Argument(help="A TOML file of models; without one, the built-in list.")] = None,
    only: Annotated[str | None, typer.Option(help="Only these models, by name: vit,swin")] = None,
    device: o.Devices = None,
    policy: PolicyOption = "default",
    images: o.Images = o.IMAGES,
    seed: o.Seed = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder of cached results.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    output: o.Output = None,
    json: o.Json = False,
    verbose: o.Verbose = False,
) -> int:
    """Which models convert, run on the device and are right; what each rewrite took, and why the rest fails."""
    from fidelity.comparison.policy import load_policy  # noqa: PLC0415
    from fidelity.survey import table  # noqa: PLC0415
    from fidelity.survey.plan import load_plan  # noqa: PLC0415
    from fidelity.survey.plan import only as chosen  # noqa: PLC0415
    from fidelity.survey.survey import Setting  # noqa: PLC0415
    from fidelity.survey.survey import survey as made  # noqa: PLC0415

    if json and markdown:
        raise BadInput("--json and --markdown are two forms of the same: ask for one")
    session = o.Session(json, verbose, output)
    reporter = session.reporter
    models = chosen(load_plan(plan), o.names(only))
    setting = Setting(load_policy(policy), images, seed, tuple(device) if device else None)
    found = made(models, setting, Cache(cache), reporter, tell=reporter.say if verbose else None)
    session.show(found, table.markdown(found) if markdown else table.survey_lines(found, verbose=verbose))
    return exit_code(found)


def exit_code(found: Survey) -> int:
    """0 when every row is explained and what must pass does; 3 when all that is wrong is a device that is missing."""
    if not found.passed:
        return EXIT_FAIL
    return EXIT_ENVIRONMENT if found.not_tested else EXIT_PASS
