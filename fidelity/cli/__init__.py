"""The command line: one verb a file, exit codes as the contract says, no traceback for a user's error."""

from __future__ import annotations

import sys

import typer

from fidelity.cli.android import android
from fidelity.cli.artefact import audit, convert
from fidelity.cli.bench import bench
from fidelity.cli.doctor import doctor
from fidelity.cli.gate import compare, gate
from fidelity.cli.golden import golden
from fidelity.cli.judge import judge
from fidelity.cli.labels import labels
from fidelity.cli.locate import locate
from fidelity.cli.predict import predict
from fidelity.cli.prove import prove
from fidelity.cli.report import report
from fidelity.cli.reveal import reveal
from fidelity.cli.run import run
from fidelity.cli.selftest import selftest
from fidelity.cli.survey import survey
from fidelity.cli.sweep import sweep
from fidelity.errors import EXIT_BAD_INPUT, EXIT_ENVIRONMENT, FidelityError

UsageError: type[typer.BadParameter] = typer.BadParameter.__mro__[1]
"""typer carries a click of its own and exports this base of its usage errors under no name."""

EXTRAS = {
    **dict.fromkeys(("torch", "torchvision", "timm", "litert_torch", "ai_edge_quantizer", "safetensors"), "convert"),
    **dict.fromkeys(("dask", "distributed"), "sweep"),
}
"""Modules of extras, and the extra that brings them; a verb that needs one of them says so."""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Prove, convert, audit, predict, run, compare and gate a vision transformer for LiteRT's GPU delegate.",
)
for verb in (
    doctor,
    prove,
    convert,
    audit,
    predict,
    run,
    compare,
    judge,
    locate,
    gate,
    sweep,
    report,
    selftest,
    survey,
    bench,
    reveal,
    labels,
):
    app.command()(verb)
app.add_typer(golden, name="golden")
app.add_typer(android, name="android")


def main() -> None:
    """Entry point of `fidelity`: 0 pass, 1 the gate fails, 2 bad input, 3 environment missing."""
    try:
        code = app(standalone_mode=False)
    except UsageError as error:
        message = " ".join(error.format_message().split())
        sys.stderr.write(f"fidelity: {message}; see fidelity --help\n")
        sys.exit(EXIT_BAD_INPUT)
    except FidelityError as error:
        sys.stderr.write(f"fidelity: {error}\n")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        sys.stderr.write(f"fidelity: {error.name} is not installed: pip install 'fidelity[{extra}]'\n")
        sys.exit(EXIT_ENVIRONMENT)
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("fidelity: interrupted\n")
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
