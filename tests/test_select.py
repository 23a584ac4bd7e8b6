from __future__ import annotations

import json
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from ethos.errors import SpecError
from ethos.evaluation.protocol import Protocol
from ethos.registry.pareto import front
from ethos.registry.records import VersionRecord
from ethos.registry.select import NothingPasses, Rejection, decide
from ethos.specs import Objective, Scenario

TARGET = "ethos-u65-512"
GATES = ("int8.map50 >= 0.5", "npu.operators_cpu == 0", "npu.fps >= 20 fps")
FAST = Scenario(
    pin="level2_relu",
    target=TARGET,
    gates=GATES,
    objective=Objective(minimise="npu.latency_ms", tie_break="int8.map50"),
)


def protocol(**changes: Any) -> Protocol:
    values: dict[str, Any] = {
        "dataset": "squares",
        "split": "val",
        "split_sha256": "5" * 64,
        "labels_sha256": "6" * 64,
        "imgsz": (64, 64),
        "conf": 0.001,
        "iou": 0.7,
        "max_det": 300,
        "ap": "ultralytics 8.4.190",
        "batch": 1,
        "device": "cpu",
        "tools": {"numpy": "2.4.6"},
    }
    return Protocol(**{**values, **changes})


def version(
    number: int, variant: str, map50: float = 0.9, latency_ms: float = 20.0, cpu: int = 0, **changes: Any
) -> VersionRecord:
    level, _, activation = variant.partition("_")
    scored = protocol(**changes)
    npu = {"latency_ms": latency_ms, "fps": 1000 / latency_ms, "operators_cpu": cpu}
    return VersionRecord(
        model="signs",
        version=number,
        variant=variant,
        level=level,
        activation=activation,
        form="dense",
        artifact_sha256=f"{number:064}",
        protocol_sha256=scored.sha256,
        run_id="",
        ready=True,
        figures={"int8.map50": map50, **{f"npu.{TARGET}.{name}": float(value) for name, value in npu.items()}},
        tags={"protocol": json.dumps(scored.document())},
    )


def test_the_pin_decides_among_those_that_pass_and_measurements_are_told() -> None:
    records = [version(1, "level2_relu", 0.9, 31.1), version(2, "level4_relu", 0.92, 17.4)]

    decision = decide("realtime", FAST, records)

    assert (decision.chosen.version, decision.by, decision.rejected) == (1, "pin", ())
    assert decision.reason == "level2_relu is pinned (declared) and passes all 3 gates"
    assert decision.best.version == 2
    assert decision.disagreement == (
        "the objective (lowest npu.latency_ms on ethos-u65-512) prefers version 2 (level4_relu, dense): "
        "npu.latency_ms 17.4 ms against 31.1 ms of the pinned version 1 (level2_relu, dense)"
    )


def test_a_tie_on_the_objective_is_told_by_its_tie_break() -> None:
    decision = decide("realtime", FAST, [version(1, "level2_relu", 0.80), version(2, "level4_relu", 0.85)])
    assert decision.chosen.version == 1
    assert decision.disagreement == (
        "the objective (lowest npu.latency_ms on ethos-u65-512) is a tie, and its tie-break prefers "
        "version 2 (level4_relu, dense): int8.map50 0.85 against 0.8 of the pinned version 1 (level2_relu, dense)"
    )


def test_no_disagreement_where_the_pin_is_the_best() -> None:
    decision = decide("realtime", FAST, [version(1, "level2_relu", 0.9, 10), version(2, "level4_relu", 0.92, 17.4)])
    assert decision.best is decision.chosen
    assert decision.disagreement == ""


