"""Promotion by hand, going back, and what the ledger tells of it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from registry_run import MODEL, register_run

from ethos import catalog
from ethos.cli import main
from ethos.errors import GateFailed, SpecError, StoreError
from ethos.files import sha256_json
from ethos.registry import ledger
from ethos.registry.history import history, parse_time, replay_all, sentence, verify
from ethos.registry.live import live
from ethos.registry.promote import promote, promote_scenario, rollback
from ethos.registry.store import Store, open_store

if TYPE_CHECKING:
    from ethos.specs import Policy


@pytest.fixture
def store(promoted: Path) -> Store:
    return open_store(promoted)


@pytest.fixture
def policy(promoted: Path) -> Policy:
    assert promoted == Path.cwd()
    return catalog.load_policy()


def ethos(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    """Run a command in this process; return its exit code, its JSON document if there is one, and stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ethos", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(out) if out.startswith("{") else out, err


def serving(store: Store) -> dict[str, tuple[int, str]]:
    """Return the version of each alias, and its stage tag."""
    model = store.model(MODEL)
    assert model is not None
    return {name: (v, store.version(MODEL, v).stage) for name, v in sorted(model.aliases.items())}


AS_PROMOTED = {"accuracy": (3, "accuracy"), "balanced": (2, "balanced"), "realtime": (1, "realtime")}


# --- promote ---------------------------------------------------------------------------------------------------------


def test_a_version_named_takes_over_and_the_ledger_says_why(store: Store, policy: Policy, promoted: Path) -> None:
    event = promote_scenario(store, policy, MODEL, "realtime", promoted, version=2)

    assert event["changed"]
    assert (event["event"], event["from"], event["to"], event["decision"]["by"]) == ("promote", 1, 2, "person")
    assert event["policy_sha256"] == sha256_json(policy.model_dump(mode="json"))
    assert event["inputs"]["versions"][0]["figures"]["npu.ethos-u65-512.latency_ms"] == 17.4
    assert serving(store) == {
        "accuracy": (3, "accuracy"),
        "balanced": (2, "realtime,balanced"),
        "realtime": (2, "realtime,balanced"),
    }
    assert store.version(MODEL, 1).stage == "candidate"
    answer = live(store, policy, MODEL, "realtime")
    assert (answer["version"], answer["by"], answer["reason"]) == (2, "person", f"{event['who']} chose version 2")


def test_without_a_version_the_policy_decides_over_all(store: Store, policy: Policy, promoted: Path) -> None:
    register_run(promoted, {"level2_relu": {"map50": 0.95, "latency_ms": 12.0, "form": "pruned"}})
    event = promote_scenario(store, policy, MODEL, "realtime", promoted)
    assert (event["to"], event["variant"], event["form"], event["decision"]["by"]) == (
        4,
        "level2_relu",
        "pruned",
        "pin",
    )
    again = promote_scenario(store, policy, MODEL, "realtime", promoted)
    assert not again["changed"]
    assert len(ledger.read(promoted / ledger.LEDGER)) == 4


def test_a_pruned_form_that_is_not_better_is_kept_and_not_promoted(
    store: Store, policy: Policy, promoted: Path
) -> None:
    [record] = register_run(promoted, {"level2_relu": {"map50": 0.95, "latency_ms": 40.0, "form": "pruned"}})
    event = promote_scenario(store, policy, MODEL, "realtime", promoted)
    assert (event["changed"], event["to"]) == (False, 1)
    assert (store.version(MODEL, record.version).stage, record.ready) == ("candidate", True)


def test_dense_and_pruned_forms_decide_together(store: Store, policy: Policy, promoted: Path) -> None:
    faster = {"map50": 0.93, "latency_ms": 12.0, "form": "pruned"}
    register_run(promoted, {"level2_relu": faster, "level4_relu": faster})
    decisions = promote(store, policy, store.ready(MODEL), promoted)["scenarios"]
    chosen = {name: (decision["variant"], decision["form"]) for name, decision in decisions.items()}
    assert chosen == {
        "realtime": ("level2_relu", "pruned"),
        "balanced": ("level4_relu", "pruned"),
        "accuracy": ("level4_leaky", "dense"),
    }
    assert rollback(store, policy, MODEL, "realtime", promoted)["form"] == "dense"
    assert live(store, policy, MODEL, "balanced", strict=True, root=promoted)["form"] == "pruned"
    assert replay_all(store, policy, MODEL, promoted)["different"] == 0
    assert verify(store, policy, MODEL, promoted)["ok"]


def test_a_failing_gate_needs_a_reason(store: Store, policy: Policy, promoted: Path) -> None:
    with pytest.raises(GateFailed) as caught:
        promote_scenario(store, policy, MODEL, "realtime", promoted, version=3)
    assert str(caught.value) == (
        "version 3 (level4_leaky, dense) fails npu.fps >= 20 of 'realtime' with 16.667 1/s\n"
        "  fix: choose another version, or say why this one: --force --reason TEXT"
    )
    assert serving(store) == AS_PROMOTED

    event = promote_scenario(store, policy, MODEL, "realtime", promoted, version=3, forced="field trial")
    assert event["decision"]["forced"] == "field trial"
    assert event["decision"]["rejected"][0]["gate"] == "npu.fps >= 20"
    assert serving(store)["realtime"] == (3, "realtime,accuracy")
    assert "forced: field trial; but it fails the gates" in live(store, policy, MODEL, "realtime")["reason"]


def test_what_is_damaged_or_not_ready_is_not_promoted(store: Store, policy: Policy, promoted: Path) -> None:
    place = Path(store.file_place(store.version(MODEL, 2), "int8.tflite"))
    place.write_bytes(b"altered")
    with pytest.raises(StoreError, match=r"^version 2 .*: its INT8 file was altered"):
        promote_scenario(store, policy, MODEL, "realtime", promoted, version=2)
    store.tag_version(store.version(MODEL, 2), {"ready": "false"})
    with pytest.raises(StoreError, match=r"^version 2 .* is not ready"):
        promote_scenario(store, policy, MODEL, "realtime", promoted, version=2)
    with pytest.raises(StoreError, match=r"has no version 9"):
        promote_scenario(store, policy, MODEL, "realtime", promoted, version=9)
    assert serving(store)["realtime"] == (1, "realtime")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--version", "3", "--force"), "--force and --reason go together"),
        (("--version", "3", "--reason", "trial"), "--force and --reason go together"),
        (("--force", "--reason", "trial"), "--force needs the version to promote"),
    ],
)
@pytest.mark.usefixtures("promoted")
def test_force_and_reason(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str) -> None:
    code, _, err = ethos(capsys, "promote", "--scenario", "realtime", *arguments)
    assert code == 2
    assert err.startswith(f"error: {message}\n")


