"""Register a candidate: its runs, its files and its evidence become a version of the registered model."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ethos_runtime
from ethos.errors import StoreError
from ethos.files import read_json, sha256_file
from ethos.pruning.report import step_metrics
from ethos.registry.candidate import CHANNELS, MANIFEST, STUDY, altered, candidate_card, write_bundle
from ethos.registry.lock import locked
from ethos.registry.pictures import PICTURES, read_history
from ethos.registry.records import CANDIDATE, CANDIDATE_TAG, MANIFEST_TAG, PRUNE_RUN_TAG, READY, VersionRecord
from ethos.registry.runs import Measured

if TYPE_CHECKING:
    from ethos.registry.candidate import Candidate, Pruning
    from ethos.registry.store import Store

log = logging.getLogger(__name__)

RELOGGED_TAG = "ethos.relogged"
ORIGINAL_TAG = "ethos.original_run"
REGISTER_LOCK = "registry/register"


def register(store: Store, candidate: Candidate, model: str, root: Path) -> VersionRecord:
    """Return the candidate's version of `model`; it is made unless the same candidate has one.

    A version is ready only after all its files were stored and read back with the hashes of its manifest.

    Args:
        store: Where to register.
        candidate: What the stages left.
        model: Name of the registered model.
        root: The project's folder.

    Raises:
        StoreError: The store cannot be used, or gave back other bytes than were stored.
    """
    with locked(root / REGISTER_LOCK):
        existing = _existing(store, candidate, model)
        if existing is None:
            return _make_version(store, candidate, model, root)
    log.info("%s is %s already", candidate.name, existing.label)
    return existing


def _make_version(store: Store, candidate: Candidate, model: str, root: Path) -> VersionRecord:
    run_id = _train_run(store, candidate)
    store.log_dataset(run_id, candidate.dataset, "training")
    with tempfile.TemporaryDirectory(prefix="ethos-") as temporary:
        folder = Path(temporary) / CANDIDATE
        folder.mkdir()
        manifest = write_bundle(candidate, folder, root)
        code = Path(ethos_runtime.__file__).parent
        model_id = store.log_model(folder, code, candidate.name, run_id, {"variant": candidate.variant})
        manifest_sha256 = sha256_file(folder / MANIFEST)
        _log_stages(store, candidate, run_id, model_id, folder)
    tags = candidate.tags(root) | {MANIFEST_TAG: manifest_sha256, READY: "false"}
    if candidate.pruning:
        tags[PRUNE_RUN_TAG] = _prune_run(store, candidate, candidate.pruning, run_id)
    record = store.create_version(model, model_id, run_id, tags, candidate_card(candidate))
    if problems := _problems(store, record, manifest):
        raise StoreError(
            f"{record.label}: the store gave back other bytes for {', '.join(problems)}", "check its disk, then retry"
        )
    if (first := _existing(store, candidate, model)) is not None:
        # another machine was registering the same candidate
        store.delete_version(record)
        return first
    store.link_version(model_id, record)
    store.tag_version(record, {READY: "true"})
    log.info("%s is %s", candidate.name, record.label)
    return store.version(model, record.version)


def _existing(store: Store, candidate: Candidate, model: str) -> VersionRecord | None:
    """Return the version that already holds the candidate, if its files are still what they were."""
    for record in reversed(store.versions(model, {CANDIDATE_TAG: candidate.sha256, READY: "true"})):
        if not _problems(store, record):
            return record
        log.warning("%s lost some of its files and is not ready any more", record.label)
        store.tag_version(record, {READY: "false"})
    return None


def _problems(store: Store, record: VersionRecord, manifest: dict[str, Any] | None = None) -> list[str]:
    """Return the files of a version that are not what its manifest says."""
    try:
        with store.files(record) as folder:
            found = manifest or read_json(folder / MANIFEST)
            return altered(folder, found)
    except (StoreError, OSError, ValueError):
        return [MANIFEST]


def _train_run(store: Store, candidate: Candidate) -> str:
    """Return the training's run; where the store does not know it, log the recorded history as a new one."""
    if known := _known_run(store, candidate.run_id):
        return known
    train, _ = candidate.plans
    with store.run(f"train {candidate.variant}", _logged_again(candidate.run_id)) as run:
        run.log_params(train.recipe.model_dump(exclude={"weights", "description"}))
        run.log_history(_history(candidate.folder_of_training / "epochs.csv"))
    log.info("%s: its training was logged again, the store did not know the run", candidate.variant)
    return run.run_id