def test_where_the_pinned_fails_the_objective_decides_and_says_so() -> None:
    records = [
        version(1, "level2_relu", 0.9, 60.0),
        version(2, "level4_relu", 0.92, 17.4),
        version(3, "level4_leaky", 0.93, 19.5),
        version(4, "level3_relu", 0.3, 10.0, cpu=2),
    ]

    decision = decide("realtime", FAST, records)

    assert (decision.chosen.version, decision.by, decision.disagreement) == (2, "objective", "")
    assert decision.reason == (
        "the pinned level2_relu fails npu.fps >= 20 fps with 16.667 1/s; "
        "level4_relu has the lowest npu.latency_ms on ethos-u65-512 of those that pass"
    )
    # one rejection a version: the first gate it fails, in the policy's order
    assert decision.rejected == (
        Rejection(1, "level2_relu", "dense", "npu.fps >= 20 fps", 1000 / 60, 20.0),
        Rejection(4, "level3_relu", "dense", "int8.map50 >= 0.5", 0.3, 0.5),
    )


def test_where_nothing_pinned_is_registered_the_objective_decides_and_says_so() -> None:
    decision = decide("realtime", FAST, [version(2, "level4_relu", 0.92, 17.4)])
    assert decision.by == "objective"
    assert decision.reason.startswith("no version of the pinned level2_relu is registered; level4_relu has the lowest")


@pytest.mark.parametrize(
    ("others", "chosen"),
    [
        pytest.param([(2, 0.9, 19.0)], 2, id="better objective"),
        pytest.param([(2, 0.95, 20.0)], 2, id="better tie-break"),
        pytest.param([(2, 0.9, 20.0)], 2, id="newest"),
        pytest.param([(2, 0.8, 20.0), (3, 0.99, 25.0)], 1, id="worse"),
        pytest.param([(2, 0.4, 1.0)], 1, id="faster but fails a gate"),
    ],
)
def test_among_versions_of_the_pinned_variant(others: list[tuple[int, float, float]], chosen: int) -> None:
    records = [version(1, "level2_relu", 0.9, 20.0), *(version(n, "level2_relu", m, ms) for n, m, ms in others)]
    assert decide("realtime", FAST, records).chosen.version == chosen
    assert decide("realtime", FAST, records[::-1]).chosen.version == chosen


def test_when_nothing_passes_the_nearest_miss_is_told() -> None:
    records = [
        version(1, "level2_relu", 0.45, 60.0),  # two gates
        version(2, "level4_relu", 0.49, 17.4),  # 2 % short
        version(3, "level4_leaky", 0.30, 19.5),
    ]

    with pytest.raises(NothingPasses) as caught:
        decide("realtime", FAST, records)

    assert caught.value.exit_code == 3
    assert caught.value.message == (
        "no version passes the gates of 'realtime'; nearest: version 2 (level4_relu, dense) "
        "fails int8.map50 >= 0.5 with 0.49"
    )
    assert [(r.version, r.gate) for r in caught.value.rejected] == [
        (1, "int8.map50 >= 0.5"),
        (2, "int8.map50 >= 0.5"),
        (3, "int8.map50 >= 0.5"),
    ]


def test_a_figure_that_was_not_recorded_fails_its_gate() -> None:
    elsewhere = FAST.model_copy(update={"target": "ethos-u85-1024"})
    with pytest.raises(NothingPasses) as caught:
        decide("realtime", elsewhere, [version(1, "level2_relu")])
    assert caught.value.message.endswith(
        "version 1 (level2_relu, dense) fails npu.operators_cpu == 0 (not recorded), and 1 more"
    )
    assert caught.value.rejected[0].value is None


def test_nothing_to_decide_on() -> None:
    with pytest.raises(NothingPasses, match=r"^nothing to select for 'realtime': no ready version\n"):
        decide("realtime", FAST, [])


def test_scores_of_different_protocols_are_not_ranked() -> None:
    records = [version(1, "level2_relu"), version(2, "level4_relu", conf=0.25)]
    with pytest.raises(SpecError) as caught:
        decide("realtime", FAST, records)
    assert caught.value.message == (
        "version 1 (level2_relu, dense) and version 2 (level4_relu, dense): "
        "scores of different protocols cannot be compared: conf is 0.001 in one and 0.25 in the other"
    )


# --- ties and the Pareto front ---------------------------------------------------------------------------------------

EXACT = FAST.model_copy(update={"pin": "level4_relu", "objective": Objective(maximise="int8.map50")})


