"""The command line: parse, call one function, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from ethos.cli.compress import quantize
from ethos.cli.data import data_app
from ethos.cli.detect import detect
from ethos.cli.doctor import doctor
from ethos.cli.ledger import history_app, policy_app
from ethos.cli.model import fit, specs_app, verify
from ethos.cli.npu import analyze
from ethos.cli.prune import prune
from ethos.cli.registry import audit, promote, register, rollback, select
from ethos.cli.report import report, ui
from ethos.cli.run import init, summary
from ethos.cli.score import evaluate
from ethos.cli.speed import bench
from ethos.errors import EthosError, told

app = typer.Typer(
    name="ethos",
    help="Object detectors that really run on Arm Ethos NPUs: specs in, registered versions out, one selected.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(specs_app, name="specs")
app.add_typer(data_app, name="data")
app.add_typer(history_app, name="history")
app.add_typer(policy_app, name="policy")
for command in (
    *(doctor, init, verify, fit, prune, quantize, summary),
    *(register, select, promote, rollback, audit),
    *(evaluate, bench, detect, analyze, report, ui),
):
    app.command()(command)


def main() -> None:
    """Run the command line; a failure with a known cause becomes its text on stderr and its exit code."""
    show_traceback = "--traceback" in sys.argv
    if show_traceback:
        sys.argv.remove("--traceback")
    try:
        app()
    except (EthosError, OSError) as error:
        known = told(error)
        if show_traceback or known is None:
            raise
        typer.echo(f"error: {known}", err=True)
        raise SystemExit(known.exit_code) from None
    finally:
        # the last garbage collection walks all that was imported, which takes longer than some commands
        gc.freeze()


@app.callback()
def _options(
    _traceback: Annotated[bool, typer.Option("--traceback", help="Show the full traceback of an error.")] = False,
) -> None:
    """Options of every command; --traceback is read in `main`, which also sees errors of the parser."""
