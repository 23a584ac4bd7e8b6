from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
from registry_run import MODEL, new_project, register_run, write_project

from ethos.errors import StoreError
from ethos.files import read_json
from ethos.registry import embedded
from ethos.registry.runs import PARENT_TAG, Measured, open_tracking
from ethos.registry.store import Store, open_store

URI = "MLFLOW_TRACKING_URI"


@pytest.fixture(autouse=True)
def _embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URI, raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_project(tmp_path)


def client(store: Store) -> object:
    from mlflow.tracking import MlflowClient

    return MlflowClient(store.tracking_uri)


# --- the embedded store ----------------------------------------------------------------------------------------------


def test_a_missing_store_is_made_only_when_allowed(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    with pytest.raises(StoreError) as caught:
        open_store(root, create=False)
    assert str(caught.value) == "registry/mlflow.db: no registry yet\n  fix: fill it: dvc repro"
    assert not (root / "registry/mlflow.db").exists()

    identity = open_store(root).identity()
    assert len(identity) == 32
    assert identity != open_store(new_project(tmp_path / "other")).identity()
    assert open_store(root, create=False).tracking_uri == f"sqlite:///{root}/registry/mlflow.db"
    # nothing outside registry/, and our choice of store is not taken for the user's
    assert sorted(path.name for path in root.iterdir()) == ["LICENSE", "params.yaml", "registry", "specs"]
    assert URI not in os.environ


def test_the_identity_is_the_stores_own(root: Path, tmp_path: Path) -> None:
    path = root / "registry/store.json"
    open_store(root).write_identity(path)
    first, changed = read_json(path), path.stat().st_mtime_ns
    open_store(root).write_identity(path)
    assert path.stat().st_mtime_ns == changed
    assert first == {"schema": 1, "identity": open_store(root).identity()}

    other = new_project(tmp_path / "other")
    with sqlite3.connect(other / "registry/mlflow.db") as connection:
        connection.execute("DELETE FROM experiment_tags")
    open_store(other).write_identity(path)
    second = read_json(path)["identity"]
    assert second not in (first["identity"], "")
    assert open_store(other).identity() == second


def test_a_moved_project_takes_its_artifacts_along(root: Path, tmp_path: Path) -> None:
    [before] = register_run(root, {"level3_relu": {}})
    old = Path(open_store(root).file_place(before, "int8.tflite"))
    moved = root.rename(tmp_path / "moved here")

    store = open_store(moved)

    place = Path(store.file_place(store.version(MODEL, 1), "int8.tflite"))
    assert place.is_relative_to(moved / "registry/artifacts")
    assert place.read_bytes() == b"level3_relu int8.tflite"
    assert not old.exists()
    with store.run("new") as run:
        run.log_artifact(moved / "params.yaml")
    assert list((moved / "registry/artifacts").glob(f"{run.run_id}/artifacts/params.yaml"))
    assert not root.exists()
    assert not embedded.relocate(moved)  # done once


def test_a_store_that_is_no_database(root: Path) -> None:
    (root / "registry/mlflow.db").write_bytes(b"not a database, but long enough to be one" * 50)
    with pytest.raises(StoreError) as caught:
        open_store(root)
    assert caught.value.message == f"{root}/registry/mlflow.db: is no usable store: file is not a database"
    assert caught.value.fix == "move it away, then: dvc repro"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (root / "registry").write_text("a file in its place")
    with pytest.raises(StoreError) as caught:
        open_store(root)
    assert caught.value.message == f"{root}/registry: cannot be made: File exists"
    assert caught.value.fix.startswith("make it writable for you, or set MLFLOW_TRACKING_URI")


def test_a_store_that_is_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    root = write_project(tmp_path / "project")
    (root / "registry/mlflow.db").mkdir(parents=True)
    with pytest.raises(StoreError) as caught:
        open_store(root)
    assert str(caught.value).startswith(f"{root}/registry/mlflow.db: is not a file\n  fix: move it away")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_is_not_writable(root: Path) -> None:
    (root / "registry").chmod(0o555)
    with pytest.raises(StoreError, match="registry: is not writable"):
        open_store(root)


def test_a_store_that_became_read_only(root: Path) -> None:
    store = open_store(root)
    with sqlite3.connect(root / "registry/mlflow.db") as connection:
        connection.execute("CREATE TRIGGER t BEFORE INSERT ON runs BEGIN SELECT RAISE(ABORT, 'readonly database'); END")
    with pytest.raises(StoreError) as caught, store.run("x"):
        pass
    assert caught.value.fix == "make the store's file and folder writable for you"
    assert "\n" not in caught.value.message


def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URI, "http://someone:secret@127.0.0.1:9")  # the discard port: nothing listens
    with pytest.raises(StoreError) as caught:
        open_store().identity()
    assert caught.value.message.startswith("http://someone:***@127.0.0.1:9: ")
    assert caught.value.fix == "start the server, or unset MLFLOW_TRACKING_URI to use the embedded store"
    assert "\n" not in caught.value.message


