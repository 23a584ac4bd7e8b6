"""How commands answer: one JSON document for machines, tables for people."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ethos.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

# where a run writes, below the project's folder
OUTPUTS = "outputs"
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
FILE_WIDTH = 200
Word = TypeVar("Word", bound=str)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_table(renderable: Any) -> None:
    """Print a table of rich, or several, on stdout."""
    from rich.console import Console

    # a file or a pipe has no width of its own; folding its lines would only make them harder to read
    Console(width=None if sys.stdout.isatty() else FILE_WIDTH).print(renderable)


def one_of(kind: str, name: str | None, known: Sequence[Word]) -> Word | None:
    """Return the word that an option gives, None if it was left out.

    Raises:
        SpecError: It is none of those known.
    """
    if name is None:
        return None
    for each in known:
        if each == name:
            return each
    raise unknown(kind, name, known)
