"""Pipeline stages, one module each; dvc.yaml runs them as `python -m pipelines.STAGE ARGUMENTS` in the project."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ethos.errors import EthosError, told

if TYPE_CHECKING:
    from collections.abc import Callable

OUTPUTS = Path("outputs")

# read once, when torch is imported: how long its threads spin while they wait for each other. The default made a
# training step ten times slower on a machine that was busy with something else; this costs nothing on an idle one.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def run(main: Callable[..., None]) -> int:
    """Call a stage with the command line's arguments; return the exit code, with an error's text on stderr."""
    try:
        main(*sys.argv[1:])
    except (EthosError, OSError) as error:
        known = told(error)
        if known is None:
            raise
        sys.stderr.write(f"error: {known}\n")
        return known.exit_code
    return 0
