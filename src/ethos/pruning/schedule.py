"""The schedule: prune, train again, measure; stop when efficiency falls or accuracy does, and keep the best."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.errors import ModelError
from ethos.model.blocks import split_blocks
from ethos.model.weights import load_model, save_model
from ethos.model.widths import require_widths, widths_of
from ethos.pruning.measure import Measured, measure
from ethos.pruning.shrink import Aim, shrink
from ethos.training.aware import train_by_recipe
from ethos.training.measure import accumulate_gradients, validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethos.model.levels import Architecture, Network
    from ethos.plan import PrunePlan
    from ethos.training.checkpoint import Checkpoints
    from ethos.training.epoch import Epoch

# of the training side, for importance by gradients
GRADIENT_BATCHES = 16


@dataclass(frozen=True)
class Iteration:
    """One step of the schedule.

    Attributes:
        step: Its number, from 1.
        pruned_map50: mAP50 as pruned, before it was trained again.
        measured: Figures after.
        map50_drop: What it lost against the dense network.
        within_limit: Whether that is within the spec's limit.
    """

    step: int
    pruned_map50: float
    measured: Measured
    map50_drop: float
    within_limit: bool


@dataclass
class Outcome:
    """A finished schedule: figures of the dense network and of each iteration, and which one was kept, and why.

    `layers` holds input and output channels of each convolution, dense and as kept; `max_map50_drop` is the
    spec's limit.
    """

    dense: Measured
    max_map50_drop: float
    iterations: list[Iteration] = field(default_factory=list)
    kept: int = 0
    stopped: str = ""
    layers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best(self) -> Iteration:
        """The iteration whose network was kept."""
        return next(each for each in self.iterations if each.step == self.kept)

    def document(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {"schema": 1, **asdict(self)}


def run_schedule(
    dense: Path,
    plan: PrunePlan,
    dataset: Path,
    into: Path,
    *,
    on_iteration: Callable[[Iteration], None] = lambda _: None,
    on_epoch: Callable[[int, Epoch], None] = lambda *_: None,
    tell: Callable[[int, str], None] = lambda *_: None,
    checkpoints: Checkpoints | None = None,
) -> Outcome:
    """Prune a trained network by its plan, and write the best iteration into `into`.

    Args:
        dense: Folder of the trained network.
        plan: How it is pruned and trained again.
        dataset: Materialised data set with train and val sides.
        into: Folder for weights.safetensors and architecture.json.
        on_iteration: Called when a step is measured.
        on_epoch: Called with the step and each epoch of its training.
        tell: Called with the step and what a user should know of its training.
        checkpoints: Where each training keeps its checkpoints, and goes on from them; None keeps none.

    Raises:
        SpecError: A goal is met already, or a layer to keep is not there.
        ModelError: Nothing can be pruned, the goals cannot be reached, a shape changed, or the training fails.
    """
    network, architecture = load_model(dense)
    if architecture.widths is not None:
        raise ModelError(f"{dense}: is pruned already", "prune the dense form")
    # before gradients are accumulated: splitting makes new tensors
    split_blocks(network)
    aim = Aim(plan.options, plan.imgsz, {target.name: target for target in plan.targets})
    with tempfile.TemporaryDirectory(prefix="ethos-prune-") as name:
        scratch = Path(name)
        scores = validate(network, architecture, plan.recovery, dataset)
        unpruned = measure(network, scores, plan.imgsz, plan.targets, scratch)
        outcome = Outcome(unpruned, plan.options.max_map50_drop)
        for step in range(1, plan.options.steps + 1):
            work = _Work(plan, aim, dataset, scratch, step, partial(on_epoch, step), partial(tell, step), checkpoints)
            network, architecture, pruned_map50, scores = work.prune(network, architecture)
            measured = measure(network, scores, plan.imgsz, plan.targets, scratch)
            drop = outcome.dense.map50 - measured.map50
            iteration = Iteration(step, pruned_map50, measured, drop, drop <= plan.options.max_map50_drop)
            outcome.iterations.append(iteration)
            on_iteration(iteration)
            outcome.stopped = _reason_to_stop(outcome, plan)
            if outcome.stopped:
                break
        outcome.kept = _best(outcome.iterations, plan.options.efficiency_on).step
        kept, architecture = load_model(scratch / f"step{outcome.kept}")
        save_model(into, kept, architecture)
    outcome.layers = _layers(load_model(dense)[0], kept)
    return outcome


@dataclass(frozen=True)
class _Work:
    """One step's pruning and training."""

    plan: PrunePlan
    aim: Aim
    dataset: Path
    scratch: Path
    step: int
    on_epoch: Callable[[Epoch], None]
    tell: Callable[[str], None]
    checkpoints: Checkpoints | None

    def prune(
        self, network: Network, architecture: Architecture
    ) -> tuple[Network, Architecture, float, dict[str, float]]:
        """Return the network after this step, its architecture, mAP50 before it was trained again, scores after."""
        plan, folder = self.plan, self.scratch / f"step{self.step}"
        folder.mkdir()
        if plan.options.importance == "taylor":
            accumulate_gradients(network, architecture, plan.recovery, self.dataset, GRADIENT_BATCHES, plan.seed)
        architecture = shrink(network, architecture, self.aim, self.step, self.scratch)
        parameters = _parameters(network)
        before = validate(network, architecture, plan.recovery, self.dataset)["map50"]
        for recovery in range(1, plan.options.recovery_rounds + 1):
            place = f"step{self.step}-{recovery}"
            result = train_by_recipe(
                architecture,
                plan.recovery,
                self.dataset,
                folder,
                start=network.state_dict(),
                seed=plan.seed,
                on_epoch=self.on_epoch,
                tell=self.tell,
                checkpoints=self.checkpoints.part(place) if self.checkpoints else None,
            )
            if result.transferred.matched != result.transferred.total:
                raise ModelError(
                    f"training again began from {result.transferred.matched} of {result.transferred.total} tensors",
                    "its network differs from the pruned one; please report it",
                )
            network, architecture = load_model(folder)
            _require_kept(network, architecture, parameters)
        best = result.best
        scores = {name: getattr(best, name) for name in ("precision", "recall", "map50", "map50_95")}
        return network, architecture, before, scores


