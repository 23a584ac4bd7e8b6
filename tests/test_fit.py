"""Fit first: what `ethos fit` and its stage say of networks that were never trained."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from ethos import catalog
from ethos.cli import app
from ethos.errors import ModelError, SpecError
from ethos.fit import Candidate, candidate_of, fit, fit_table, misfits, refuse_misfits
from ethos.plan import train_plan, write_plan
from ethos.specs import Budget
from pipelines import fit as stage

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 64
TARGETS = ("ethos-u65-512", "ethos-n78-4tops")


def candidate(variant: str) -> Candidate:
    return candidate_of(train_plan(catalog.load_params(), variant), classes=3, imgsz=SIDE)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Return what is found of levels 3 and 4, one of them under two names."""
    named = {"three": "level3_relu", "four": "level4_relu", "again": "level4_relu"}
    candidates = {name: candidate(variant) for name, variant in named.items()}
    targets = [catalog.load("target", name) for name in TARGETS]
    tight = targets[0].model_copy(update={"name": "tight", "budget": Budget(sram_kib=1)})
    return fit(candidates, [*targets, tight])


def test_every_variant_has_the_figures_of_an_analysis(document: dict[str, Any]) -> None:
    assert list(document["variants"]) == ["three", "four", "again"]
    for variant in document["variants"].values():
        assert (variant["imgsz"], variant["classes"]) == (SIDE, 3)
        assert list(variant["targets"]) == [*TARGETS, "tight"]
        assert variant["targets"]["ethos-u65-512"]["provenance"] == "estimate"
        assert variant["targets"]["ethos-u65-512"]["operators_cpu"] == 0
        assert variant["targets"]["ethos-u65-512"]["fits"] is True


def test_level_four_is_cheaper_and_wholly_on_the_n78(document: dict[str, Any]) -> None:
    three, four = document["variants"]["three"], document["variants"]["four"]
    assert four["parameters"] < three["parameters"]
    assert four["macs"] < three["macs"]
    cycles = [each["targets"]["ethos-u65-512"]["cycles_total"] for each in (four, three)]
    assert cycles[0] <= 0.75 * cycles[1]
    assert four["targets"]["ethos-n78-4tops"]["regions"] == 1
    assert four["targets"]["ethos-n78-4tops"]["operator_coverage"] == 1.0


def test_the_same_graph_is_compiled_once(document: dict[str, Any]) -> None:
    four, again = (document["variants"][name] for name in ("four", "again"))
    assert again == four
    assert again["targets"] is four["targets"]


def test_what_does_not_fit_is_named_with_its_excess(document: dict[str, Any]) -> None:
    lines = misfits(document)
    used = document["variants"]["four"]["targets"]["tight"]["sram_kib"]
    assert [line.partition(":")[0] for line in lines] == [
        f"{name} at 64 px does not fit tight" for name in document["variants"]
    ]
    assert lines[1].endswith(f": SRAM {used:,.0f} KiB, {used - 1:,.0f} KiB over its budget of 1 KiB")
    with pytest.raises(ModelError) as caught:
        refuse_misfits(document)
    assert caught.value.message == "; ".join(lines)
    assert caught.value.fix
    roomy = document["variants"]["four"] | {"targets": {"ethos-n78-4tops": {"fits": None}}}
    refuse_misfits({"variants": {"four": roomy}})


def test_the_table_has_a_row_for_each_variant_and_target(document: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(fit_table(document))
    text = capture.get()
    for name in document["variants"]:
        assert text.count(f" {name} ") == len(TARGETS) + 1
    assert "of 512 KiB" in text


# --- command and stage -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
def test_the_command_exits_with_1_where_a_budget_is_exceeded(
    monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]
) -> None:
    asked: list[Candidate] = []

    def answer(candidates: dict[str, Candidate], targets: list[Any]) -> dict[str, Any]:
        asked.extend(candidates.values())
        names = [target.name for target in targets]
        four = document["variants"]["four"]
        return {"variants": {"level4_relu": {**four, "targets": {name: four["targets"][name] for name in names}}}}

    monkeypatch.setattr("ethos.fit.fit", answer)
    arguments = ["fit", "level4_relu", "--imgsz", "64", "--classes", "3", "--target", "ethos-u65-512"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["variants"]["level4_relu"]["targets"]["ethos-u65-512"]["fits"] is True
    assert asked == [candidate("level4_relu")]
    report = document["variants"]["four"]["targets"]["ethos-u65-512"]
    monkeypatch.setitem(report, "fits", False)
    monkeypatch.setitem(report, "over_budget", {"sram_kib": 5.0})
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "level4_relu at 64 px does not fit ethos-u65-512" in done.stdout


@pytest.mark.usefixtures("project")
def test_the_command_refuses_sides_that_no_network_takes() -> None:
    done = CliRunner().invoke(app, ["fit", "level4_relu", "--imgsz", "100"])
    assert isinstance(done.exception, SpecError)
    assert done.exception.message == "input side 100 is no multiple of 32"


def test_the_stage_leaves_its_report_where_a_variant_does_not_fit(
    project: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]
) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(yaml.safe_dump(params | {"variants": ["level4_relu"], "pruned": []}))
    (project / "outputs" / "plan" / "level4_relu").mkdir(parents=True)
    write_plan(
        project / "outputs" / "plan" / "level4_relu" / "train.yaml", train_plan(catalog.load_params(), "level4_relu")
    )
    report = {**document["variants"]["four"]["targets"]["ethos-u65-512"], "fits": True, "over_budget": {}}
    answer = {"schema": 1, "variants": {"level4_relu": {"imgsz": SIDE, "targets": {"ethos-u65-512": report}}}}
    monkeypatch.setattr(stage, "fit", lambda *_: answer)
    stage.main()
    assert (project / "outputs" / "fit" / "passed.json").is_file()
    report |= {"fits": False, "over_budget": {"sram_kib": 1.0}}
    with pytest.raises(ModelError):
        stage.main()
    assert json.loads((project / "outputs" / "fit" / "report.json").read_text()) == answer
    assert not (project / "outputs" / "fit" / "passed.json").exists()
