"""Check a data set on request: the materialised one, another spec's, or any YOLO folder as it is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ethos import catalog
from ethos.data.checks import run_checks
from ethos.data.folder import read_names
from ethos.data.source import DATASET_FILE, materialise
from ethos.files import read_json
from ethos.specs import Dataset, FolderSource, Split


def check_data(name: str | None, source: Path | None, materialised: Path) -> dict[str, Any]:
    """Return the report of all checks.

    Args:
        name: Data set spec; the run's own when absent.
        source: A YOLO folder to check as it is, with the split it comes with; its limits and its track pattern are
            those of the spec of that name, else of the first spec with the same classes.
        materialised: Where the pipeline keeps its data set; used when it holds the one that is asked for.

    Raises:
        SpecError: The spec is unknown or malformed.
        DataError: The source is missing or unreadable.
    """
    dataset = as_it_is(source, name) if source else catalog.load("dataset", name or catalog.load_params().dataset)
    record = materialised / DATASET_FILE
    if not source and record.is_file() and read_json(record)["name"] == dataset.name:
        return run_checks(materialised, dataset)
    with tempfile.TemporaryDirectory(prefix="ethos-check-") as scratch:
        folder = Path(scratch) / "dataset"
        materialise(dataset, folder)
        return run_checks(folder, dataset)


def as_it_is(source: Path, name: str | None) -> Dataset:
    """Return a spec for a YOLO folder that keeps the split it comes with."""
    classes = read_names(source)
    known = [catalog.load("dataset", name)] if name else [catalog.load("dataset", n) for n in catalog.names("dataset")]
    alike = next((spec for spec in known if name or spec.classes == classes), None)
    kept = FolderSource(type="folder", root=str(source.resolve()))
    if alike is None:
        return Dataset(name="source", source=kept, classes=classes, split=Split(method="keep"))
    split = alike.split.model_copy(update={"method": "keep"})
    return alike.model_copy(update={"source": kept, "split": split})
