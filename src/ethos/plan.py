"""Plans: a run's specs resolved into what one stage needs, with nothing left to look up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from ethos import catalog
from ethos.errors import SpecError
from ethos.model.levels import Architecture, check_steps, resolve_level
from ethos.specs import AnySpec, Quantize, Recipe, Spec, Weights

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.specs import Activation, Params


class StartPlan(Spec):
    """Where the run's weights come from; for a warm start, also which network is trained and how."""

    weights: Weights
    seed: int
    architecture: Architecture | None = None
    warm_up: Recipe | None = None


class TrainPlan(Spec):
    """How one variant is trained; with `from_start` it begins from the run's starting weights."""

    variant: str
    level: str
    architecture: Architecture
    recipe: Recipe
    from_start: bool
    seed: int

    @property
    def teacher(self) -> str | None:
        """The variant whose predictions are soft targets."""
        return self.recipe.teacher


class QuantizePlan(Spec):
    """How one variant is quantized."""

    variant: str
    imgsz: int
    options: Quantize


def start_plan(params: Params) -> StartPlan:
    """Return where the run's weights come from.

    Raises:
        SpecError: The run's recipe, or what its warm start names, is unknown or malformed.
    """
    weights = _recipe(params.recipe).weights
    if weights.level is None or weights.activation is None or weights.recipe is None:
        return StartPlan(weights=weights, seed=params.seed)
    warm_up = _recipe(weights.recipe)
    if warm_up.weights.source == "warm_start":
        raise SpecError(
            f"specs/recipes/{warm_up.name}.yaml: a warm start cannot itself need a warm start",
            "let its weights come from scratch, official or path",
        )
    if warm_up.teacher is not None:
        raise SpecError(
            f"specs/recipes/{warm_up.name}.yaml: a warm start cannot have a teacher", "remove 'teacher' from it"
        )
    architecture = _architecture(params, weights.level, weights.activation)
    return StartPlan(weights=weights, seed=params.seed, architecture=architecture, warm_up=warm_up)


def train_plan(params: Params, variant_name: str) -> TrainPlan:
    """Return how a variant of the run is trained.

    Raises:
        SpecError: A spec is unknown or malformed, or the variant's own recipe starts from weights that the run does not
            make.
    """
    variant = catalog.load("variant", variant_name)
    shared = _recipe(params.recipe)
    recipe = _recipe(variant.recipe) if variant.recipe else shared
    if recipe.weights.source != "scratch" and recipe.weights != shared.weights:
        raise SpecError(
            f"specs/variants/{variant_name}.yaml: recipe '{recipe.name}' starts elsewhere than '{shared.name}'",
            "use weights from scratch, or the same as the run's recipe",
        )
    if recipe.qat is not None and recipe.qat.per_channel != variant.quantize.per_channel:
        raise SpecError(
            f"specs/recipes/{recipe.name}.yaml: qat.per_channel is {recipe.qat.per_channel}, "
            f"quantize.per_channel of variant '{variant_name}' is {variant.quantize.per_channel}",
            "train for the weights that are exported: make them the same",
        )
    _check_teacher(params, variant_name, recipe)
    return TrainPlan(
        variant=variant_name,
        level=variant.level,
        architecture=_architecture(params, variant.level, variant.activation),
        recipe=recipe,
        from_start=recipe.weights.source != "scratch",
        seed=params.seed,
    )


def quantize_plan(params: Params, variant_name: str) -> QuantizePlan:
    """Return how a variant of the run is quantized."""
    variant = catalog.load("variant", variant_name)
    recipe = _recipe(variant.recipe or params.recipe)
    return QuantizePlan(variant=variant_name, imgsz=recipe.imgsz, options=variant.quantize)


def write_plan(path: Path, plan: Spec) -> None:
    """Write a plan as YAML."""
    text = yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


def read_plan(path: Path, model: type[AnySpec]) -> AnySpec:
    """Return a plan that `write_plan` wrote.

    Raises:
        SpecError: It is missing or from another version.
    """
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise SpecError(f"{path}: {str(error).splitlines()[0]}", "run: dvc repro plan") from None


def _recipe(name: str) -> Recipe:
    """Return a recipe without what is no reason to train again: the description's wording, and who is told of the end.

    Who is told may also be a secret, and plans are registered.
    """
    return catalog.load("recipe", name).model_copy(update={"description": "", "notify": None})


def _check_teacher(params: Params, student: str, recipe: Recipe) -> None:
    """Refuse a teacher that DVC does not know of: it would not train the student again when the teacher changes."""
    declared = params.students.get(student)
    if recipe.teacher == declared:
        return
    if recipe.teacher is None:
        raise SpecError(
            f"params.yaml: students: '{student}' is taught by '{declared}', but its recipe '{recipe.name}' names no "
            "teacher",
            f"remove it from students, or add 'teacher: {declared}' to the recipe",
        )
    raise SpecError(
        f"specs/recipes/{recipe.name}.yaml: teacher '{recipe.teacher}' of '{student}' is not in params.yaml",
        f"in params.yaml, students: {{{student}: {recipe.teacher}}}, with both among the variants",
    )


def _architecture(params: Params, level: str, activation: Activation) -> Architecture:
    base, steps = resolve_level(level)
    check_steps(steps)
    classes = catalog.load("dataset", params.dataset).classes
    return Architecture(base=base, steps=steps, activation=activation, names=classes)