# --- rollback --------------------------------------------------------------------------------------------------------


def test_rolling_back_goes_one_further_each_time(store: Store, policy: Policy, promoted: Path) -> None:
    for version, forced in ((2, None), (3, "trial")):
        promote_scenario(store, policy, MODEL, "realtime", promoted, version, forced)
    assert rollback(store, policy, MODEL, "realtime", promoted, "too slow")["to"] == 2
    assert rollback(store, policy, MODEL, "realtime", promoted)["to"] == 1
    assert serving(store) == AS_PROMOTED
    with pytest.raises(StoreError) as caught:
        rollback(store, policy, MODEL, "realtime", promoted)
    assert caught.value.message == "'realtime' has no earlier version to go back to"

    events = ledger.read(promoted / ledger.LEDGER)
    assert [(e["event"], e["from"], e["to"]) for e in events if e["scenario"] == "realtime"] == [
        ("promote", None, 1),
        ("promote", 1, 2),
        ("promote", 2, 3),
        ("rollback", 3, 2),
        ("rollback", 2, 1),
    ]
    assert "rolled back: too slow" in sentence(events[-2])
    promote_scenario(store, policy, MODEL, "realtime", promoted, 2)
    assert rollback(store, policy, MODEL, "realtime", promoted)["to"] == 1


def test_there_is_no_going_back_to_what_is_gone(store: Store, policy: Policy, promoted: Path) -> None:
    promote_scenario(store, policy, MODEL, "realtime", promoted, 2)
    store.delete_version(store.version(MODEL, 1))
    with pytest.raises(StoreError, match="version 1 served 'realtime' before, but it was deleted"):
        rollback(store, policy, MODEL, "realtime", promoted)
    assert serving(store)["realtime"][0] == 2


# --- history ---------------------------------------------------------------------------------------------------------


def test_what_was_live_at_a_time(store: Store, policy: Policy, promoted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    import ethos.registry.promote as module

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2031, 5, 31, 14, 0, tzinfo=tz or UTC)

    monkeypatch.setattr(module, "datetime", Later)
    promote_scenario(store, policy, MODEL, "realtime", promoted, 2)

    def at(text: str | None) -> int | None:
        version: int | None = history(store, policy, MODEL, promoted, "realtime", text)["live"]["realtime"]["version"]
        return version

    times = (None, "2031-05-30", "2031-05-31", "2031-05-31T13:59", "2031-05-31T14:00", "2031-05-31T15:30+02:00")
    assert [at(text) for text in (*times, "2001-01-01")] == [2, 1, 2, 1, 2, 1, None]
    assert len(history(store, policy, MODEL, promoted)["events"]) == 4
    assert history(store, policy, MODEL, promoted)["live"]["balanced"]["version"] == 2


