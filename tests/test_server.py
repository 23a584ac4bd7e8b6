"""The registry behind an MLflow server on PostgreSQL, and versions served by MLflow itself."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import postgres
import pytest
import requests
import tiny_network as tiny
from registry_run import MODEL, RUN, new_project, register_run

from ethos import catalog
from ethos.errors import StoreError
from ethos.files import sha256_file
from ethos.registry import ledger
from ethos.registry.download import download
from ethos.registry.history import verify
from ethos.registry.live import live
from ethos.registry.promote import promote, promote_scenario
from ethos.registry.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

URI = "MLFLOW_TRACKING_URI"
PATIENCE_S = 120.0


@contextmanager
def answering(command: list[str], address: str, folder: Path, **environment: str) -> Iterator[None]:
    """Run a server until the block ends; the block begins when `address` answers."""
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            cwd=folder,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait(process, address, folder / "server.log")
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if requests.get(address, timeout=2).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    raise AssertionError(f"{address} does not answer: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, network: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a project whose registry is a server's, with two promoted versions, and the server's own folder."""
    folder = tmp_path_factory.mktemp("server")
    root = new_project(folder / "client")
    port = postgres.free_port()
    address = f"http://127.0.0.1:{port}"
    with postgres.running() as database, pytest.MonkeyPatch.context() as patch:
        command = [
            "mlflow",
            "server",
            "--backend-store-uri",
            database,
            "--artifacts-destination",
            str(folder / "files"),
        ]
        with answering([*command, "--port", str(port), "--workers", "1"], f"{address}/health", folder):
            patch.setenv(URI, address)
            patch.chdir(root)
            # two networks of different bytes: what follows a file's end changes nothing for the interpreter
            records = []
            for number, variant in enumerate(("level2_relu", "level4_relu")):
                own = folder / variant
                own.mkdir()
                for name in ("int8.tflite", "decode.json"):
                    (own / name).write_bytes((network / name).read_bytes() + b" " * number)
                records += register_run(root, {variant: {**RUN[variant], "network": own}})
            promote(open_store(root), catalog.load_policy(), records, root)
            yield root, folder / "files"


@pytest.fixture
def store(served: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(served[0])
    return open_store(served[0])


def picture(folder: Path) -> Path:
    """Write a scene with a red and a blue square, and return its path."""
    path = folder / "scene.png"
    cv2.imwrite(str(path), tiny.picture([(0, 2, 3), (2, 5, 5)], size=128)[:, :, ::-1])
    return path


def test_all_that_the_embedded_store_does(store: Store, served: tuple[Path, Path], tmp_path: Path) -> None:
    root, policy = served[0], catalog.load_policy()
    answer = live(store, policy, MODEL, "realtime", strict=True)
    assert (answer["version"], answer["by"], answer["stage"]) == (1, "pin", "realtime")
    assert answer["artifact"]["path"].startswith("mlflow-artifacts:/")
    downloaded = download(store, policy, MODEL, "realtime", tmp_path / "deploy")
    assert sha256_file(tmp_path / "deploy/int8.tflite") == downloaded["artifact"]["sha256"]
    assert promote_scenario(store, policy, MODEL, "realtime", root, 2)["changed"]
    (root / ledger.LEDGER).unlink()
    assert live(store, policy, MODEL, "realtime")["by"] == "person"
    assert verify(store, policy, MODEL, root)["ok"]
    assert len(ledger.read(root / ledger.LEDGER)) == 4
    assert not (root / "registry/mlflow.db-journal").exists()
    source = store._client.get_model_version(MODEL, "1").source
    logged = store._client.get_logged_model(source.removeprefix("models:/"))
    [linked] = json.loads(logged.tags["mlflow.modelVersions"])
    assert (linked["name"], int(linked["version"])) == (MODEL, 1)


def test_damage_on_the_server_is_noticed(store: Store, served: tuple[Path, Path], tmp_path: Path) -> None:
    record = store.version(MODEL, 2)
    [place] = [path for path in served[1].rglob("int8.tflite") if sha256_file(path) == record.artifact_sha256]
    policy, whole = catalog.load_policy(), place.read_bytes()
    place.write_bytes(whole[:-1] + b"x")
    with pytest.raises(StoreError, match=r"^version 2 .*: int8\.tflite was altered"):
        download(store, policy, MODEL, "accuracy", tmp_path / "deploy")
    place.write_bytes(whole + b"x")
    with pytest.raises(StoreError, match=r"^version 2 .*: its INT8 file was altered"):
        live(store, policy, MODEL, "accuracy")
    place.unlink()
    with pytest.raises(StoreError, match=r"^version 2 .*: its INT8 file is gone"):
        live(store, policy, MODEL, "accuracy")
    assert not (tmp_path / "deploy").exists()
    place.write_bytes(whole)


BLOCKED = """
import sys
for name in ("torch", "tensorflow", "ultralytics", "ethos", "matplotlib"):
    sys.modules[name] = None
import base64, pathlib, mlflow, numpy, cv2
model = mlflow.pyfunc.load_model("models:/{model}@balanced")
path = {path!r}
content = pathlib.Path(path).read_bytes()
image = cv2.imread(path)[:, :, ::-1]
text = base64.b64encode(content).decode()
for given in (image, [image], path, content, [content], text, "data:image/png;base64," + text, image.tolist()):
    table = model.predict(given)
    print(type(table).__name__, sorted(table["class"]), [str(kind) for kind in table.dtypes][-2:])
"""


def test_any_mlflow_client_loads_a_version_by_its_alias(store: Store, tmp_path: Path) -> None:
    code = BLOCKED.format(model=MODEL, path=str(picture(tmp_path)))
    # without this project's own sources on the path: the version brings what it needs
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["DataFrame ['blue', 'red'] ['int64', 'str']"] * 8, done.stderr[-2000:]
    assert store.by_alias(MODEL, "balanced") is not None


@pytest.mark.usefixtures("store")
def test_mlflow_serves_a_version(tmp_path: Path) -> None:
    port = postgres.free_port()
    address = f"http://127.0.0.1:{port}"
    path = picture(tmp_path)
    text = base64.b64encode(path.read_bytes()).decode()
    command = [
        "mlflow",
        "models",
        "serve",
        "-m",
        f"models:/{MODEL}@balanced",
        "--env-manager",
        "local",
        "-p",
        str(port),
    ]
    with answering(command, f"{address}/ping", tmp_path):

        def ask(body: dict[str, Any]) -> list[str]:
            answer = requests.post(f"{address}/invocations", json=body, timeout=60)
            assert answer.ok, answer.text
            return sorted(row["class"] for row in answer.json()["predictions"])

        assert ask({"dataframe_split": {"columns": ["image"], "data": [[text]]}}) == ["blue", "red"]
        assert ask({"inputs": [text, str(path)]}) == ["blue", "blue", "red", "red"]
        assert len(ask({"inputs": [text], "params": {"max_det": 1}})) == 1
        example = json.loads(model_file("serving_input_example.json", tmp_path).read_text(encoding="utf-8"))
        assert ask(example) == []


def model_file(name: str, folder: Path) -> Path:
    """Return a file of the logged model, beside the version's own files."""
    import mlflow.artifacts

    uri = f"models:/{MODEL}@balanced/{name}"
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
