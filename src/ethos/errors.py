"""Errors a user can act on: one line saying what and where, one line saying what fixes it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LISTED = 5


class EthosError(Exception):
    """A failure with a known cause; the command line prints it and exits with `exit_code`.

    Args:
        message: What is wrong and where, in one line.
        fix: What the user can do about it, in one line.
    """

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}\n  fix: {self.fix}" if self.fix else self.message


class SpecError(EthosError):
    """A spec, parameter or argument is wrong; nothing was run."""

    exit_code = 2


class DamagedFile(EthosError, ValueError):
    """A file that the project wrote is not what it should be."""


class DataError(EthosError):
    """The data set is missing, unreadable or breaks a check."""


class ModelError(EthosError):
    """A network could not be built, loaded, trained or converted as declared."""


class CompilerError(EthosError):
    """The NPU compiler is missing or refused a file."""


class StoreError(EthosError):
    """The tracking store or model registry cannot be used or does not hold what was asked for."""


class GateFailed(EthosError):
    """A version fails a gate that it must pass for what was asked."""


class NothingSelectable(EthosError):
    """No registered version passes a scenario's gates."""

    exit_code = 3


def told(error: Exception) -> EthosError | None:
    """Return an error as one that a user can act on: our own, or a file that the operating system refused.

    None if it is neither, and so a mistake of the program.
    """
    if isinstance(error, EthosError):
        return error
    if not isinstance(error, OSError) or error.filename is None:
        return None
    # where a file was to be renamed, the place that it was to take
    place = error.filename2 or error.filename
    if isinstance(error, FileExistsError | NotADirectoryError):
        return EthosError(f"{place}: is a file, a folder was expected", "name another place")
    if isinstance(error, IsADirectoryError):
        return EthosError(f"{place}: is a folder, a file was expected", "name a file")
    reason = (error.strerror or type(error).__name__).lower()
    return EthosError(f"{place}: {reason}", "check that it exists, may be read and written, and has space")


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> SpecError:
    """Return the error for a name that does not exist, with the nearest known names first."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    place = f"{where}: " if where else ""
    return SpecError(f"{place}unknown {kind} '{name}'", f"{hint}known: {', '.join(names) or 'none'}")


def some_of(found: Sequence[str]) -> str:
    """Return the first of what was found, and how many more there are."""
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(found[:LISTED]) + more
