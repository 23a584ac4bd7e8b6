from __future__ import annotations

import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from registry_run import MODEL, new_project, register_run
from rich.console import Console

from ethos import catalog
from ethos.errors import SpecError, StoreError
from ethos.files import sha256_file
from ethos.registry.explain import explain
from ethos.registry.live import live
from ethos.registry.select import NothingPasses
from ethos.registry.store import Store, open_store
from ethos.registry.tables import rejections, selection

if TYPE_CHECKING:
    from ethos.specs import Policy


@pytest.fixture
def root(promoted: Path) -> Path:
    return promoted


@pytest.fixture
def policy(root: Path) -> Policy:
    assert root == Path.cwd()
    return catalog.load_policy()


@pytest.fixture
def store(root: Path) -> Store:
    return open_store(root)


def with_gates(policy: Policy, *gates: str) -> Policy:
    """Return the policy with other gates for realtime."""
    changed = policy.scenarios["realtime"].model_copy(update={"gates": gates})
    return policy.model_copy(update={"scenarios": {**policy.scenarios, "realtime": changed}})


# --- what serves -----------------------------------------------------------------------------------------------------


def test_the_live_version_is_answered_from_its_alias(store: Store, policy: Policy) -> None:
    answer = live(store, policy, MODEL, "realtime", strict=True)

    place = Path(answer["artifact"]["path"])
    assert place.is_absolute()
    assert sha256_file(place) == answer["artifact"]["sha256"]
    keys = ("schema", "scenario", "model", "version", "variant", "form", "stage", "by", "rejected")
    assert {key: answer[key] for key in keys} == {
        "schema": 1,
        "scenario": "realtime",
        "model": MODEL,
        "version": 1,
        "variant": "level2_relu",
        "form": "dense",
        "stage": "realtime",
        "by": "pin",
        "rejected": [
            {
                "version": 3,
                "variant": "level4_leaky",
                "form": "dense",
                "gate": "npu.fps >= 20",
                "value": 1000 / 60,
                "limit": 20.0,
            }
        ],
    }
    assert (answer["fp32"], answer["int8"]["map50"]) == ({"map50": 0.904, "map50_95": 0.452}, 0.9)
    assert sorted(answer["npu"]) == ["ethos-u55-256", "ethos-u65-512"]
    u65 = answer["npu"]["ethos-u65-512"]
    assert {key: u65[key] for key in ("latency_ms", "sram_kib", "operators_cpu", "provenance")} == {
        "latency_ms": 31.1,
        "sram_kib": 800.0,
        "operators_cpu": 0.0,
        "provenance": "estimate",
    }
    assert "17.4 ms against 31.1 ms" in answer["disagreement"]
    assert json.loads(json.dumps(answer)) == answer


def test_gates_that_changed_since_are_checked_again(store: Store, policy: Policy) -> None:
    stricter = with_gates(policy, "npu.latency_ms <= 20 ms")

    answer = live(store, stricter, MODEL, "realtime")

    assert answer["version"] == 1
    assert answer["reason"].endswith(
        "but it fails the gates of today's policy: npu.latency_ms <= 20 ms (recorded: 31.1)"
    )
    assert answer["rejected"][-1]["version"] == 1
    with pytest.raises(NothingPasses) as caught:
        live(store, stricter, MODEL, "realtime", strict=True)
    assert caught.value.exit_code == 3
    assert caught.value.message == (
        "version 1 (level2_relu, dense) serves 'realtime' but fails npu.latency_ms <= 20 ms with 31.1 ms"
    )


def test_strict_refuses_what_is_not_pinned(store: Store, policy: Policy) -> None:
    store.set_alias(store.version(MODEL, 2), "realtime")
    answer = live(store, policy, MODEL, "realtime")
    assert (answer["version"], answer["by"]) == (2, "hand")
    assert re.fullmatch(r"its alias was moved by hand: \w+ promoted version 1 at \S+", answer["reason"])
    with pytest.raises(NothingPasses, match=r"^version 2 .* serves 'realtime' but level2_relu is pinned\n"):
        live(store, policy, MODEL, "realtime", strict=True)


