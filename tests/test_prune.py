"""Pruning of a trained network, real and small: what is kept through training, when it stops, what users see."""

from __future__ import annotations

import csv
import json
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import yaml
from conftest import CLASSES, SIDE
from pydantic import ValidationError
from registry_run import TARGETS, study
from typer.testing import CliRunner

from ethos import catalog
from ethos.cli import app
from ethos.errors import ModelError, SpecError
from ethos.files import read_json, sha256_file, write_json
from ethos.model.blocks import split_blocks
from ethos.model.levels import Architecture, resolve_level
from ethos.model.weights import WEIGHTS_FILE, load_model, require_shapes, shapes_of
from ethos.model.widths import widths_of
from ethos.plan import PrunePlan, prune_plan, write_plan
from ethos.pruning import schedule
from ethos.pruning.measure import Measured
from ethos.pruning.report import recommendations, study_rows
from ethos.pruning.schedule import Iteration, Outcome, run_schedule
from ethos.specs import Prune, PruneGoal, Recipe
from ethos.training.monitor import EpochLines, Silent
from ethos.training.train import train
from pipelines import prune as stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TARGET = "ethos-u65-512"
VARIANT = "level3_relu"
RECOVERY = "specs/recipes/demo_recovery.yaml"


def plan_of(recipe: Recipe, **options: Any) -> PrunePlan:
    target: Any = catalog.load("target", TARGET)
    given = {"goals": (PruneGoal(quantity="macs", share=0.7),), "efficiency_on": TARGET, "max_map50_drop": 1.0}
    return PrunePlan(
        variant=VARIANT, imgsz=SIDE, options=Prune(**(given | options)), recovery=recipe, targets=(target,), seed=0
    )


def parameters(network: Any) -> int:
    return sum(each.numel() for each in network.parameters())


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path, smoke: Recipe) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    base, steps = resolve_level("level3")
    train(Architecture(base=base, steps=steps, activation="relu", names=CLASSES), smoke, tiny_dataset, folder)
    return folder


class Shown(Silent):
    """Notes the epochs that it is shown."""

    def __init__(self, epochs: list[int]) -> None:
        self.epochs = epochs

    def __call__(self, epoch: Any) -> None:
        self.epochs.append(epoch.epoch)


class Pruned:
    """A schedule of two steps that was run."""

    def __init__(self, dense: Path, dataset: Path, recipe: Recipe, folder: Path) -> None:
        self.folder, self.seen = folder, []
        self.shown: dict[str, list[int]] = {}
        self.plan = plan_of(recipe, steps=2, importance="taylor")
        self.outcome = run_schedule(
            dense,
            self.plan,
            dataset,
            folder,
            on_iteration=self.seen.append,
            show=self.show,
        )

    @contextmanager
    def show(self, training: str) -> Iterator[Any]:
        self.shown[training] = []
        yield Shown(self.shown[training])


@pytest.fixture(scope="module")
def pruned(dense: Path, tiny_dataset: Path, smoke: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Pruned:
    return Pruned(dense, tiny_dataset, smoke, tmp_path_factory.mktemp("pruned"))


# --- what comes out --------------------------------------------------------------------------------------------------


def test_structure_is_kept_through_training_and_reload(pruned: Pruned, dense: Path) -> None:
    network, architecture = load_model(pruned.folder)
    assert parameters(network) == pruned.outcome.best.measured.parameters < pruned.outcome.dense.parameters
    assert {name: tuple(each) for name, each in (architecture.widths or {}).items()} == widths_of(network)
    unpruned, _ = load_model(dense)
    assert parameters(unpruned) == pruned.outcome.dense.parameters


def test_saved_form_holds_no_code(pruned: Pruned) -> None:
    assert sorted(path.name for path in pruned.folder.iterdir()) == ["architecture.json", "weights.safetensors"]
    described = json.loads((pruned.folder / "architecture.json").read_text())
    assert described["widths"]["model.0.conv"][0] == 3


def test_goal_is_reached_step_by_step(pruned: Pruned) -> None:
    outcome = pruned.outcome
    shares = [each.measured.macs / outcome.dense.macs for each in outcome.iterations]
    assert shares[0] <= 0.7**0.5 + 1e-9
    if len(shares) > 1:
        assert shares[1] <= 0.7 + 1e-9
    assert pruned.seen == outcome.iterations
    assert pruned.shown == {f"step {each.step}": [1] for each in outcome.iterations}


def test_figures_belong_to_the_weights_that_were_kept(pruned: Pruned, dense: Path) -> None:
    outcome = pruned.outcome
    assert outcome.dense.sha256 == sha256_file(dense / WEIGHTS_FILE)
    assert outcome.best.measured.sha256 == sha256_file(pruned.folder / WEIGHTS_FILE)


def test_tests_of_registry_and_report_use_a_study_of_the_same_shape(pruned: Pruned) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(each) for key, each in value.items() if key not in TARGETS}
        return shape(value[0]) if isinstance(value, list) and value else type(value)

    assert shape(json.loads(json.dumps(pruned.outcome.document()))) == shape(study("0" * 64))


