"""Pipeline stages, one module each; dvc.yaml runs them as `python -m pipelines.STAGE ARGUMENTS` in the project."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ethos.errors import EthosError

if TYPE_CHECKING:
    from collections.abc import Callable

OUTPUTS = Path("outputs")


def run(main: Callable[..., None]) -> int:
    """Call a stage with the command line's arguments; return the exit code, with an error's text on stderr."""
    try:
        main(*sys.argv[1:])
    except EthosError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0
