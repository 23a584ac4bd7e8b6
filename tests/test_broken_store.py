"""A registry that cannot be used: every command answers in one line with what helps."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from registry_run import MODEL
from test_history import ethos

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = (("select", "--scenario", "realtime"), ("promote", "--scenario", "realtime"), ("history",), ("audit",))


def sql(*statements: str) -> None:
    connection = sqlite3.connect("registry/mlflow.db")
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def _older_schema() -> None:
    sql("UPDATE alembic_version SET version_num = '451aebb31d03'")


def _newer_schema() -> None:
    sql("UPDATE alembic_version SET version_num = 'ffffffffffff'")


def _cut_short() -> None:
    path = Path("registry/mlflow.db")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def _no_tables() -> None:
    sql("DROP TABLE model_version_tags", "DROP TABLE registered_model_aliases")


def _wrong_model() -> None:
    path = Path("params.yaml")
    path.write_text(path.read_text().replace(MODEL, "traffic-sign-detectr"))


def _unknown_figure() -> None:
    path = Path("registry/policy.yaml")
    path.write_text(path.read_text().replace("npu.fps >= 20", "npu.fsp >= 20"))


def _no_artifacts() -> None:
    path = Path("registry/artifacts")
    path.rename(path.with_name("elsewhere"))


BROKEN: dict[str, tuple[Callable[[], None], int, str]] = {
    "older schema": (
        _older_schema,
        1,
        r"database schema.*\n  fix: it is of another MLflow.*mlflow db upgrade sqlite:///",
    ),
    "newer schema": (_newer_schema, 1, r"ffffffffffff.*\n  fix: it is of another MLflow version"),
    "cut short": (_cut_short, 1, r"(malformed|is no usable store).*\n  fix: "),
    "half-written": (_no_tables, 1, r"no such table: \w+.*\n  fix: the store is not whole"),
    "wrong model": (_wrong_model, 2, rf"unknown model 'traffic-sign-detectr'\n  fix: did you mean {MODEL}\?"),
    "unknown figure": (
        _unknown_figure,
        2,
        r"realtime: unknown figure 'npu\.fsp'\n  fix: did you mean npu\.fps",
    ),
}


@pytest.mark.parametrize("command", [("select", "--scenario", "realtime"), ("policy", "check")], ids=" ".join)
@pytest.mark.parametrize(("damage", "code", "text"), BROKEN.values(), ids=BROKEN)
@pytest.mark.usefixtures("promoted")
def test_a_broken_store_is_one_line_with_the_fix(
    damage: Callable[[], None], code: int, text: str, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    damage()
    _one_line(capsys, command, code, text)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("http://someone:secret@127.0.0.1:9", r"http://someone:\*\*\*@127\.0\.0\.1:9.*\n  fix: start the server"),
        ("postgresql+psycopg2://me:secret@127.0.0.1:9/x", r"me:\*\*\*@127\.0\.0\.1:9.*\n  fix: start the server"),
        ("postgresql+pg8000://127.0.0.1:9/x", r"No module named 'pg8000'\n  fix: install that driver"),
        ("gopher://somewhere", r"gopher.*\n  fix: "),
    ],
    ids=["server", "database", "driver", "scheme"],
)
@pytest.mark.usefixtures("promoted")
def test_an_address_that_does_not_answer(
    address: str,
    text: str,
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    _one_line(capsys, command, 1, text)


@pytest.mark.parametrize("command", [*COMMANDS, ("register", "level2_relu"), ("report",)], ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://localhost:abc", "http://localhost:abc"),
        ("http://[::1", "http://[::1"),
        ("http://me:se/cret@localhost", "http://***@localhost"),
        ("postgresql://me:secret@localhost:abc/x", "postgresql://***@localhost:abc/x"),
    ],
)
@pytest.mark.usefixtures("promoted")
def test_an_address_that_is_none(
    address: str,
    shown: str,
    command: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    said = re.escape(f"error: MLFLOW_TRACKING_URI: not an address: {shown}\n  fix: write it as http://HOST:PORT")
    _one_line(capsys, command, 1, said)


@pytest.mark.usefixtures("promoted")
def test_an_alias_on_a_deleted_version(capsys: pytest.CaptureFixture[str]) -> None:
    # MLflow drops the alias itself; other registries and hands may not
    sql("UPDATE model_versions SET current_stage = 'Deleted_Internal' WHERE version = 1")
    text = r"alias 'realtime' points to version 1, which was deleted\n  fix: promote another: ethos promote"
    _one_line(capsys, ("select", "--scenario", "realtime"), 1, text)
    assert ethos(capsys, "promote", "--scenario", "realtime")[0] == 0
    assert ethos(capsys, "select", "--scenario", "realtime", "--json")[1]["version"] == 2


@pytest.mark.usefixtures("promoted")
def test_files_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    _no_artifacts()
    _one_line(capsys, ("select", "--scenario", "realtime"), 1, r"its INT8 file is gone: .*\n  fix: register it again")
    code, document, _ = ethos(capsys, "audit", "--json")
    assert (code, {row["kind"] for row in document["findings"]}) == (1, {"artifact_missing"})


def _one_line(capsys: pytest.CaptureFixture[str], command: tuple[str, ...], code: int, text: str) -> None:
    found, out, err = ethos(capsys, *command)
    lines = [line for line in err.splitlines() if "WARNING" not in line]
    said = "\n".join(lines)
    assert (found, out) == (code, "")
    assert said.startswith("error: ")
    assert re.search(text, said), said
    assert len(lines) == 2
    assert "secret" not in said
