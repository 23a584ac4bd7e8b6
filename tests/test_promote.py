from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from registry_run import MODEL, new_project, register_run

from ethos import catalog
from ethos.errors import StoreError
from ethos.files import read_json, write_json
from ethos.registry import ledger
from ethos.registry.store import open_store
from pipelines.promote import main as stage

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.registry.records import VersionRecord

RUN = {
    "level2_relu": {"map50": 0.90, "latency_ms": 31.1},
    "level4_relu": {"map50": 0.92, "latency_ms": 17.4},
    "level4_leaky": {"map50": 0.93, "latency_ms": 19.5},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = new_project(tmp_path)
    monkeypatch.chdir(root)
    return root


def promote(root: Path, run: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Register the variants and promote them as the stages do; return the decisions by scenario."""
    keep(root, register_run(root, run))
    set_variants(root, *run)
    stage()
    decisions: dict[str, Any] = read_json(root / "outputs/promote/decisions.json")
    assert (decisions["schema"], decisions["model"]) == (1, MODEL)
    scenarios: dict[str, Any] = decisions["scenarios"]
    return scenarios


def keep(root: Path, records: list[VersionRecord]) -> None:
    for record in records:
        write_json(root / f"outputs/register/{record.variant}/{record.form}.json", record.as_registered().document())


def set_variants(root: Path, *variants: str) -> None:
    text = (root / "params.yaml").read_text()
    head, _, rest = text.partition("variants:")
    rest = rest[rest.index("targets:") :]
    (root / "params.yaml").write_text(f"{head}variants: [{', '.join(variants)}]\n{rest}")


def state(root: Path) -> dict[int, tuple[str, tuple[str, ...]]]:
    """Return stage and aliases of every version."""
    store = open_store(root)
    records = [store.version(MODEL, record.version) for record in store.versions(MODEL)]
    return {record.version: (record.stage, record.aliases) for record in records}


def test_each_scenario_gets_its_pinned_variant(root: Path) -> None:
    decisions = promote(root, RUN)

    assert {name: (d["version"], d["variant"], d["by"]) for name, d in decisions.items()} == {
        "realtime": (1, "level2_relu", "pin"),
        "balanced": (2, "level4_relu", "pin"),
        "accuracy": (3, "level4_leaky", "pin"),
    }
    assert (
        "prefers version 2 (level4_relu, dense): npu.latency_ms 17.4 ms against 31.1 ms"
        in (decisions["realtime"]["disagreement"])
    )
    assert state(root) == {
        1: ("realtime", ("realtime",)),
        2: ("balanced", ("balanced",)),
        3: ("accuracy", ("accuracy",)),
    }
    events = ledger.read(root / "registry/ledger.jsonl")
    assert [(e["scenario"], e["from"], e["to"]) for e in events] == [
        ("realtime", None, 1),
        ("balanced", None, 2),
        ("accuracy", None, 3),
    ]
    assert {event["store"] for event in events} == {open_store(root).identity()}


def test_promoting_again_changes_nothing(root: Path) -> None:
    promote(root, RUN)
    files = [root / "outputs/promote/decisions.json", root / "registry/ledger.jsonl"]
    before = [file.read_bytes() for file in files]
    stage()
    assert [file.read_bytes() for file in files] == before


def test_a_new_run_takes_over_and_the_old_version_steps_back(root: Path) -> None:
    promote(root, RUN)
    # old versions of better score do not interfere
    decisions = promote(
        root, {name: {**values, "map50": values["map50"] - 0.1, "conf": 0.01} for name, values in RUN.items()}
    )

    assert [decision["version"] for decision in decisions.values()] == [4, 5, 6]
    assert state(root) == {
        **dict.fromkeys((1, 2, 3), ("candidate", ())),
        4: ("realtime", ("realtime",)),
        5: ("balanced", ("balanced",)),
        6: ("accuracy", ("accuracy",)),
    }
    last = ledger.read(root / "registry/ledger.jsonl")[3:]
    assert [(event["from"], event["to"]) for event in last] == [(1, 4), (2, 5), (3, 6)]


def test_a_version_that_serves_several_scenarios_has_them_all_as_stage(root: Path) -> None:
    decisions = promote(root, {"level4_relu": RUN["level4_relu"]})
    assert {decision["stage"] for decision in decisions.values()} == {"realtime,balanced,accuracy"}
    assert state(root) == {1: ("realtime,balanced,accuracy", ("accuracy", "balanced", "realtime"))}
    assert decisions["accuracy"]["reason"] == (
        "no version of the pinned level4_leaky is registered; "
        "level4_relu has the highest int8.map50_95 of those that pass"
    )


def test_where_nothing_passes_the_live_version_stays(root: Path) -> None:
    promote(root, RUN)
    decisions = promote(root, {name: {**values, "map50": 0.3} for name, values in RUN.items()})
    # the same bytes and protocol: the same versions, and their first scores
    assert [decision["version"] for decision in decisions.values()] == [1, 2, 3]

    slow = {name: {**values, "latency_ms": 90.0, "conf": 0.01} for name, values in RUN.items()}
    decisions = promote(root, slow)

    assert [decision["version"] for decision in decisions.values()] == [None, 5, 6]
    assert decisions["realtime"]["reason"] == (
        "no version passes the gates of 'realtime'; nearest: version 4 (level2_relu, dense) "
        "fails npu.fps >= 20 with 11.111 1/s"
    )
    assert [(r["version"], r["gate"]) for r in decisions["realtime"]["rejected"]] == [
        (4, "npu.fps >= 20"),
        (5, "npu.fps >= 20"),
        (6, "npu.fps >= 20"),
    ]
    assert state(root)[1] == ("realtime", ("realtime",))


def test_an_alias_moved_by_hand_is_put_right(root: Path) -> None:
    promote(root, RUN)
    store = open_store(root)
    store.set_alias(store.version(MODEL, 3), "realtime")
    stage()
    assert state(root)[1] == ("realtime", ("realtime",))
    last = ledger.read(root / "registry/ledger.jsonl")[-1]
    assert (last["from"], last["to"]) == (3, 1)


def test_outputs_of_a_version_that_is_gone(root: Path) -> None:
    records = register_run(root, RUN)
    keep(root, records)
    set_variants(root, *RUN)
    open_store(root).tag_version(records[1], {"ready": "false"})
    with pytest.raises(StoreError) as caught:
        stage()
    assert caught.value.message == "version 2 (level4_relu, dense) is not in the store as it was registered"
    assert state(root)[1] == ("candidate", ())
    assert not (root / "outputs/promote").exists()


def test_what_the_run_leaves_out_is_not_looked_at(root: Path) -> None:
    promote(root, RUN)
    decisions = promote(root, {"level4_relu": RUN["level4_relu"]})
    assert (root / "outputs/register/level2_relu/dense.json").is_file()
    assert {decision["version"] for decision in decisions.values()} == {2}


def test_a_variant_of_the_run_that_is_not_registered(root: Path) -> None:
    keep(root, register_run(root, {"level4_relu": RUN["level4_relu"]}))
    set_variants(root, "level4_relu", "level2_relu")
    with pytest.raises(StoreError) as caught:
        stage()
    assert caught.value.message == "outputs/register/level2_relu/dense.json: is missing, it is not registered"


def test_the_policy_of_the_project_can_be_read_and_pins_what_it_should() -> None:
    from ethos.registry.policy import check

    policy = catalog.load_policy()
    check(policy)
    assert {name: scenario.pin for name, scenario in policy.scenarios.items()} == {
        "realtime": "level2_relu",
        "balanced": "level4_relu",
        "accuracy": "level4_leaky",
    }
