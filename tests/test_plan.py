"""Plans: a run's specs resolved for one stage, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from pydantic import ValidationError

from ethos import catalog
from ethos.catalog import load, load_params
from ethos.errors import SpecError
from ethos.files import read_json as load_json
from ethos.model.levels import Architecture
from ethos.plan import (
    QuantizePlan,
    StartPlan,
    TrainPlan,
    quantize_plan,
    read_plan,
    start_plan,
    train_plan,
    write_plan,
)
from ethos.specs import Params, Recipe, Spec
from pipelines import plan as stage

if TYPE_CHECKING:
    from pathlib import Path

SCRATCH = "weights: {source: scratch}\nepochs: 1\nimgsz: 96\nbatch: 4\nlr0: 0.01\nlrf: 0.1\n"
REPLACE = {"replace_block": {"block": "C3k2", "by": "C2f", "repeats": 1}}


def params(**changes: object) -> Params:
    return Params.model_validate({**load_params().model_dump(), **changes})


def recipe(name: str) -> Recipe:
    """Return a recipe as plans hold it."""
    return load("recipe", name).model_copy(update={"description": "", "recovery": None})


def write(folder: Path, kind: str, name: str, text: str) -> None:
    (folder / "specs" / f"{kind}s" / f"{name}.yaml").write_text(text, encoding="utf-8")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- what they hold --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
def test_train_plan_holds_network_and_recipe() -> None:
    plan = train_plan(params(seed=4), "level2_leaky")
    classes = load("dataset", "demo").classes
    assert plan == TrainPlan(
        variant="level2_leaky",
        level="level2",
        architecture=Architecture(base="yolo11n", steps=(REPLACE,), activation="leaky_relu", names=classes),
        recipe=recipe("demo"),
        from_start=True,
        seed=4,
    )


@pytest.mark.usefixtures("project")
def test_start_plan_of_a_warm_start_holds_what_is_trained() -> None:
    plan = start_plan(params())
    assert plan.weights == load("recipe", "demo").weights
    assert plan.warm_up == recipe("demo_warm_start")
    assert plan.architecture is not None
    assert plan.architecture.activation == "relu"
    assert [name for step in plan.architecture.steps for name in step] == ["replace_block", "replace_block"]


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(("name", "from_start"), [("smoke", False), ("v3", True), ("signs_cpu", True)])
def test_start_plan_without_a_warm_start(name: str, from_start: bool) -> None:
    plan = start_plan(params(recipe=name))
    assert plan == StartPlan(weights=load("recipe", name).weights, seed=0)
    assert train_plan(params(recipe=name), "level2_relu").from_start is from_start


def test_quantize_plan_holds_size_and_options(project: Path) -> None:
    write(
        project,
        "variant",
        "mine",
        "level: level2\nactivation: relu\nquantize: {calibration_images: 32, per_channel: false}\n",
    )
    plan = quantize_plan(params(), "mine")
    assert (plan.variant, plan.imgsz) == ("mine", load("recipe", "demo").imgsz)
    assert (plan.options.calibration_images, plan.options.per_channel) == (32, False)


def test_a_recipe_of_ones_own_wins(project: Path) -> None:
    write(project, "recipe", "own", SCRATCH)
    write(project, "variant", "mine", "level: level2\nactivation: relu\nrecipe: own\n")
    plan = train_plan(params(), "mine")
    assert (plan.recipe.name, plan.from_start) == ("own", False)
    assert quantize_plan(params(), "mine").imgsz == 96
    assert train_plan(params(), "level2_relu").recipe.name == "demo"


def test_a_recipe_of_ones_own_may_share_the_start(project: Path) -> None:
    text = (project / "specs" / "recipes" / "demo.yaml").read_text().replace("epochs: ", "epochs: 1")
    write(project, "recipe", "longer", text)
    write(project, "variant", "mine", "level: level2\nactivation: relu\nrecipe: longer\n")
    plan = train_plan(params(), "mine")
    assert plan.from_start
    assert plan.recipe.epochs != load("recipe", "demo").epochs


def student(project: Path, students: dict[str, str], recipe: str = "demo_taught") -> Params:
    """Write a variant with a recipe; return parameters of a run with it and its teacher."""
    write(project, "variant", "pupil", f"level: level4\nactivation: relu\nrecipe: {recipe}\n")
    return params(variants=["pupil", "level4_leaky"], pruned=[], students=students)


def test_a_student_knows_its_teacher(project: Path) -> None:
    plan = train_plan(student(project, {"pupil": "level4_leaky"}), "pupil")
    assert (plan.teacher, plan.from_start) == ("level4_leaky", True)
    assert plan.recipe.epochs == load("recipe", "demo").epochs
    assert train_plan(params(), "level4_relu").teacher is None


def test_the_recipe_of_a_student_is_the_demo_recipe_with_a_teacher() -> None:
    ours = load("recipe", "demo_taught").model_dump(exclude={"name", "description", "teacher"})
    assert ours == load("recipe", "demo").model_dump(exclude={"name", "description", "teacher"})


def test_a_teacher_that_dvc_does_not_know(project: Path) -> None:
    with pytest.raises(SpecError) as caught:
        train_plan(student(project, {}), "pupil")
    assert str(caught.value) == (
        "specs/recipes/demo_taught.yaml: teacher 'level4_leaky' of 'pupil' is not in params.yaml\n"
        "  fix: in params.yaml, students: {pupil: level4_leaky}, with both among the variants"
    )


def test_a_student_whose_recipe_has_no_teacher(project: Path) -> None:
    with pytest.raises(SpecError) as caught:
        train_plan(student(project, {"pupil": "level4_leaky"}, recipe="demo"), "pupil")
    assert str(caught.value) == (
        "params.yaml: students: 'pupil' is taught by 'level4_leaky', but its recipe 'demo' names no teacher\n"
        "  fix: remove it from students, or add 'teacher: level4_leaky' to the recipe"
    )


@pytest.mark.parametrize(
    ("students", "text"),
    [
        ({"level2_relu": "level9"}, "students: 'level9' is not among the variants"),
        ({"level9": "level2_relu"}, "students: 'level9' is not among the variants"),
        ({"level2_relu": "level2_relu"}, "students: 'level2_relu' cannot be its own teacher"),
    ],
    ids=["teacher", "student", "itself"],
)
@pytest.mark.usefixtures("project")
def test_students_and_teachers_are_variants_of_the_run(students: dict[str, str], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        params(students=students)


def test_a_warm_start_has_no_teacher(project: Path) -> None:
    write(project, "recipe", "demo_warm_start", SCRATCH + "teacher: level4_leaky\n")
    with pytest.raises(SpecError) as caught:
        start_plan(params())
    assert caught.value.message == "specs/recipes/demo_warm_start.yaml: a warm start cannot have a teacher"


def test_who_is_told_of_the_end_is_in_no_plan(project: Path) -> None:
    write(project, "recipe", "own", SCRATCH + "notify: {url: 'https://example.org/secret'}\n")
    before = train_plan(params(recipe="own"), "level2_relu")
    assert before.recipe.notify is None
    write(project, "recipe", "own", SCRATCH)
    assert train_plan(params(recipe="own"), "level2_relu") == before
    stage.main("level2_relu")
    assert load_json(stage.OUTPUTS / "teacher/level2_relu/teacher.json") == {"schema": 1, "teacher": None}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("kind", [StartPlan, TrainPlan, QuantizePlan])
def test_plans_are_read_as_they_were_written(kind: type[Spec], tmp_path: Path) -> None:
    plans: dict[type[Spec], Spec] = {
        StartPlan: start_plan(params()),
        TrainPlan: train_plan(params(), "level4_relu"),
        QuantizePlan: quantize_plan(params(), "level4_relu"),
    }
    write_plan(tmp_path / "plan.yaml", plans[kind])
    assert read_plan(tmp_path / "plan.yaml", kind) == plans[kind]


# --- what changes them -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
def test_stage_writes_the_plans() -> None:
    stage.main("level2_relu")
    stage.main("--start")
    assert sorted(snapshot(stage.OUTPUTS / "plan")) == [
        "level2_relu/quantize.yaml",
        "level2_relu/train.yaml",
        "start/start.yaml",
    ]


@pytest.mark.parametrize(
    ("kind", "name", "old", "new", "changed"),
    [
        ("variant", "level2_relu", "level: level2", "level: level2\nquantize: {per_channel: false}", {"quantize"}),
        ("variant", "level2_relu", "relu\n", "silu\n", {"train"}),
        ("variant", "level2_relu", "description: ", "description: Truly a ", set()),
        ("variant", "level3_relu", "relu\n", "silu\n", set()),
        ("level", "level2", "repeats: 1", "repeats: 2", {"train", "start"}),
        ("level", "level2", "description: ", "description: Truly a ", set()),
        ("level", "level3", "repeats: 1", "repeats: 2", {"start"}),
        ("recipe", "demo", "batch: 8", "batch: 16", {"train"}),
        ("recipe", "demo", "imgsz: ", "imgsz: 32 #", {"train", "quantize"}),
        ("recipe", "demo", "activation: relu", "activation: silu", {"train", "start"}),
        ("recipe", "demo", "Minutes", "Some minutes", set()),
        ("recipe", "demo_warm_start", "batch: 8", "batch: 4", {"start"}),
        ("recipe", "smoke", "batch: 8", "batch: 16", set()),
        ("dataset", "demo", "Yield", "Give Way", {"train", "start"}),
        ("dataset", "demo", "images: 800", "images: 900", set()),
    ],
    ids=[
        "quantize-options",
        "activation",
        "variant-description",
        "other-variant",
        "level",
        "level-description",
        "level-of-the-start",
        "recipe",
        "recipe-size",
        "recipe-weights",
        "recipe-description",
        "warm-up",
        "other-recipe",
        "classes",
        "images",
    ],
)
def test_a_change_touches_only_the_plans_that_it_concerns(
    project: Path, kind: str, name: str, old: str, new: str, changed: set[str]
) -> None:
    def plans() -> dict[str, bytes]:
        stage.main("level2_relu")
        stage.main("--start")
        return {name.split("/")[1]: content for name, content in snapshot(stage.OUTPUTS / "plan").items()}

    before = plans()
    file = project / "specs" / f"{kind}s" / f"{name}.yaml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    after = plans()
    assert {key.removesuffix(".yaml") for key in before if before[key] != after[key]} == changed


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_a_recipe_that_starts_elsewhere(project: Path) -> None:
    write(project, "variant", "mine", "level: level2\nactivation: relu\nrecipe: v3\n")
    with pytest.raises(SpecError) as caught:
        train_plan(params(), "mine")
    assert str(caught.value) == (
        "specs/variants/mine.yaml: recipe 'v3' starts elsewhere than 'demo'\n"
        "  fix: use weights from scratch, or the same as the run's recipe"
    )


def test_a_warm_start_of_a_warm_start(project: Path) -> None:
    text = (project / "specs" / "recipes" / "demo.yaml").read_text().replace("recipe: demo_warm_start", "recipe: demo")
    write(project, "recipe", "circular", text)
    with pytest.raises(SpecError) as caught:
        start_plan(params(recipe="circular"))
    assert str(caught.value) == (
        "specs/recipes/demo.yaml: a warm start cannot itself need a warm start\n"
        "  fix: let its weights come from scratch, official or path"
    )


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        ("level: level22\nactivation: relu\n", "specs/levels: unknown level 'level22'"),
        ("level: mine\nactivation: relu\n", "unknown level step 'fly'"),
        ("level: level2\nactivation: relu\nrecipe: v4\n", "specs/recipes: unknown recipe 'v4'"),
        (None, "specs/variants: unknown variant 'mine'"),
    ],
    ids=["level", "step", "recipe", "variant"],
)
def test_unknown_names_stop_before_anything_is_written(project: Path, variant: str | None, text: str) -> None:
    write(project, "level", "mine", "extends: level2\nsteps:\n  - fly: {}\n")
    if variant is not None:
        write(project, "variant", "mine", variant)
    with pytest.raises(SpecError) as caught:
        stage.main("mine")
    assert caught.value.message == text
    assert not (stage.OUTPUTS / "plan" / "mine").exists()


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"dataset": "dmo"}, "specs/datasets: unknown dataset 'dmo'"),
        ({"recipe": "dmo"}, "specs/recipes: unknown recipe 'dmo'"),
    ],
    ids=["dataset", "recipe"],
)
def test_unknown_names_in_the_parameters(changes: dict[str, object], text: str) -> None:
    for make in (start_plan, lambda given: train_plan(given, "level2_relu")):
        with pytest.raises(SpecError) as caught:
            make(params(**changes))
        assert caught.value.message == text


@pytest.mark.parametrize("content", [None, "", "variant: [", "variant: a\n"], ids=["absent", "empty", "yaml", "other"])
def test_a_plan_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "train.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SpecError) as caught:
        read_plan(path, TrainPlan)
    assert caught.value.message.startswith(f"{path}: ")
    assert "\n" not in caught.value.message
    assert caught.value.fix == "run: dvc repro plan"


@pytest.mark.usefixtures("project")
def test_plans_are_plain_yaml_without_references_to_look_up(tmp_path: Path) -> None:
    write_plan(tmp_path / "plan.yaml", start_plan(params()))
    text = (tmp_path / "plan.yaml").read_text(encoding="utf-8")
    assert "&" not in text
    assert "!!" not in text
    assert list(yaml.safe_load(text)) == ["weights", "seed", "architecture", "warm_up"]
    assert catalog.load_params().recipe == "demo"