def test_efficiency_is_accuracy_times_speed_by_size(pruned: Pruned) -> None:
    measured = pruned.outcome.best.measured
    assert measured.efficiency["cpu"] == pytest.approx(measured.map50 * measured.cpu["fps"] / measured.mb)
    assert measured.efficiency[TARGET] == pytest.approx(measured.map50 * measured.npu[TARGET]["fps"] / measured.mb)
    assert measured.npu[TARGET]["provenance"] == "estimate"
    assert measured.cpu["protocol"]["threads"] == 1


def test_every_layer_is_listed_before_and_after(pruned: Pruned, dense: Path) -> None:
    unpruned, _ = load_model(dense)
    split_blocks(unpruned)
    kept, _ = load_model(pruned.folder)
    layers = pruned.outcome.layers
    assert {each["name"]: tuple(each["dense"]) for each in layers} == widths_of(unpruned)
    assert {each["name"]: tuple(each["pruned"]) for each in layers} == widths_of(kept)


def test_pruned_network_is_not_pruned_again(pruned: Pruned, tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is pruned already"):
        run_schedule(pruned.folder, pruned.plan, tiny_dataset, tmp_path)


def test_the_engines_own_training_restores_what_was_pruned(
    pruned: Pruned, dense: Path, tiny_dataset: Path, tmp_path: Path
) -> None:
    """The trap of the study: Ultralytics builds the network anew from its YAML; the same recipe here keeps it."""
    from ultralytics import YOLO

    network, _ = load_model(pruned.folder)
    before = parameters(network)
    network.args = {}
    torch.save({"model": network, "epoch": -1}, tmp_path / "pruned.pt")
    data = {"path": str(tiny_dataset), "train": "images/train", "val": "images/val", "names": list(CLASSES)}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(data))
    model = YOLO(tmp_path / "pruned.pt")
    assert parameters(model.model) == before
    given = {"epochs": 1, "imgsz": 32, "batch": 8, "workers": 0, "device": "cpu", "plots": False, "val": False}
    model.train(data=str(tmp_path / "data.yaml"), project=str(tmp_path), amp=False, **given)
    assert parameters(model.trainer.model) == parameters(load_model(dense)[0]) > before


def test_changed_shapes_are_told(dense: Path) -> None:
    network, _ = load_model(dense)
    shapes = shapes_of(network) | {"model.0.conv.weight": (8, 3, 3, 3)}
    with pytest.raises(ModelError, match=r"changed the shape of model\.0\.conv\.weight from \(8, 3, 3, 3\)"):
        require_shapes(network, shapes)


# --- when it stops ---------------------------------------------------------------------------------------------------


def measured(map50: float, efficiency: float) -> Measured:
    return Measured(
        sha256="0" * 64,
        map50=map50,
        map50_95=map50,
        parameters=10,
        macs=10,
        mb=1.0,
        cpu={"fps": 30.0},
        npu={TARGET: {"cycles": 10, "fps": 40.0}},
        efficiency={"cpu": efficiency, TARGET: efficiency},
    )


def iterations(*figures: tuple[float, float]) -> list[Iteration]:
    return [
        Iteration(step, 0.5, measured(map50, efficiency), 0.9 - map50, 0.9 - map50 <= 0.05)
        for step, (map50, efficiency) in enumerate(figures, start=1)
    ]