def _prune_run(store: Store, candidate: Candidate, pruning: Pruning, parent: str) -> str:
    """Return the pruning's run; where the store does not know it, log what was recorded as a new one."""
    if known := _known_run(store, pruning.run_id):
        return known
    tags = {"variant": candidate.variant, "form": candidate.form, **_logged_again(pruning.run_id)}
    with store.run(f"prune {candidate.variant}", tags, parent=parent) as run:
        run.log_params(pruning.plan.run_params())
        for each in pruning.study["iterations"]:
            run.log_metrics(step_metrics(each), step=each["step"])
        for name in (STUDY, CHANNELS):
            run.log_artifact(candidate.folder_of_pruning / name)
    log.info("%s: its pruning was logged again, the store did not know the run", candidate.variant)
    return run.run_id


def _known_run(store: Store, run_id: str) -> str | None:
    """Return a run, or the one under which it was logged again; None if the store knows neither."""
    return run_id if store.run_known(run_id) else store.find_run({ORIGINAL_TAG: run_id})


def _logged_again(run_id: str) -> dict[str, str]:
    return {ORIGINAL_TAG: run_id, RELOGGED_TAG: "true"}


def _history(path: Path) -> list[Measured]:
    """Return the metrics of each epoch that the train stage recorded."""
    return [Measured(name, value, epoch) for name, values in read_history(path).items() for epoch, value in values]


def _log_stages(store: Store, candidate: Candidate, parent: str, model_id: str, bundle: Path) -> None:
    """Log the stages after training as child runs of the training's run; pictures go with the scores."""
    figures = candidate.figures()
    protocol = {key: value for key, value in candidate.protocol.items() if key != "tools"}
    npu = {name: value for name, value in figures.items() if name.startswith("npu.")}
    scores = {name: value for name, value in figures.items() if name.startswith(("fp32.", "int8."))}
    # a class without boxes in the split has no score
    classes = [row for row in candidate.scores["int8"]["per_class"] if row["map50"] is not None]
    scores |= {f"int8.map50/{row['name']}": row["map50"] for row in classes}
    rest = {name: value for name, value in figures.items() if name not in npu and name not in scores}
    quantized = {**candidate.plans[1].options.model_dump(), "imgsz": candidate.quantize["imgsz"]}
    stages: tuple[tuple[str, dict[str, Any], dict[str, float], tuple[str, ...]], ...] = (
        ("quantize", quantized, rest, ("quantize.json",)),
        ("analyze", {"targets": ", ".join(candidate.npu["targets"])}, npu, ("npu.json",)),
        ("evaluate", protocol, scores, ("fp32.json", "int8.json")),
    )
    for stage, params, metrics, reports in stages:
        tags = {"variant": candidate.variant, "form": candidate.form, "stage": stage}
        with store.run(f"{stage} {candidate.name}", tags, parent=parent) as run:
            run.log_params(params)
            run.log_metrics(metrics, model_id=model_id)
            for report in reports:
                run.log_artifact(candidate.folder(stage) / report)
            if stage == "evaluate":
                store.log_dataset(run.run_id, candidate.dataset, "validation")
                for picture in sorted(bundle.glob(f"{PICTURES}/*.png")):
                    run.log_artifact(picture, PICTURES)