def _require_kept(network: Network, architecture: Architecture, parameters: int) -> None:
    """Refuse a network that is not the pruned one any more.

    Raises:
        ModelError: A layer's width or the number of parameters changed.
    """
    require_widths(network, architecture.widths or {})
    if (found := _parameters(network)) != parameters:
        raise ModelError(
            f"{parameters} parameters after pruning, {found} after training again", "the pruning was lost; report it"
        )


def _parameters(network: Network) -> int:
    return sum(each.numel() for each in network.parameters())


def _reason_to_stop(outcome: Outcome, plan: PrunePlan) -> str:
    """Return why the schedule ends after its last iteration; nothing if it goes on."""
    last, on = outcome.iterations[-1], plan.options.efficiency_on
    before = outcome.iterations[-2].measured if len(outcome.iterations) > 1 else outcome.dense
    if not last.within_limit:
        return f"mAP50 has fallen by {last.map50_drop:.3f}, more than {plan.options.max_map50_drop:g}"
    if last.measured.efficiency[on] < before.efficiency[on]:
        return f"efficiency on {on} fell from {before.efficiency[on]:.2f} to {last.measured.efficiency[on]:.2f}"
    return "all steps were taken" if last.step == plan.options.steps else ""


def _best(iterations: list[Iteration], on: str) -> Iteration:
    """Return the most efficient iteration within the accuracy limit; where none is, the most accurate."""
    allowed = [each for each in iterations if each.within_limit]
    if not allowed:
        return max(iterations, key=lambda each: each.measured.map50)
    return max(allowed, key=lambda each: each.measured.efficiency[on])


def _layers(dense: Network, kept: Network) -> list[dict[str, Any]]:
    """Return input and output channels of each convolution before and after."""
    split_blocks(dense)
    after = widths_of(kept)
    return [{"name": name, "dense": list(each), "pruned": list(after[name])} for name, each in widths_of(dense).items()]
