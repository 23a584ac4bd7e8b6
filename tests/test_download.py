"""`ethos select --download`: the files of a deployment, verified, whole or not there, and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from registry_run import MODEL

from ethos import catalog
from ethos.errors import StoreError
from ethos.files import read_json, sha256_file
from ethos.registry.download import download
from ethos.registry.store import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethos.specs import Policy

FILES = [
    "int8.tflite",
    "labels.txt",
    "decode.json",
    "decode.h",
    "model_card.md",
    "LICENSE",
    "vela/ethos-u65-512.tflite",
    "manifest.json",
]


@pytest.fixture
def policy(promoted: Path) -> Policy:
    assert promoted == Path.cwd()
    return catalog.load_policy()


@pytest.fixture
def store(promoted: Path) -> Store:
    return open_store(promoted)


def found_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_download_holds_what_a_device_needs(store: Store, policy: Policy, tmp_path: Path) -> None:
    folder = tmp_path / "new/deploy"

    answer = download(store, policy, MODEL, "realtime", folder)

    assert answer["download"] == {"folder": str(folder), "files": FILES, "kept": []}
    assert found_in(folder) == sorted(FILES)
    manifest = read_json(folder / "manifest.json")["files"]
    assert all(sha256_file(folder / name) == manifest[name]["sha256"] for name in FILES if name != "manifest.json")
    assert sha256_file(folder / "int8.tflite") == answer["artifact"]["sha256"]
    assert list(folder.parent.iterdir()) == [folder]


def test_a_download_for_another_target_has_its_compiled_file(store: Store, policy: Policy, tmp_path: Path) -> None:
    answer = download(store, policy, MODEL, "realtime", tmp_path / "deploy", target="ethos-u55-256")
    assert answer["target"] == "ethos-u55-256"
    assert "vela/ethos-u55-256.tflite" in found_in(tmp_path / "deploy")
    assert "vela/ethos-u65-512.tflite" not in found_in(tmp_path / "deploy")


def test_an_interrupted_download_goes_on(
    store: Store, policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    original = Store.fetch

    def fail_late(self: Store, record: Any, name: str, destination: Path) -> Path:
        if name == "model_card.md" and "model_card.md" not in fetched:
            fetched.append(name)
            raise KeyboardInterrupt
        fetched.append(name)
        return original(self, record, name, destination)

    monkeypatch.setattr(Store, "fetch", fail_late)
    with pytest.raises(KeyboardInterrupt):
        download(store, policy, MODEL, "realtime", tmp_path / "deploy")
    assert not (tmp_path / "deploy").exists()
    part = tmp_path / ".deploy.part"
    assert found_in(part) == ["decode.h", "decode.json", "int8.tflite", "labels.txt", "manifest.json"]
    (part / "labels.txt").write_text("half of it")
    fetched[:] = ["model_card.md"]

    answer = download(store, policy, MODEL, "realtime", tmp_path / "deploy")

    assert answer["download"]["kept"] == ["int8.tflite", "decode.json", "decode.h"]
    assert set(fetched) == {"manifest.json", "labels.txt", "model_card.md", "LICENSE", "vela/ethos-u65-512.tflite"}
    assert found_in(tmp_path / "deploy") == sorted(FILES)
    assert not part.exists()


def test_what_another_version_left_half_way_is_not_delivered(store: Store, policy: Policy, tmp_path: Path) -> None:
    part = tmp_path / ".deploy.part"
    (part / "vela").mkdir(parents=True)
    (part / "vela/ethos-u85-1024.tflite").write_text("of another version")
    (part / "int8.tflite").write_text("of another version")
    assert download(store, policy, MODEL, "realtime", tmp_path / "deploy")["download"]["kept"] == []
    assert found_in(tmp_path / "deploy") == sorted(FILES)


def _edit_manifest(source: Path) -> None:
    manifest = read_json(source / "manifest.json")
    manifest["files"]["int8.tflite"]["sha256"] = "e" * 64
    (source / "manifest.json").write_text(json.dumps(manifest))


def _alter_and_enter(source: Path) -> None:
    (source / "labels.txt").write_text("other\nclasses\n")
    manifest = read_json(source / "manifest.json")
    manifest["files"]["labels.txt"]["sha256"] = sha256_file(source / "labels.txt")
    (source / "manifest.json").write_text(json.dumps(manifest))


VERSION = "version 1 (level2_relu, dense): "
COMPILED = "vela/ethos-u65-512.tflite"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "INT8 file altered": (lambda source: (source / "int8.tflite").write_bytes(b"x"), "its INT8 file was altered: "),
    "INT8 file gone": (lambda source: (source / "int8.tflite").unlink(), "its INT8 file is gone: "),
    "compiled file altered": (lambda source: (source / COMPILED).write_bytes(b"x"), f"{COMPILED} was altered: "),
    "compiled file gone": (lambda source: (source / COMPILED).unlink(), f"{COMPILED} is gone: "),
    "labels gone": (lambda source: (source / "labels.txt").unlink(), "labels.txt is gone: "),
    "manifest gone": (lambda source: (source / "manifest.json").unlink(), "manifest.json is gone: "),
    "manifest no JSON": (lambda source: (source / "manifest.json").write_text("{"), "its manifest.json is unreadable"),
    "manifest altered": (_edit_manifest, "its manifest.json is about another INT8 file"),
    "file and manifest altered": (_alter_and_enter, "its manifest.json was altered"),
    "all gone": (shutil.rmtree, "its INT8 file is gone: "),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_never_served(
    store: Store, policy: Policy, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(Path(store.file_place(store.version(MODEL, 1), "int8.tflite")).parent)
    with pytest.raises(StoreError) as caught:
        download(store, policy, MODEL, "realtime", tmp_path / "deploy")
    assert caught.value.message.startswith(f"{VERSION}{message}")
    assert caught.value.fix == "register it again: dvc repro"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project"]


def test_a_folder_in_use_is_left_alone(store: Store, policy: Policy, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(StoreError) as caught:
        download(store, policy, MODEL, "realtime", tmp_path / "mine")
    assert caught.value.message == f"{tmp_path}/mine: is there already and not empty"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]

    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/deploy: cannot be written: "):
        download(store, policy, MODEL, "realtime", tmp_path / "file/deploy")


def test_an_empty_folder_is_filled(store: Store, policy: Policy, tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    assert download(store, policy, MODEL, "balanced", tmp_path / "deploy")["version"] == 2
    assert (tmp_path / "deploy/int8.tflite").is_file()
