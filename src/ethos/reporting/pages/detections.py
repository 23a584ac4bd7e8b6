"""Which images show what FP32 and INT8 find, and with which files."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ethos.errors import DataError
from ethos.files import sha256_file
from ethos.reporting.blocks import Picture
from ethos.reporting.pages.common import candidate_name

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.registry.records import VersionRecord
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts

IMAGES = 4
SIDE = "val"
CONF = 0.25  # below it a deployed detector would not report a box
IOU_MATCH = 0.5
FILES = {"fp32": "model.onnx", "int8": "int8.tflite"}


def detections(evidence: Evidence, texts: Texts, record: VersionRecord) -> Picture | None:
    """Return what both precisions of a version find on the same validation images, None if something is missing."""
    try:
        samples = _samples(evidence.root / "outputs" / "dataset", record.tags.get("split.sha256", ""))
    except DataError as error:
        evidence.note(f"outputs/dataset ({error.message})")
        return None
    if not samples:
        evidence.note("outputs/dataset (the images that the version was scored on)")
        return None
    contract = evidence.artifact(record.version, "decode.json")
    files = {kind: evidence.artifact(record.version, name) for kind, name in FILES.items()}
    for name, path in {"decode.json": contract, **{FILES[kind]: path for kind, path in files.items()}}.items():
        if path is None:
            evidence.note(f"version/{record.version}/{name}")
    if contract is None or None in files.values():
        return None
    data = {
        "title": candidate_name(record),
        "samples": samples,
        "contract": {"path": str(contract), "sha256": sha256_file(contract)},
        "files": {kind: {"path": str(path), "sha256": sha256_file(path)} for kind, path in files.items() if path},
        "conf": CONF,
        "match": IOU_MATCH,
        "iou": 0.7,
        "max_det": 300,
    }
    caption = texts("picture.detections", name=candidate_name(record), version=record.version, conf=CONF, iou=IOU_MATCH)
    return Picture(f"v{record.version}-detections", caption, "detections", data)


@cache
def _samples(folder: Path, split_sha256: str) -> list[dict[str, Any]]:
    """Return the validation images with most boxes, the first by hash among equals; none of another split."""
    from ethos.data.manifest import DATASET_FILE, MANIFEST_FILE, read_manifest
    from ethos.files import read_json

    if not (folder / MANIFEST_FILE).is_file() or read_json(folder / DATASET_FILE)["split_sha256"] != split_sha256:
        return []
    rows = [row for row in read_manifest(folder) if row.split == SIDE]
    chosen = sorted(rows, key=lambda row: (-row.boxes, row.sha256))[:IMAGES]
    return [{"image": str(row.path), "label": str(row.label), "sha256": row.sha256} for row in chosen]
