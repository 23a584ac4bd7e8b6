from __future__ import annotations

import pytest

from ethos.errors import SpecError
from ethos.registry.policy import check, find_scenario, gates, objective_text, parse_gate, ranked, show
from ethos.registry.records import FIGURES, NPU_FIGURES, VersionRecord, figure, from_document, from_tags
from ethos.specs import Objective, Policy, Scenario

TARGET = "ethos-u65-512"


def record(version: int = 1, **figures: float) -> VersionRecord:
    named = {name.replace("__", "."): value for name, value in figures.items()}
    return VersionRecord(
        "signs", version, "level3_relu", "level3", "relu", "dense", "a" * 64, "b" * 64, "", figures=named
    )


def scenario(*texts: str, **objective: str) -> Scenario:
    return Scenario(
        pin="level3_relu", target=TARGET, gates=texts, objective=Objective(**objective or {"maximise": "int8.map50"})
    )


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        pytest.param("int8.map50 >= 0.5", 0.5, True, id="at least, equal"),
        pytest.param("int8.map50 > 0.5", 0.5, False, id="more than, equal"),
        pytest.param("int8.map50_drop <= 0.01", 0.011, False, id="at most, above"),
        pytest.param("int8.map50_drop <= 1%", 0.0099, True, id="per cent, below"),
        pytest.param("npu.latency_ms < 20", 19.999, True, id="less than, below"),
        pytest.param("npu.latency_ms < 20 ms", 20.0, False, id="less than, equal"),
        pytest.param("npu.latency_ms <= 0.02 s", 20.0, True, id="seconds"),
        pytest.param("npu.sram_kib <= 1 MiB", 1024.0, True, id="MiB, equal"),
        pytest.param("npu.sram_kib <= 1 MiB", 1025.0, False, id="MiB, above"),
        pytest.param("npu.fps >= 20 fps", 21.0, True, id="fps"),
        pytest.param("macs <= 5.2 G", 5.3e9, False, id="G"),
        pytest.param("npu.operators_cpu == 0", 0.0, True, id="equal"),
        pytest.param("npu.operators_cpu == 0", 1.0, False, id="not equal"),
        pytest.param("int8.map50_drop >= -0.5", -0.4, True, id="negative limit"),
        pytest.param("int8.map50 >= 0", None, False, id="not recorded"),
    ],
)
def test_a_gate_holds_or_not(text: str, value: float | None, holds: bool) -> None:
    assert parse_gate(text).holds(value) is holds


def test_a_gate_reads_the_figure_of_the_target() -> None:
    version = record(**{f"npu__{TARGET}__latency_ms": 20.0, "npu__ethos-u55-256__latency_ms": 60.0, "int8__map50": 0.8})
    assert parse_gate("npu.latency_ms < 1").value(version, TARGET) == 20.0
    assert parse_gate("npu.latency_ms < 1").value(version, "ethos-u55-256") == 60.0
    assert parse_gate("npu.ethos-u55-256.latency_ms < 1").value(version, TARGET) == 60.0
    assert parse_gate("npu.latency_ms < 1").value(version, "ethos-u85-1024") is None
    assert parse_gate("int8.map50 < 1").value(version, "ethos-u85-1024") == 0.8


BAD_GATES = {
    "misspelt": (
        "int8.mAP50 >= 0.5",
        "registry/policy.yaml: unknown figure 'int8.mAP50'",
        "did you mean int8.map50, ",
    ),
    "misspelt npu figure": (
        "npu.latency <= 5",
        "registry/policy.yaml: unknown figure 'npu.latency'",
        "did you mean npu.latency_ms",
    ),
    "unit of another figure": (
        "npu.latency_ms <= 5 KiB",
        "registry/policy.yaml: gate 'npu.latency_ms <= 5 KiB': 'npu.latency_ms' is not given in 'KiB'",
        "use us, ms, s or no unit",
    ),
    "no operator": (
        "int8.map50 0.5",
        "registry/policy.yaml: gate 'int8.map50 0.5' cannot be read",
        "write FIGURE OPERATOR LIMIT [UNIT]",
    ),
}