@pytest.mark.parametrize(
    ("figures", "reason", "kept"),
    [
        ([(0.9, 12.0)], "", 1),
        ([(0.9, 12.0), (0.9, 11.0)], "efficiency on cpu fell from 12.00 to 11.00", 1),
        ([(0.9, 9.0)], "efficiency on cpu fell from 10.00 to 9.00", 1),
        ([(0.9, 12.0), (0.8, 20.0)], "mAP50 has fallen by 0.100, more than 0.05", 1),
        ([(0.9, 12.0), (0.88, 13.0), (0.88, 14.0)], "all steps were taken", 3),
        ([(0.8, 12.0)], "mAP50 has fallen by 0.100, more than 0.05", 1),
    ],
    ids=["goes-on", "less-efficient", "less-than-dense", "less-accurate", "end", "none-within-limit"],
)
def test_stop_and_choice(figures: list[tuple[float, float]], reason: str, kept: int, smoke: Recipe) -> None:
    plan = plan_of(smoke, steps=3, max_map50_drop=0.05, efficiency_on="cpu")
    outcome = Outcome(measured(0.9, 10.0), 0.05, "cpu", {}, iterations(*figures))
    assert schedule._reason_to_stop(outcome, plan) == reason
    assert schedule._best(outcome.iterations, "cpu").step == kept


# --- the report ------------------------------------------------------------------------------------------------------


def test_rows_rank_recommend_and_mark_what_is_not_real_time() -> None:
    outcome = Outcome(measured(0.9, 10.0), 0.05, "cpu", {}, iterations((0.88, 13.0), (0.7, 20.0)), kept=1)
    fast = replace(outcome.iterations[0].measured, cpu={"fps": 60.0})
    outcome.iterations[0] = replace(outcome.iterations[0], measured=fast)
    rows = study_rows(outcome.document(), "cpu", threshold=40.0)
    assert [row.model for row in rows] == [
        "dense",
        *(f"step {step}, {state}" for step in (1, 2) for state in ("as pruned", "trained again")),
    ]
    assert [row.rank for row in rows] == [2, None, 1, None, None]
    assert [row.real_time for row in rows] == [False, True, True, False, False]
    assert [row.pareto for row in rows] == [True, False, True, False, False]
    assert recommendations(rows) == {
        "realtime": "step 1, trained again",
        "balanced": "step 1, trained again",
        "accuracy": "dense",
    }
    assert recommendations(study_rows(outcome.document(), "cpu", threshold=100.0))["realtime"] is None


# --- the plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"ratio": 1.0}, "less than 1"),
        ({"ratio": 0.0}, "greater than 0"),
        ({}, "exactly one of 'ratio' and 'goals'"),
        ({"ratio": 0.5, "goals": [{"quantity": "macs", "share": 0.5}]}, "exactly one of 'ratio' and 'goals'"),
        ({"goals": [{"quantity": "macs"}]}, "exactly one of 'share' and 'at_most'"),
        ({"goals": [{"quantity": "cycles", "share": 0.5}]}, "'target' names the NPU"),
        ({"goals": [{"quantity": "macs", "share": 0.5, "target": TARGET}]}, "'target' names the NPU"),
        ({"ratio": 0.5, "channel_multiple": 0}, "greater than or equal to 1"),
        ({"ratio": 0.5, "recovery_rounds": 3}, "less than or equal to 2"),
    ],
)
def test_malformed_sections(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Prune.model_validate(section)


def no_section(project: Path) -> None:
    path = project / "specs/variants/level3_relu.yaml"
    path.write_text("level: level3\nactivation: relu\n")


def changed(text: str, by: str, file: str = "specs/variants/level3_relu.yaml") -> Callable[[Path], None]:
    def change(project: Path) -> None:
        before = (project / file).read_text()
        assert text in before
        (project / file).write_text(before.replace(text, by))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_section, "level3_relu.yaml: has no 'prune' section"),
        (changed("prune:", "prune:\n  recovery: nothing"), "unknown recipe 'nothing'"),
        (changed("prune:", "prune:\n  recovery: demo"), "recovery 'demo' starts from 'warm_start'"),
        (changed("prune:", "prune:\n  recovery: prune_recovery"), "is for 640 px, recipe 'demo' for 128 px"),
        (changed("weights: ", "teacher: level4_leaky\nweights: ", RECOVERY), "a pruned network cannot have a teacher"),
        (
            changed("weights: ", "qat: {epochs: 1, lr0: 0.001, per_channel: false}\nweights: ", RECOVERY),
            "qat.per_channel is False, quantize.per_channel of variant 'level3_relu' is True",
        ),
        (changed("target: ethos-u55-256", "target: ethos-u99"), "unknown target 'ethos-u99'"),
        (changed("target: ethos-u55-256", "target: ethos-n78-4tops"), "has no cycles, only rules"),
    ],
    ids=[
        "no-section",
        "unknown-recovery",
        "no-recovery",
        "other-size",
        "teacher",
        "qat",
        "unknown-target",
        "rules-target",
    ],
)
def test_plans_that_are_refused(project: Path, change: Callable[[Path], None], message: str) -> None:
    change(project)
    with pytest.raises(SpecError, match=message):
        prune_plan(catalog.load_params(), VARIANT)


