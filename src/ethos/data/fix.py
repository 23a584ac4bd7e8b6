"""Repair the materialised data set on request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.data.manifest import DATASET_FILE
from ethos.data.repairs import REPAIRS, repair
from ethos.errors import DataError
from ethos.files import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def fix_data(name: str | None, materialised: Path, only: Sequence[str], dry_run: bool) -> dict[str, Any]:
    """Return what was repaired, or would be.

    Args:
        name: Data set spec; the run's own when absent.
        materialised: The materialised data set, which must be that spec's.
        only: Repairs to apply; all of them when empty.
        dry_run: Change nothing.

    Raises:
        SpecError: The spec or a repair is unknown.
        DataError: The folder holds no data set of that name.
    """
    dataset = catalog.load("dataset", name or catalog.load_params().dataset)
    record = materialised / DATASET_FILE
    held = read_json(record, "name", "sha256")["name"] if record.is_file() else None
    if held != dataset.name:
        what = f"holds '{held}'" if held else "holds no data set"
        raise DataError(f"{materialised}: {what}, not '{dataset.name}'", "run `dvc repro dataset` first")
    changes = repair(materialised, dataset, only, dry_run=dry_run)
    return {
        "schema": 1,
        "dataset": dataset.name,
        "sha256": read_json(record)["sha256"],
        "applied": bool(changes) and not dry_run,
        "repairs": [
            {"name": rule, "rule": rule_sentence(rule), "count": sum(change.repair == rule for change in changes)}
            for rule in REPAIRS
            if not only or rule in only
        ],
        "changes": [vars(change) for change in changes],
    }


def rule_sentence(name: str) -> str:
    """Return the sentence that says what a repair does."""
    return (REPAIRS[name].__doc__ or "").strip()
