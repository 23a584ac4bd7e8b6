"""How commands answer: one JSON document for machines, tables for people."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

# where a run writes, below the project's folder
OUTPUTS = "outputs"
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
FILE_WIDTH = 200


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(renderable: Any) -> None:
    """Print a table of rich, or several, on stdout."""
    from rich.console import Console

    # a file or a pipe has no width of its own; folding its lines would only make them harder to read
    Console(width=None if sys.stdout.isatty() else FILE_WIDTH).print(renderable)