def test_nothing_is_promoted_yet(tmp_path: Path, policy: Policy) -> None:
    root = new_project(tmp_path / "new")
    store = open_store(root)
    with pytest.raises(StoreError) as caught:
        live(store, policy, MODEL, "realtime", root=root)
    assert str(caught.value) == f"no version of '{MODEL}' is registered\n  fix: register some: dvc repro"

    register_run(root, {"level2_relu": {"latency_ms": 90.0}})
    with pytest.raises(StoreError) as caught:
        live(store, policy, MODEL, "balanced", root=root)
    assert str(caught.value) == (
        f"no version of '{MODEL}' is promoted to 'balanced' yet\n  fix: promote one: ethos promote --scenario balanced"
    )
    with pytest.raises(NothingPasses, match=r"nearest: version 1 .* fails npu\.fps >= 20 with 11\.111"):
        live(store, policy, MODEL, "realtime", root=root)


def test_an_unknown_scenario_or_model(store: Store, policy: Policy) -> None:
    with pytest.raises(SpecError, match="unknown scenario 'realtme'"):
        live(store, policy, MODEL, "realtme")
    with pytest.raises(SpecError) as caught:
        live(store, policy, "trafic-sign-detector", "realtime")
    assert str(caught.value) == (
        "params.yaml: registry.model_name: unknown model 'trafic-sign-detector'\n"
        f"  fix: did you mean {MODEL}? known: {MODEL}"
    )


def test_selecting_imports_mlflow_and_no_other_heavy_package(root: Path) -> None:
    code = (
        "import sys; from ethos import catalog; from ethos.registry.live import live;"
        "before = 'mlflow' in sys.modules; from ethos.registry.store import open_store;"
        f"live(open_store(), catalog.load_policy(), {MODEL!r}, 'realtime');"
        "print(before, sorted({'torch', 'tensorflow', 'ultralytics', 'great_expectations', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False []\n", "")


# --- explain ---------------------------------------------------------------------------------------------------------


def test_explain_decides_afresh_over_versions_of_one_protocol(store: Store, policy: Policy, root: Path) -> None:
    register_run(root, {"level4_relu": {"map50": 0.94, "latency_ms": 12.0, "conf": 0.01}})
    register_run(root, {"level2_relu": {"map50": 0.95, "latency_ms": 90.0, "conf": 0.01}})

    answer = explain(store, policy, MODEL, "realtime")

    assert (answer["version"], answer["by"], answer["live"], answer["not_compared"]) == (4, "objective", 1, [1, 2, 3])
    assert answer["reason"].startswith("the pinned level2_relu fails npu.fps >= 20 with 11.111 1/s; level4_relu has")
    assert [row["version"] for row in answer["rejected"]] == [5]
    assert [(row["version"], row["passes"], row["objective"]) for row in answer["candidates"]] == [
        (4, True, 12.0),
        (5, False, 90.0),
    ]


def test_explain_is_shown_to_people(store: Store, policy: Policy) -> None:
    console = Console(width=160, record=True, file=StringIO())
    console.print(selection(explain(store, policy, MODEL, "realtime")))
    shown = console.export_text()
    for words in (
        "traffic-sign-detector version 1",
        "level2_relu (dense), stage realtime",
        "registry/artifacts/models/",
        "ethos-u65-512 * (estimate)",
        "31.1 ms",
        "note: the objective (lowest npu.latency_ms on ethos-u65-512) prefers version 2",
        "16.667 1/s",
    ):
        assert words in shown
    assert str(Path.cwd()) not in shown


def test_when_nothing_passes_the_rejected_are_shown(store: Store, policy: Policy) -> None:
    with pytest.raises(NothingPasses) as caught:
        explain(store, with_gates(policy, "int8.map50 >= 0.99"), MODEL, "realtime")
    console = Console(width=160, record=True, file=StringIO())
    console.print(rejections([rejection.document() for rejection in caught.value.rejected]))
    assert console.export_text().count("int8.map50 >= 0.99") == 3