def test_pruned_must_be_a_variant_of_the_run(project: Path) -> None:
    changed("pruned:\n", "pruned:\n  - baseline\n", "params.yaml")(project)
    with pytest.raises(SpecError, match="'baseline' is not among the variants"):
        catalog.load_params()


# --- stage and command -----------------------------------------------------------------------------------------------


@pytest.fixture
def run_folder(project: Path, dense: Path, tiny_dataset: Path) -> Path:
    """Return a project whose outputs hold a trained network, and an earlier pruned one."""
    models = project / "outputs/models" / VARIANT
    models.mkdir(parents=True)
    (models / "dense").symlink_to(dense)
    (project / "outputs/dataset").symlink_to(tiny_dataset)
    write_json(project / "outputs/train" / VARIANT / "run.json", {"schema": 1, "run_id": "0" * 32})
    for folder in (models / "pruned", project / "outputs/prune" / VARIANT):
        folder.mkdir(parents=True)
        (folder / "earlier").write_text("kept")
    (project / "outputs/plan" / VARIANT).mkdir(parents=True)
    return project


def earlier_outputs(project: Path) -> list[str]:
    places = (project / "outputs/models" / VARIANT / "pruned", project / "outputs/prune" / VARIANT)
    return [path.name for place in places for path in place.iterdir()]


@pytest.mark.parametrize(
    ("options", "recipe", "message"),
    [
        ({"goals": (PruneGoal(quantity="macs", at_most=10**12),)}, {}, "already met"),
        ({"keep": ("model.99",)}, {}, "unknown layer 'model.99'"),
        ({"goals": (PruneGoal(quantity="macs", share=0.001),)}, {}, "cannot be reached"),
        ({}, {"box": 1e38}, "the loss is not finite"),
    ],
    ids=["met", "unknown-layer", "out-of-reach", "diverges"],
)
def test_failures_leave_earlier_outputs_alone(
    run_folder: Path, smoke: Recipe, options: dict[str, Any], recipe: dict[str, Any], message: str
) -> None:
    plan = plan_of(smoke.model_copy(update=recipe), **options)
    write_plan(run_folder / "outputs/plan" / VARIANT / "prune.yaml", plan)
    with pytest.raises((SpecError, ModelError), match=message):
        stage.main(VARIANT)
    assert earlier_outputs(run_folder) == ["earlier", "earlier"]