def test_usage_statistics_are_off() -> None:
    code = (
        "from ethos.registry.runs import Tracking; Tracking('sqlite:///:memory:', 'x');"
        "from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
    )
    # MLflow takes a test runner or a CI machine as a reason to be silent too
    quiet = {"HOME": os.environ.get("HOME", ""), "PATH": os.environ["PATH"]}
    answers = [
        subprocess.run([sys.executable, "-c", text], env=quiet, capture_output=True, text=True, check=True).stdout
        for text in (code, code.partition(";")[2].partition(";")[2])
    ]
    assert answers == ["True\n", "False\n"]


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_is_logged_with_history_and_child(root: Path) -> None:
    tracking = open_tracking("ethos", root)
    with tracking.run("train", {"variant": "level3_relu"}) as run:
        run.log_params({f"p{number}": number for number in range(150)})
        run.log_metrics({"metrics/mAP50(B)": 0.5}, step=1)
        run.log_history([Measured("loss", 1 / (step + 1), step) for step in range(1500)])
        with tracking.run("evaluate", parent=run.run_id) as child:
            child.log_metrics({"int8.map50": 0.9})
    store = open_store(root)
    found = client(store).get_run(run.run_id)  # type: ignore[attr-defined]
    assert found.info.status == "FINISHED"
    assert (len(found.data.params), found.data.params["p149"]) == (150, "149")
    assert found.data.metrics == {"metrics/mAP50B": 0.5, "loss": 1 / 1500}
    assert client(store).get_run(child.run_id).data.tags[PARENT_TAG] == run.run_id  # type: ignore[attr-defined]
    assert store.run_known(run.run_id)
    assert not store.run_known("0" * 32)
    assert store.find_run({"variant": "level3_relu"}) == run.run_id
    assert store.find_run({"variant": "level4_relu"}) is None


def test_a_run_is_opened_again(root: Path) -> None:
    store = open_store(root)
    with store.run("train", {"variant": "level2_relu"}) as first:
        first.log_metrics({"map50": 0.1}, step=1)
    with store.run("train", go_on_with=first.run_id) as again:
        assert [measured.step for measured in again.history("map50")] == [1]
        assert client(store).get_run(first.run_id).info.status == "RUNNING"
        again.log_metrics({"map50": 0.2}, step=2)
        again.set_tags({"note": "went on"})
        assert {key: again.tags()[key] for key in ("variant", "note")} == {"variant": "level2_relu", "note": "went on"}
    assert again.run_id == first.run_id
    assert [(measured.step, measured.value) for measured in again.history("map50")] == [(1, 0.1), (2, 0.2)]
    assert client(store).get_run(first.run_id).info.status == "FINISHED"
    assert len(client(store).search_runs([store.experiment_id])) == 1


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_ends_as_its_block_does(root: Path, error: type[BaseException], status: str) -> None:
    store = open_store(root)
    with pytest.raises(error), store.run("train") as run:
        raise error
    assert client(store).get_run(run.run_id).info.status == status  # type: ignore[attr-defined]


def test_two_processes_log_at_once(root: Path) -> None:
    with get_context("spawn").Pool(2) as pool:
        ids = pool.starmap(_log_steps, [(root, name) for name in ("a", "b")])
    store = open_store(root)
    for run_id in ids:
        assert client(store).get_run(run_id).data.metrics == {"loss": 19.0}  # type: ignore[attr-defined]


def _log_steps(root: Path, name: str) -> str:
    with open_tracking("ethos", root).run(name) as run:
        for step in range(20):
            run.log_metrics({"loss": step}, step)
    return run.run_id


# --- versions --------------------------------------------------------------------------------------------------------


def test_unknown_versions_models_and_aliases(root: Path) -> None:
    store = open_store(root)
    assert store.by_alias(MODEL, "realtime") is None
    assert store.versions(MODEL) == []
    with pytest.raises(StoreError, match=f"^'{MODEL}' has no version 3\n"):
        store.version(MODEL, 3)


def test_files_that_are_gone(root: Path) -> None:
    [record] = register_run(root, {"level3_relu": {}})
    store = open_store(root)
    folder = Path(store.file_place(record, "int8.tflite")).parent
    shutil.rmtree(folder)
    with pytest.raises(StoreError) as caught, store.files(record):
        pass
    assert caught.value.message == f"version 1 (level3_relu, dense): its files are gone: {folder}"
    assert caught.value.fix == "register it again: dvc repro"
