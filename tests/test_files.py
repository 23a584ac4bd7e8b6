"""Writes that are complete or not there, and hashes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from ethos.errors import DamagedFile, ModelError, told
from ethos.files import CHUNK_BYTES, new_file, new_folder, read_json, sha256_file, sha256_json, write_json, write_text

if TYPE_CHECKING:
    from pathlib import Path


class Interrupted(Exception):
    """Something went wrong while writing."""


def write_half(path: Path) -> None:
    with new_file(path) as temporary:
        temporary.write_text("half")
        raise Interrupted


def fill_half(path: Path) -> None:
    with new_folder(path) as temporary:
        (temporary / "half").touch()
        raise Interrupted


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1], ids=["empty", "byte", "chunk", "over"])
def test_file_hash_is_that_of_all_bytes(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert sha256_file(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()


def test_json_hash_ignores_the_order_of_keys_and_nothing_else() -> None:
    assert sha256_json({"a": 1, "b": [1, 2]}) == sha256_json({"b": [1, 2], "a": 1})
    assert sha256_json({"a": [1, 2]}) != sha256_json({"a": [2, 1]})
    assert sha256_json({"a": "ä"}) == hashlib.sha256('{"a":"ä"}'.encode()).hexdigest()


@pytest.mark.parametrize("value", [{"name": "Tempo 30", "sizes": [1, 2.5, None]}, [], "ä", {"deep": {"a": {}}}])
def test_json_round_trip(tmp_path: Path, value: Any) -> None:
    write_json(tmp_path / "new" / "file.json", value)
    assert read_json(tmp_path / "new" / "file.json") == value
    assert (tmp_path / "new" / "file.json").read_text(encoding="utf-8").endswith("\n")


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "labels.txt", "Vorfahrt gewähren\n")
    assert (tmp_path / "labels.txt").read_bytes() == "Vorfahrt gewähren\n".encode()


def test_a_failed_file_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(Interrupted):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_that_is_no_json_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "file.json", {"a": object()})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"
    path.mkdir(parents=True)
    (path / "stale").touch()
    with new_folder(path) as temporary:
        (temporary / "fresh").touch()
        assert (path / "stale").exists()
    assert [entry.name for entry in path.iterdir()] == ["fresh"]
    assert [entry.name for entry in path.parent.iterdir()] == ["folder"]
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(Interrupted):
        fill_half(path)
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable JSON document: Expecting value: line 1 column 1 (char 0)"),
        (b"\xff\xfe", "not a readable JSON document: 'utf-8' codec can't decode byte 0xff in position 0"),
        (b"[]", "a JSON object was expected, got list"),
        (b'{"schema": 1}', "has no key 'name'"),
    ],
    ids=["empty", "bytes", "list", "key"],
)
def test_a_damaged_document_is_told_with_its_path(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DamagedFile) as caught:
        read_json(tmp_path / "a.json", "schema", "name")
    assert caught.value.message.startswith(f"{tmp_path / 'a.json'}: {message}")
    assert caught.value.exit_code == 1


def test_what_the_system_refuses_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="File exists") as caught:
        write_text(tmp_path / "file" / "a.txt", "a")
    refused = told(caught.value)
    assert refused is not None
    assert refused.message == f"{tmp_path / 'file'}: is a file, a folder was expected"
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as folder:
        write_text(tmp_path / "folder", "a")
    refused = told(folder.value)
    assert refused is not None
    assert refused.message == f"{tmp_path / 'folder'}: is a folder, a file was expected"
    with pytest.raises(FileNotFoundError) as missing:
        read_json(tmp_path / "none.json")
    refused = told(missing.value)
    assert refused is not None
    assert refused.message == f"{tmp_path / 'none.json'}: no such file or directory"


def test_mistakes_of_the_program_are_not_told_as_the_users() -> None:
    assert told(KeyError("a")) is None
    assert told(OSError("no file is named")) is None
    ours = ModelError("a", "b")
    assert told(ours) is ours