def test_a_time_that_cannot_be_read() -> None:
    with pytest.raises(SpecError) as caught:
        parse_time("last week")
    assert str(caught.value) == "'last week' is no date or time\n  fix: write 2026-05-31 or 2026-05-31T14:00"


def test_an_alias_moved_by_hand_is_shown_everywhere(store: Store, policy: Policy, promoted: Path) -> None:
    store.set_alias(store.version(MODEL, 2), "accuracy")
    assert live(store, policy, MODEL, "accuracy")["by"] == "hand"
    now = history(store, policy, MODEL, promoted)["live"]["accuracy"]
    assert now == {"version": 2, "by": "hand", "ledger": 3}

    promote_scenario(store, policy, MODEL, "accuracy", promoted)

    events = [event for event in ledger.read(promoted / ledger.LEDGER) if event["scenario"] == "accuracy"]
    assert [(e["event"], e["from"], e["to"]) for e in events[1:]] == [("moved", 3, 2), ("promote", 2, 3)]
    assert sentence(events[1]) == "accuracy: found moved by hand from version 3 to version 2"
    assert serving(store) == AS_PROMOTED


def test_an_alias_taken_away_by_hand(store: Store, policy: Policy, promoted: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(store.tracking_uri)
    client.delete_registered_model_alias(MODEL, "realtime")
    with pytest.raises(StoreError, match=r"^version 1, promoted by \w+ at \S+, lost its alias by hand: nothing serves"):
        live(store, policy, MODEL, "realtime")
    client.delete_model_version(MODEL, "3")
    with pytest.raises(StoreError, match=r"^version 3, promoted by \w+ at \S+, was deleted: nothing serves 'accuracy'"):
        live(store, policy, MODEL, "accuracy")
    assert promote_scenario(store, policy, MODEL, "realtime", promoted)["to"] == 1
    assert serving(store)["realtime"] == (1, "realtime")


# --- replay ----------------------------------------------------------------------------------------------------------


def test_every_decision_comes_out_again(store: Store, policy: Policy, promoted: Path) -> None:
    promote_scenario(store, policy, MODEL, "realtime", promoted, 3, "trial")
    rollback(store, policy, MODEL, "realtime", promoted)
    store.set_alias(store.version(MODEL, 2), "accuracy")
    promote_scenario(store, policy, MODEL, "accuracy", promoted)

    found = replay_all(store, policy, MODEL, promoted)

    assert (found["ok"], found["same"], found["different"]) == (True, 6, 0)
    assert [row["result"] for row in found["events"]] == [*["same"] * 5, "no decision", "same"]


CHANGES: dict[str, Any] = {
    "another version came out": lambda event: event.update(to=2),
    "a figure changed": lambda event: event["inputs"]["versions"][0]["figures"].update({"int8.map50": 0.1}),
    "a gate changed": lambda event: event["inputs"]["scenario"].update(gates=["npu.fps >= 50"]),
    "a gate that nothing passes": lambda event: event["inputs"]["scenario"].update(gates=["int8.map50 >= 1"]),
    "another reason": lambda event: event["decision"].update(reason="because"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_decision_that_does_not_follow_from_its_inputs_is_found(promoted: Path, change: Any) -> None:
    from ethos.registry.replay import replay

    event = ledger.read(promoted / ledger.LEDGER)[0]
    assert replay(event)["result"] == "same"
    change(event)
    assert replay(event)["result"] == "different"


# --- verify ----------------------------------------------------------------------------------------------------------


def test_the_ledger_lives_in_the_registry_too(store: Store, policy: Policy, promoted: Path) -> None:
    path = promoted / ledger.LEDGER
    whole = path.read_text()
    model = store.model(MODEL)
    assert model is not None
    assert store.get_text(store.ledger_run(model), "ledger.jsonl") == whole

    path.write_text("".join(whole.splitlines(keepends=True)[:1]))
    assert verify(store, policy, MODEL, promoted)["problems"] == [
        f"{path}: 2 of 3 events were missing, cut off here or made on another machine; "
        "they were fetched from the registry"
    ]
    assert path.read_text() == whole
    assert verify(store, policy, MODEL, promoted) == {
        "schema": 1,
        "model": MODEL,
        "ok": True,
        "events": 3,
        "problems": [],
    }
    path.unlink()
    assert live(store, policy, MODEL, "realtime")["version"] == 1
    assert len(history(store, policy, MODEL, promoted)["events"]) == 3
    assert path.read_text() == whole


def _changed(event: dict[str, Any], before: list[dict[str, Any]], **values: Any) -> str:
    body = {key: value for key, value in event.items() if key not in ("schema", "previous", "sha256")}
    return json.dumps(ledger.chained({**body, **values}, before))


def _forge(lines: list[str]) -> list[str]:
    """Return the ledger with an invented event at its end, its hashes right."""
    events = [json.loads(line) for line in lines]
    return [*lines, _changed(events[0], events, **{"from": 1, "to": 2})]


def _rewrite(lines: list[str]) -> list[str]:
    """Return the ledger with its last event changed and hashed anew."""
    events = [json.loads(line) for line in lines]
    return [*lines[:2], _changed(events[2], events[:2], who="somebody else")]


@pytest.mark.parametrize(("tamper", "number"), [(_forge, 4), (_rewrite, 3)], ids=["forged", "rewritten"])
def test_a_ledger_that_is_whole_but_not_the_registrys(
    promoted: Path, capsys: pytest.CaptureFixture[str], tamper: Any, number: int
) -> None:
    path = promoted / ledger.LEDGER
    path.write_text("".join(f"{line}\n" for line in tamper(path.read_text().splitlines())))
    code, _, err = ethos(capsys, "history", "verify")
    assert code == 1
    assert err.startswith(f"error: {path}: event {number} is not the store's: ")


def test_a_ledger_of_an_earlier_kind_is_entered_in_the_store(store: Store, policy: Policy, promoted: Path) -> None:
    other = open_store(promoted)
    model = other.model(MODEL)
    assert model is not None
    # as a store that never kept count
    other.tag_model(MODEL, "ledger.run", other._create_ledger_run(MODEL))
    other.tag_model(MODEL, "ledger.done", "0")
    assert verify(store, policy, MODEL, promoted)["ok"]
    promote_scenario(store, policy, MODEL, "realtime", promoted, 2)
    assert len(ledger.read(promoted / ledger.LEDGER)) == 4


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("promoted")
def test_the_commands_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, document, err = ethos(capsys, "promote", "--scenario", "realtime", "--version", "2", "--json")
    assert (code, document["to"], document["changed"], err) == (0, 2, True, "")
    code, document, _ = ethos(capsys, "rollback", "--scenario", "realtime", "--reason", "trial over", "--json")
    assert (code, document["to"], document["event"]) == (0, 1, "rollback")
    code, document, _ = ethos(capsys, "history", "--scenario", "realtime", "--json")
    assert (code, len(document["events"]), document["live"]["realtime"]["version"]) == (0, 3, 1)
    code, shown, _ = ethos(capsys, "history")
    assert code == 0
    assert "realtime: rollback from version 2 to version 1 (level2_relu, dense)" in shown
    code, document, _ = ethos(capsys, "history", "replay", "--json")
    assert (code, document["ok"], document["same"]) == (0, True, 5)
    assert "5 the same, 0 different" in ethos(capsys, "history", "replay")[1]
    assert ethos(capsys, "history", "verify")[:2] == (0, "5 events, whole and as the registry has them\n")
    assert ethos(capsys, "promote", "--scenario", "realtime")[1].startswith("nothing to do, it serves already: ")
    code, _, err = ethos(capsys, "promote", "--scenario", "realtime", "--version", "3")
    assert (code, err.count("\n")) == (1, 2)
    code, _, err = ethos(capsys, "history", "--at", "soon")
    assert (code, err.splitlines()[0]) == (2, "error: 'soon' is no date or time")


def test_the_ledger_of_a_project_that_lost_its_store_goes_on(
    store: Store, policy: Policy, promoted: Path, tmp_path: Path
) -> None:
    from registry_run import new_project, promote_run

    other = new_project(tmp_path / "other")
    shutil.copyfile(promoted / ledger.LEDGER, other / ledger.LEDGER)
    new = open_store(other)
    new._client.set_experiment_tag(new.experiment_id, "ethos.identity", "f" * 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(other)
        promote_run(other)
    events = ledger.read(other / ledger.LEDGER)
    assert [event["store"] for event in events] == [*[store.identity()] * 3, *["f" * 32] * 3]
    assert verify(new, policy, MODEL, other)["ok"]
    assert len(history(new, policy, MODEL, other, "realtime")["events"]) == 2
