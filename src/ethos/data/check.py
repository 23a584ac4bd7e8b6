"""Check a data set on request: the materialised one, another spec's, or any YOLO folder as it is."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.data.folder import read_names
from ethos.data.guard import run_checks
from ethos.data.manifest import DATASET_FILE
from ethos.data.source import materialise
from ethos.files import read_json
from ethos.specs import Dataset, FolderSource, Split

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_data(
    name: str | None, source: Path | None, materialised: Path, offenders: Path | None = None
) -> dict[str, Any]:
    """Return the report of all checks.

    Args:
        name: As for `using`.
        source: As for `using`.
        materialised: As for `using`.
        offenders: Folder for CHECK.csv, which lists all that fails a check; None writes none.

    Raises:
        SpecError: The spec is unknown or malformed.
        DataError: The source is missing or unreadable.
    """
    with using(name, source, materialised) as (folder, dataset):
        return run_checks(folder, dataset, offenders=offenders)


@contextmanager
def using(name: str | None, source: Path | None, materialised: Path) -> Iterator[tuple[Path, Dataset]]:
    """Yield a materialised data set and its spec; one that is not at hand is made in a temporary folder.

    Args:
        name: Data set spec; the run's own when absent.
        source: A YOLO folder to take as it is, with the split it comes with; its limits and its track pattern are
            those of the spec of that name, else of the first spec with the same classes.
        materialised: Where the pipeline keeps its data set; used when it holds the one that is asked for.

    Raises:
        SpecError: The spec is unknown or malformed.
        DataError: The source is missing or unreadable.
    """
    dataset = as_it_is(source, name) if source else catalog.load("dataset", name or catalog.load_params().dataset)
    record = materialised / DATASET_FILE
    if not source and record.is_file() and read_json(record, "name")["name"] == dataset.name:
        yield materialised, dataset
        return
    with tempfile.TemporaryDirectory(prefix="ethos-check-") as scratch:
        folder = Path(scratch) / "dataset"
        materialise(dataset, folder)
        yield folder, dataset


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