def scored(number: int, variant: str, map50: float, latency_ms: float, half: float | None = 0.02) -> VersionRecord:
    """Return a version whose score has a confidence interval of twice `half`."""
    record = version(number, variant, map50, latency_ms)
    bounds = {} if half is None else {"int8.map50_low": map50 - half, "int8.map50_high": map50 + half}
    return replace(record, figures={**record.figures, **bounds})


def test_a_score_within_the_interval_of_the_best_loses_to_the_cheaper_version() -> None:
    records = [
        scored(1, "level2_relu", 0.90, 31.0),
        scored(2, "level3_relu", 0.89, 14.0),
        scored(3, "level3_leaky", 0.885, 18.0),
        scored(4, "level2_leaky", 0.87, 9.0),  # cheaper still, but worse
    ]
    decision = decide("balanced", EXACT, records)
    assert (decision.chosen.version, [record.version for record in decision.tied]) == (2, [2, 3, 1])
    assert decision.reason == (
        "no version of the pinned level4_relu is registered; of those that pass, version 2 is the cheapest; "
        "int8.map50 of version 3, 1 is within the confidence interval"
    )


@pytest.mark.parametrize(
    ("half", "chosen", "told"),
    [
        pytest.param(None, 2, "highest int8.map50) prefers version 1", id="no interval"),
        pytest.param(0.001, 2, "highest int8.map50) prefers version 1", id="narrow"),
        pytest.param(0.02, 2, "is a tie within the confidence interval, and cheaper is version 3", id="wide"),
    ],
)
def test_the_pin_and_the_interval(half: float | None, chosen: int, told: str) -> None:
    records = [
        scored(1, "level2_relu", 0.90, 31.0, half),
        scored(2, "level4_relu", 0.89, 17.0, half),
        scored(3, "level3_relu", 0.885, 14.0, half),
    ]
    decision = decide("balanced", EXACT, records)
    assert decision.chosen.version == chosen
    assert told in decision.disagreement


def test_of_two_forms_of_the_pinned_variant_the_cheaper_wins_a_tie() -> None:
    dense = scored(1, "level4_relu", 0.90, 17.0)
    pruned = replace(scored(2, "level4_relu", 0.89, 12.0), form="pruned")
    worse = replace(scored(3, "level4_relu", 0.80, 6.0), form="pruned")
    decision = decide("balanced", EXACT, [dense, pruned, worse])
    assert (decision.chosen.version, decision.by) == (2, "pin")
    assert decision.reason.endswith(
        "of its 3 versions, version 2 is the cheapest; int8.map50 of version 1 is within the confidence interval"
    )
    assert decide("balanced", EXACT, [dense, worse]).chosen.version == 1


def sized(number: int, map50: float, latency_ms: float, kib: float | None) -> VersionRecord:
    record = version(number, "level3_relu", map50, latency_ms)
    return replace(record, figures={**record.figures, **({} if kib is None else {"size.int8_kib": kib})})


def test_the_front_holds_what_nothing_beats_in_all_three() -> None:
    records = [
        sized(1, 0.90, 20.0, 3000.0),
        sized(2, 0.90, 20.0, 3100.0),  # beaten by 1: larger
        sized(3, 0.85, 15.0, 3500.0),
        sized(4, 0.85, 30.0, 2000.0),
        sized(5, 0.80, 30.0, 2000.0),  # beaten by 4
        sized(6, 0.90, 20.0, 3000.0),  # equal to 1
        sized(7, 0.99, 1.0, None),  # size not recorded
    ]
    assert [record.version for record in front(records, TARGET)] == [1, 6, 3, 4]


def test_the_front_is_that_of_comparing_all_pairs() -> None:
    random = Random(1)
    records = [sized(n, random.randint(1, 6) / 10, random.randint(1, 6), random.randint(1, 6)) for n in range(60)]

    def beaten(one: VersionRecord, other: VersionRecord) -> bool:
        mine, theirs = (
            [-r.figures["int8.map50"], r.npu(TARGET)["latency_ms"], r.figures["size.int8_kib"]] for r in (one, other)
        )
        return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))

    expected = {one.version for one in records if not any(beaten(one, other) for other in records)}
    assert {record.version for record in front(records, TARGET)} == expected