@pytest.mark.parametrize(("text", "message", "fix"), BAD_GATES.values(), ids=BAD_GATES)
def test_a_bad_gate_says_why(text: str, message: str, fix: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_gate(text)
    assert caught.value.message == message
    assert caught.value.fix.startswith(fix)


def test_every_figure_can_stand_in_a_gate() -> None:
    names = [*FIGURES, *(f"npu.{name}" for name in NPU_FIGURES)]
    assert [parse_gate(f"{name} >= 1").figure for name in names] == names


@pytest.mark.parametrize(
    "objective",
    [{"minimise": "npu.latncy_ms"}, {"maximise": "int8.map"}, {"maximise": "int8.map50", "tie_break": "npu.speed"}],
    ids=["minimise", "maximise", "tie break"],
)
def test_a_policy_with_an_unknown_objective_is_refused(objective: dict[str, str]) -> None:
    wrong = list(objective.values())[-1]
    with pytest.raises(SpecError) as caught:
        check(Policy(scenarios={"fast": scenario(**objective)}))
    assert caught.value.message == f"registry/policy.yaml: scenario fast: objective: unknown figure '{wrong}'"


def test_the_gates_of_a_scenario_name_it_when_wrong() -> None:
    with pytest.raises(SpecError, match=r"^registry/policy.yaml: scenario fast: unknown figure 'x'"):
        gates("fast", scenario("x >= 1"))


def test_an_unknown_scenario_lists_the_near_ones() -> None:
    policy = Policy(scenarios={"realtime": scenario(), "accuracy": scenario()})
    assert find_scenario(policy, "realtime") is policy.scenarios["realtime"]
    with pytest.raises(SpecError) as caught:
        find_scenario(policy, "real-time")
    assert caught.value.message == "registry/policy.yaml: unknown scenario 'real-time'"
    assert caught.value.fix == "did you mean realtime? known: accuracy, realtime"


def test_rank_is_objective_then_tie_break_then_newest() -> None:
    fast = scenario(minimise="npu.latency_ms", tie_break="int8.map50")
    latency = f"npu__{TARGET}__latency_ms"
    versions = [
        record(1, int8__map50=0.99),  # latency not recorded
        record(2, int8__map50=0.8, **{latency: 20.0}),
        record(3, int8__map50=0.9, **{latency: 20.0}),
        record(4, int8__map50=0.9, **{latency: 20.0}),
        record(5, int8__map50=0.1, **{latency: 10.0}),
    ]
    order, tied = ranked(versions, fast)
    assert ([version.version for version in order], tied) == ([5, 4, 3, 2, 1], [])


def test_words_for_objectives_and_figures() -> None:
    assert objective_text(scenario(minimise="npu.latency_ms")) == "lowest npu.latency_ms on ethos-u65-512"
    assert objective_text(scenario(maximise="int8.map50")) == "highest int8.map50"
    assert show("npu.latency_ms", 17.412345) == "17.412 ms"
    assert show("npu.cycles_total", 12_345_678.0) == "12,345,678"
    assert show("int8.map50", None) == "not recorded"


def test_a_record_survives_tags_and_json() -> None:
    tags = {
        "variant": "level4_relu",
        "level": "level4",
        "activation": "relu",
        "form": "dense",
        "ready": "true",
        "stage": "realtime",
        "artifact.sha256": "a" * 64,
        "protocol.sha256": "b" * 64,
        "int8.map50": "0.8123456789012345",
        f"npu.{TARGET}.latency_ms": "17.4",
        f"npu.{TARGET}.provenance": "estimate",
        f"npu.{TARGET}.fps": "edited by hand",
        "decision.realtime": "{}",
        "note": "1",
    }
    version = from_tags("signs", 7, tags, "run", ("realtime",))
    assert version.figures == {"int8.map50": 0.8123456789012345, f"npu.{TARGET}.latency_ms": 17.4}
    assert (version.ready, version.targets, version.npu(TARGET)) == (True, [TARGET], {"latency_ms": 17.4})
    assert from_document(version.document()) == version
    registered = version.as_registered()
    assert (registered.stage, registered.aliases, "decision.realtime" in registered.tags) == ("candidate", (), False)
    assert not from_tags("signs", 1, {}).ready


def test_every_figure_says_what_it_is() -> None:
    assert all(figure(name).about for name in FIGURES)
    assert figure("npu.a.b.latency_ms") is NPU_FIGURES["latency_ms"]


@pytest.mark.parametrize(
    ("text", "value", "margin"),
    [
        ("int8.map50 >= 0.5", 0.75, 0.25),
        ("int8.map50 > 0.5", 0.25, -0.25),
        ("npu.latency_ms <= 20 ms", 15.0, 5.0),
        ("npu.operators_cpu == 0", 3.0, -3.0),
        ("npu.sram_kib < 1 MiB", None, None),
    ],
)
def test_a_margin_is_positive_on_the_good_side(text: str, value: float | None, margin: float | None) -> None:
    assert parse_gate(text).margin(value) == margin
