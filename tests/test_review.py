"""`ethos policy check`, `ethos select --explain | --candidates | --target`: what a fresh decision says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from registry_run import MODEL, register_run
from test_history import ethos

from ethos import catalog
from ethos.files import read_json, write_json
from ethos.registry.candidate import collect
from ethos.registry.explain import explain
from ethos.registry.register import register
from ethos.registry.review import review
from ethos.registry.store import open_store

if TYPE_CHECKING:
    from pathlib import Path


def test_the_pinned_choice_beside_the_measured_one(promoted: Path) -> None:
    found = review(open_store(promoted), catalog.load_policy(), MODEL)

    assert (found["ok"], found["versions"]) == (True, [1, 2, 3])
    realtime = found["scenarios"]["realtime"]
    assert (realtime["pinned"]["version"], realtime["measured"]["version"], realtime["agree"]) == (1, 2, False)
    assert {row["figure"]: (row["pinned"], row["measured"]) for row in realtime["differences"]} == {
        "int8.map50": (0.9, 0.92),
        "int8.map50_95": (0.45, 0.46),
        "npu.latency_ms": (31.1, 17.4),
        "npu.cycles_total": (31.1e6, 17.4e6),
    }
    assert realtime["cycles"] == (
        "the pinned version 1 (level2_relu, dense) costs 31,100,000 cycles on ethos-u65-512, 78.7 % more than the "
        "17,400,000 of version 2 (level4_relu, dense)"
    )
    assert realtime["pinned"]["gates"][0]["margin"] == pytest.approx(0.4)
    accuracy = found["scenarios"]["accuracy"]
    assert (accuracy["agree"], accuracy["disagreement"], accuracy["cycles"]) == (True, "", "")


def write_policy(root: Path, **realtime: Any) -> None:
    import yaml

    path = root / "registry/policy.yaml"
    policy = yaml.safe_load(path.read_text())
    policy["scenarios"]["realtime"].update(realtime)
    path.write_text(yaml.safe_dump(policy))


def test_the_command_says_where_they_disagree(promoted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document, _ = ethos(capsys, "policy", "check", "--json")
    assert (code, document["schema"], document["model"]) == (0, 1, MODEL)
    code, shown, _ = ethos(capsys, "policy", "check")
    assert code == 0
    assert "78.7 % more than the 17,400,000" in shown

    write_policy(promoted, gates=["int8.map50 >= 0.99"])
    code, document, _ = ethos(capsys, "policy", "check", "--json")
    assert (code, document["scenarios"]["realtime"]["pinned"]) == (1, None)
    write_policy(promoted, gates=[], target="ethos-u85-1024")
    code, document, _ = ethos(capsys, "policy", "check", "--json")
    assert (code, document["scenarios"]["realtime"]["problems"]) == (
        1,
        ["no version carries npu.latency_ms on ethos-u85-1024"],
    )
    write_policy(promoted, gates=["int8.mAP50 >= 0.5"])
    code, _, err = ethos(capsys, "policy", "check")
    assert code == 2
    assert err.startswith("error: registry/policy.yaml: scenario realtime: unknown figure 'int8.mAP50'\n  fix: did you")


def test_a_scenario_of_ones_own_is_a_few_lines(promoted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (promoted / "registry/policy.yaml").read_text()
    own = (
        "  battery:\n    pin: level4_relu\n    target: ethos-u55-256\n    gates: [npu.latency_ms <= 0.1 s]\n"
        "    objective: {minimise: size.int8_kib}\n"
    )
    (promoted / "registry/policy.yaml").write_text(text + "\n" + own)
    code, document, _ = ethos(capsys, "promote", "--scenario", "battery", "--json")
    assert (code, document["to"], document["from"]) == (0, 2, None)
    code, document, _ = ethos(capsys, "select", "--scenario", "battery", "--json")
    assert (document["stage"], document["target"]) == ("balanced,battery", "ethos-u55-256")


def test_another_target_changes_gates_and_figures(promoted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert promoted
    arguments = ("select", "--scenario", "realtime", "--target", "ethos-u55-256")
    code, document, _ = ethos(capsys, *arguments, "--json")
    assert (code, document["version"], document["target"]) == (0, 1, "ethos-u55-256")
    assert document["reason"].endswith("npu.fps >= 20 (recorded: 16.077170418006432)")
    assert ethos(capsys, *arguments, "--strict")[0] == 3
    code, document, _ = ethos(capsys, *arguments, "--explain", "--json")
    assert (code, document["version"], document["by"], document["live"]) == (0, 2, "objective", 1)
    code, _, err = ethos(capsys, *arguments[:3], "--target", "ethos-u66-512")
    assert (code, err.splitlines()[0]) == (2, "error: specs/targets: unknown target 'ethos-u66-512'")


def test_candidates_are_listed_with_what_decides(promoted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, document, _ = ethos(capsys, "select", "--scenario", "realtime", "--candidates", "--json")
    assert (code, document["version"], document["pareto"]["versions"]) == (0, 1, [2, 3])
    assert [(row["version"], row["passes"], row["gate"]) for row in document["candidates"]] == [
        (1, True, None),
        (2, True, None),
        (3, False, "npu.fps >= 20"),
    ]
    code, shown, _ = ethos(capsys, "select", "--scenario", "balanced", "--candidates")
    assert code == 0
    assert "no tie was looked for: int8.map50 of version 3 has no confidence interval" in shown

    write_policy(promoted, gates=["int8.map50 >= 0.99"])
    for option in ("--candidates", "--explain"):
        code, shown, err = ethos(capsys, "select", "--scenario", "realtime", option)
        assert code == 3
        assert shown.count("int8.map50 >= 0.99") >= 3
        assert "nearest: version 3 (level4_leaky, dense) fails int8.map50 >= 0.99 with 0.93" in err


def test_a_score_that_comes_with_its_interval_is_carried_to_the_decision(promoted: Path) -> None:
    outputs, store = promoted / "outputs", open_store(promoted)
    for variant, map50 in (("level4_relu", 0.92), ("level4_leaky", 0.93)):
        path = outputs / f"evaluate/{variant}/dense/metrics.json"
        metrics = read_json(path)
        metrics["int8"] |= {"map50_low": map50 - 0.03, "map50_high": map50 + 0.03}
        write_json(path, metrics)
        plan = outputs / f"plan/{variant}/train.yaml"
        plan.write_text(plan.read_text().replace("seed: 0", "seed: 1"))
        record = register(store, collect(outputs, variant, "dense"), MODEL, promoted)
        assert record.figures["int8.map50_low"] == map50 - 0.03
    answer = explain(store, catalog.load_policy(), MODEL, "balanced")
    assert answer["interval"] == {
        "figure": "int8.map50",
        "version": 5,
        "low": 0.9,
        "high": pytest.approx(0.96),
        "tied": [4, 2, 1, 5, 3],
        "not_recorded": [1, 2, 3],
    }
    assert (answer["version"], answer["disagreement"]) == (4, "")
    assert json.loads(json.dumps(answer))["gates"][0]["passes"]


def test_a_pruned_form_decides_by_figures(promoted: Path) -> None:
    store = open_store(promoted)
    register_run(promoted, {"level4_relu": {"map50": 0.92, "latency_ms": 10.0, "form": "pruned"}})
    answer = explain(store, catalog.load_policy(), MODEL, "balanced")
    assert (answer["version"], answer["form"], answer["by"]) == (4, "pruned", "pin")
