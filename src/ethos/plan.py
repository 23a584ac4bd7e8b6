"""Plans: a run's specs resolved into what one stage needs, with nothing left to look up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from ethos import catalog
from ethos.errors import SpecError
from ethos.model.levels import Architecture, check_steps, resolve_level
from ethos.specs import AnySpec, Prune, Quantize, Recipe, Spec, VelaTarget, Weights

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.specs import Activation, Params, Variant


DEFAULT_RECOVERY = "prune_recovery"


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


class PrunePlan(Spec):
    """How one variant is pruned and trained again; `targets` are the NPUs whose cycles are aimed at or reported."""

    variant: str
    imgsz: int
    options: Prune
    recovery: Recipe
    targets: tuple[VelaTarget, ...]
    seed: int

    def run_params(self) -> dict[str, object]:
        """Return what a run is told of it."""
        options = self.options.model_dump(mode="json", exclude_none=True)
        return {"recipe": self.recovery.name, "epochs": self.recovery.epochs, "seed": self.seed, **options}


def start_plan(params: Params) -> StartPlan:
    """Return where the run's weights come from.

    Raises:
        SpecError: The run's recipe, or what its warm start names, is unknown or malformed, or asks of a warm start what
            only a variant's training does.
    """
    weights = _training(params.recipe).weights
    if weights.level is None or weights.activation is None or weights.recipe is None:
        return StartPlan(weights=weights, seed=params.seed)
    warm_up = _training(weights.recipe)
    if warm_up.weights.source == "warm_start":
        raise SpecError(
            f"specs/recipes/{warm_up.name}.yaml: a warm start cannot itself need a warm start",
            "let its weights come from scratch, official or path",
        )
    for key, what in (("teacher", "a teacher"), ("qat", "'qat'")):
        if getattr(warm_up, key) is not None:
            raise SpecError(
                f"specs/recipes/{warm_up.name}.yaml: a warm start cannot have {what}", f"remove '{key}' from it"
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
    shared = _training(params.recipe)
    recipe = _training(variant.recipe) if variant.recipe else shared
    if recipe.weights.source != "scratch" and recipe.weights != shared.weights:
        raise SpecError(
            f"specs/variants/{variant_name}.yaml: recipe '{recipe.name}' starts elsewhere than '{shared.name}'",
            "use weights from scratch, or the same as the run's recipe",
        )
    _check_qat(recipe, variant)
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
    options = variant.quantize
    trained_by = [recipe, *([prune_plan(params, variant_name).recovery] if variant_name in params.pruned else [])]
    if any(each.qat is not None for each in trained_by):
        # a network that was trained with rounding is at home in its own scales
        options = options.model_copy(update={"balance": False})
    return QuantizePlan(variant=variant_name, imgsz=recipe.imgsz, options=options)


def prune_plan(params: Params, variant_name: str) -> PrunePlan:
    """Return how a variant of the run is pruned.

    Raises:
        SpecError: The variant has no prune section, or that names a recipe or target that does not exist or fit.
    """
    variant = catalog.load("variant", variant_name)
    place = f"specs/variants/{variant_name}.yaml"
    options = variant.prune
    if options is None:
        raise SpecError(
            f"{place}: has no 'prune' section", "add one, or take the variant out of 'pruned' in params.yaml"
        )
    recipe = _recipe(variant.recipe or params.recipe)
    recovery = _recovery(place, options, catalog.load("recipe", recipe.name), recipe.imgsz)
    _check_qat(recovery, variant)
    wanted = [each.target for each in options.goals if each.target]
    wanted += [] if options.efficiency_on == "cpu" else [options.efficiency_on]
    needed = [_vela_target(place, name) for name in dict.fromkeys(wanted)]
    others = [catalog.load("target", name) for name in params.targets if name not in wanted]
    targets = (*needed, *(target for target in others if isinstance(target, VelaTarget)))
    return PrunePlan(
        variant=variant_name, imgsz=recipe.imgsz, options=options, recovery=recovery, targets=targets, seed=params.seed
    )


def _recovery(place: str, options: Prune, recipe: Recipe, imgsz: int) -> Recipe:
    """Return the recipe by which a pruned network is trained again; it must be one for that, of the same input size."""
    recovery = _recipe(options.recovery or recipe.recovery or DEFAULT_RECOVERY)
    if recovery.weights.source != "pruned":
        raise SpecError(
            f"{place}: recovery '{recovery.name}' starts from '{recovery.weights.source}', not from the pruned network",
            f"give specs/recipes/{recovery.name}.yaml 'weights: {{source: pruned}}', or name another recipe",
        )
    if recovery.imgsz != imgsz:
        raise SpecError(
            f"{place}: recovery '{recovery.name}' is for {recovery.imgsz} px, recipe '{recipe.name}' for {imgsz} px",
            f"name a recipe of {imgsz} px as 'recovery' in specs/recipes/{recipe.name}.yaml",
        )
    if recovery.teacher is not None:
        raise SpecError(
            f"specs/recipes/{recovery.name}.yaml: a pruned network cannot have a teacher", "remove 'teacher' from it"
        )
    return recovery


def _vela_target(place: str, name: str) -> VelaTarget:
    target = catalog.load("target", name)
    if not isinstance(target, VelaTarget):
        raise SpecError(f"{place}: target {name} has no cycles, only rules", "name a target that Vela compiles for")
    return target


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

    Nor is what comes after the training. Who is told may also be a secret, and plans are registered.
    """
    return catalog.load("recipe", name).model_copy(update={"description": "", "notify": None, "recovery": None})


def _check_qat(recipe: Recipe, variant: Variant) -> None:
    if recipe.qat is not None and recipe.qat.per_channel != variant.quantize.per_channel:
        raise SpecError(
            f"specs/recipes/{recipe.name}.yaml: qat.per_channel is {recipe.qat.per_channel}, "
            f"quantize.per_channel of variant '{variant.name}' is {variant.quantize.per_channel}",
            "train for the weights that are exported: make them the same",
        )


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


def _training(name: str) -> Recipe:
    """Return a recipe for training an unpruned network.

    Raises:
        SpecError: It is one for recovery.
    """
    recipe = _recipe(name)
    if recipe.weights.source == "pruned":
        raise SpecError(
            f"specs/recipes/{name}.yaml: is for networks that were pruned", "name it as 'recovery' of another recipe"
        )
    return recipe


def _architecture(params: Params, level: str, activation: Activation) -> Architecture:
    base, steps = resolve_level(level)
    check_steps(steps)
    classes = catalog.load("dataset", params.dataset).classes
    return Architecture(base=base, steps=steps, activation=activation, names=classes)
