"""Which pages a site has, and from what each is made: a page is made anew only when that has changed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ethos.files import read_json
from ethos.reporting.pages.accuracy import accuracy_page
from ethos.reporting.pages.common import candidate_name, version_page
from ethos.reporting.pages.data import GUARD, RECORD, data_page
from ethos.reporting.pages.history import history_page
from ethos.reporting.pages.index import index_page
from ethos.reporting.pages.npu import npu_page
from ethos.reporting.pages.pruning import pruning_page
from ethos.reporting.pages.quantization import quantization_page
from ethos.reporting.pages.training import run_address, training_page
from ethos.reporting.pages.version import version_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethos.reporting.blocks import Block
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts

PAGES: dict[str, Callable[[Evidence, Texts], list[Block]]] = {
    "index": index_page,
    "accuracy": accuracy_page,
    "npu": npu_page,
    "quantization": quantization_page,
    "pruning": pruning_page,
    "training": training_page,
    "data": data_page,
    "history": history_page,
}


@dataclass(frozen=True)
class PlannedPage:
    """A page that the site will have.

    Attributes:
        name: Its file's name, without suffix.
        inputs: What it is made from, as JSON; equal inputs give an equal page.
        required: Whether something missing on it counts for `--strict`.
        build: Makes its blocks.
    """

    name: str
    title: str
    inputs: Any
    required: bool
    build: Callable[[], list[Block]]


def plan_site(evidence: Evidence, texts: Texts) -> list[PlannedPage]:
    """Return all pages of the site, in the order of its menu, then one a version."""
    shared = _shared(evidence)
    runs = {record.run_id: evidence.document(f"run/{record.run_id}") for record in evidence.current}
    pages = [
        PlannedPage(name, texts(f"{name}.title"), [shared, runs], True, partial(build, evidence, texts))
        for name, build in PAGES.items()
    ]
    return [*pages, *_versions(evidence, texts)]


def _versions(evidence: Evidence, texts: Texts) -> list[PlannedPage]:
    dataset = evidence.document(RECORD)
    pages = []
    for record in evidence.records:
        current = record in evidence.current
        served = sorted(name for name, version in evidence.live.items() if version == record.version)
        inputs = [record.document(), served, current, dataset, _manifest(evidence, record.version)]
        # a finished run does not change any more
        inputs.append(record.run_id if not current else evidence.document(f"run/{record.run_id}"))
        title = texts("version.title", version=record.version, name=candidate_name(record))
        build = partial(version_blocks, evidence, texts, record)
        pages.append(PlannedPage(version_page(record), title, inputs, current, build))
    return pages


def _manifest(evidence: Evidence, version: int) -> Any:
    """Return the names and hashes of a version's files, whether each is there."""
    folder = evidence.folder(version)
    if folder is None or not (folder / "manifest.json").is_file():
        return None
    try:
        manifest = read_json(folder / "manifest.json")
    except ValueError:
        return None
    return {name: [entry.get("sha256"), _stat(folder / name)] for name, entry in manifest.get("files", {}).items()}


def _stat(path: Any) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _shared(evidence: Evidence) -> Any:
    return [
        [record.document() for record in evidence.records],
        [_manifest(evidence, record.version) for record in evidence.current],
        evidence.policy,
        evidence.events,
        evidence.live,
        evidence.unfinished,
        evidence.document(RECORD),
        evidence.document(GUARD),
        evidence.params.model_dump(mode="json"),
        run_address(evidence, ""),
    ]