def test_stage_writes_network_report_and_run(run_folder: Path, smoke: Recipe) -> None:
    write_plan(run_folder / "outputs/plan" / VARIANT / "prune.yaml", plan_of(smoke))
    stage.main(VARIANT)
    record = run_folder / "outputs/prune" / VARIANT
    assert sorted(path.name for path in record.iterdir()) == ["channels.csv", "metrics.json", "prune.json", "run.json"]
    metrics = read_json(record / "metrics.json")
    assert metrics["share"]["macs"] <= 0.7
    assert metrics["parameters"] == parameters(load_model(run_folder / "outputs/models" / VARIANT / "pruned")[0])
    with (record / "channels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert any(int(row["out_pruned"]) < int(row["out_dense"]) for row in rows)
    from ethos.registry.runs import open_tracking

    run = open_tracking("ethos")._client.get_run(read_json(record / "run.json")["run_id"])
    assert "efficiency.cpu" in run.data.metrics
    assert run.data.metrics[f"cycles.{TARGET}"] > 0
    found = CliRunner().invoke(app, ["prune", VARIANT, "--report", "--json"], catch_exceptions=False)
    document = json.loads(found.stdout)
    assert [row["model"] for row in document["rows"]] == ["dense", "step 1, as pruned", "step 1, trained again"]
    table = CliRunner().invoke(app, ["prune", VARIANT, "--report", "--layers"], catch_exceptions=False).stdout
    assert "efficiency" in table
    assert "model.0.conv" in table


def test_a_killed_stage_goes_on_in_its_run(
    run_folder: Path, smoke: Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plan(run_folder / "outputs/plan" / VARIANT / "prune.yaml", plan_of(smoke.model_copy(update={"epochs": 2})))
    lines = EpochLines.__call__

    def killed(self: Any, epoch: Any) -> None:
        lines(self, epoch)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(EpochLines, "__call__", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.main(VARIANT)
    assert "goes on" not in capsys.readouterr().err
    stage.main(VARIANT)
    assert "goes on after epoch 1" in capsys.readouterr().err
    from ethos.registry.runs import open_tracking

    tracking = open_tracking("ethos")
    (run,) = tracking._client.search_runs([tracking.experiment_id])
    assert run.info.run_id == read_json(run_folder / "outputs/prune" / VARIANT / "run.json")["run_id"]
    assert run.info.status == "FINISHED"
    assert not (run_folder / "outputs/checkpoints" / f"{VARIANT}-pruned").exists()


def test_a_pruning_into_a_folder_of_ones_own(run_folder: Path, smoke: Recipe, tmp_path: Path) -> None:
    changed("recipe: demo", "recipe: smoke", "params.yaml")(run_folder)
    options = plan_of(smoke, steps=2, recovery_rounds=2).options.model_dump(mode="json", exclude_none=True)
    variant = {"level": "level3", "activation": "relu", "prune": options}
    (run_folder / f"specs/variants/{VARIANT}.yaml").write_text(yaml.safe_dump(variant))
    into = tmp_path / "mine"
    wrong = CliRunner().invoke(app, ["prune", VARIANT, "--into", str(into), "--on", "ethos-u99"])
    assert wrong.exit_code != 0
    assert not into.exists()

    found = CliRunner().invoke(app, ["prune", VARIANT, "--into", str(into), "--json"], catch_exceptions=False)

    document = json.loads(found.stdout)
    assert [row["model"] for row in document["rows"]][:3] == ["dense", "step 1, as pruned", "step 1, trained again"]
    titles = [line for line in found.stderr.splitlines() if line.startswith("prune ")]
    steps = range(1, len(document["iterations"]) + 1)
    assert titles == [f"prune {VARIANT}, step {step}, round {number}" for step in steps for number in (1, 2)]
    written = {path.name for path in into.iterdir()}
    assert written == {"architecture.json", "pareto.png", "pareto.svg", "prune.json", "weights.safetensors"}
    assert earlier_outputs(run_folder) == ["earlier", "earlier"]


def test_preview_writes_nothing(run_folder: Path) -> None:
    changed("recipe: demo", "recipe: smoke", "params.yaml")(run_folder)
    changed("    - {quantity: cycles, share: 0.7, target: ethos-u65-512}\n", "", f"specs/variants/{VARIANT}.yaml")(
        run_folder
    )
    found = CliRunner().invoke(app, ["prune", VARIANT, "--json"], catch_exceptions=False)
    document = json.loads(found.stdout)
    assert document["quantities"]["macs"]["share"] <= 0.58
    assert document["quantities"]["ethos-u55-256"]["provenance"] == "estimate"
    assert earlier_outputs(run_folder) == ["earlier", "earlier"]
