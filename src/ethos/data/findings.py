"""What was odd about a source and is not to be seen in the copy any more: kept beside it, for the checks to report."""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Literal, get_args

from ethos.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Kind = Literal["malformed", "polygon", "size", "stem"]
FINDINGS_FILE = "findings.csv"
COLUMNS = ("kind", "image", "detail")


@dataclass(frozen=True)
class Finding:
    """Something noteworthy about an image, by its file name."""

    kind: Kind
    image: str
    detail: str


def write_findings(folder: Path, findings: Sequence[Finding]) -> None:
    """Write the findings of a data set folder; without any there is no file."""
    if findings:
        with (folder / FINDINGS_FILE).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(map(astuple, findings))


def read_findings(folder: Path) -> list[Finding]:
    """Return the findings of a materialised data set.

    Raises:
        DataError: The file is malformed.
    """
    path = folder / FINDINGS_FILE
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return [_finding(row) for row in csv.DictReader(stream)]
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: not a list of findings: {error}", "run `dvc repro --force dataset`") from None


def _finding(row: dict[str, str]) -> Finding:
    kind = next((kind for kind in get_args(Kind) if kind == row["kind"]), None)
    if kind is None:
        raise ValueError(f"kind '{row['kind']}'")
    return Finding(kind, row["image"], row["detail"])
