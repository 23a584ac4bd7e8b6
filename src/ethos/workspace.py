"""The project folder as a workspace: what must be there before a pipeline can run."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from ethos.errors import EthosError

if TYPE_CHECKING:
    from pathlib import Path


def prepare_dvc(root: Path) -> list[str]:
    """Make DVC usable in `root`, with git or without; return what was done, one line each.

    Settings go into .dvc/config.local, which stays on this machine: `no_scm` where the folder is no git checkout, such
    as an unpacked source archive.

    Raises:
        EthosError: DVC's settings are missing or cannot be written.
    """
    if not (root / ".dvc" / "config").is_file():
        raise EthosError(f"{root}: no .dvc/config", "restore it from the project's source, or run: dvc init")
    wanted = not (root / ".git").exists()
    if wanted == (_dvc(root, "config", "--local", "core.no_scm") == "true"):
        return []
    if wanted:
        _dvc(root, "config", "--local", "core.no_scm", "true", check=True)
        return ["no git here: DVC is set to run without it"]
    _dvc(root, "config", "--local", "--unset", "core.no_scm", check=True)
    return ["git found: DVC uses it again"]


def _dvc(root: Path, *arguments: str, check: bool = False) -> str:
    """Run DVC and return what it prints; with `check`, a failure is an error."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=root, capture_output=True, text=True, check=False
    )
    if check and done.returncode:
        raise EthosError(
            f"dvc {' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}", "check .dvc/ is writable"
        )
    return done.stdout.strip()
