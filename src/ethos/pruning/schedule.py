"""The schedule: prune, train again, measure; stop when efficiency falls or accuracy does, and keep the best."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.errors import ModelError
from ethos.files import read_json
from ethos.model.blocks import split_blocks
from ethos.model.weights import load_model, save_model
from ethos.model.widths import require_widths, widths_of
from ethos.pruning.measure import Measured, measure
from ethos.pruning.shrink import Aim, shrink
from ethos.training.aware import train_by_recipe
from ethos.training.measure import accumulate_gradients, validate
from ethos.training.monitor import Silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from ethos.model.levels import Architecture, Network
    from ethos.plan import PrunePlan
    from ethos.training.checkpoint import Checkpoints
    from ethos.training.epoch import Epoch
    from ethos.training.monitor import Monitor

    Show = Callable[[str], AbstractContextManager[Monitor]]

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

    Attributes:
        dense: Figures of the unpruned network.
        max_map50_drop: The spec's limit.
        efficiency_on: Whose frames a second decided: `cpu`, or a target.
        scored: Under what the networks were scored.
        layers: Input and output channels of each convolution, dense and as kept.
    """

    dense: Measured
    max_map50_drop: float
    efficiency_on: str
    scored: dict[str, Any]
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
    show: Show = lambda _: nullcontext(Silent()),
    checkpoints: Checkpoints | None = None,
) -> Outcome:
    """Prune a trained network by its plan, and write the best iteration into `into`.

    Args:
        dense: Folder of the trained network.
        plan: How it is pruned and trained again.
        dataset: Materialised data set with train and val sides.
        into: Folder for weights.safetensors and architecture.json.
        on_iteration: Called when a step is measured.
        show: Gives what shows a training, for its name.
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
        outcome = _begin(dense, network, architecture, plan, dataset, scratch)
        for step in range(1, plan.options.steps + 1):
            work = _Work(plan, aim, dataset, scratch, step, show, checkpoints)
            pruned = work.prune(network, architecture)
            if pruned is None:
                outcome.stopped = "all goals were reached"
                break
            network, architecture, pruned_map50, scores = pruned
            measured = measure(work.folder, scores, plan.imgsz, plan.targets, scratch)
            drop = outcome.dense.map50 - measured.map50
            iteration = Iteration(step, pruned_map50, measured, drop, drop <= plan.options.max_map50_drop)
            outcome.iterations.append(iteration)
            on_iteration(iteration)
            outcome.stopped = _reason_to_stop(outcome, plan)
            if outcome.stopped:
                break
        outcome.kept = _best(outcome.iterations, plan.options.efficiency_on).step
        kept, architecture = load_model(_folder_of(scratch, outcome.kept))
        save_model(into, kept, architecture)
    outcome.layers = _layers(load_model(dense)[0], kept)
    return outcome


def _begin(
    dense: Path, network: Network, architecture: Architecture, plan: PrunePlan, dataset: Path, scratch: Path
) -> Outcome:
    """Return an outcome that holds the figures of the dense network."""
    scored = {
        "by": f"ultralytics {version('ultralytics')}",
        "split": "val",
        "split_sha256": read_json(dataset / "dataset.json")["split_sha256"],
        "imgsz": plan.imgsz,
    }
    scores = validate(network, architecture, plan.recovery, dataset)
    measured = measure(dense, scores, plan.imgsz, plan.targets, scratch)
    return Outcome(measured, plan.options.max_map50_drop, plan.options.efficiency_on, scored)


def _folder_of(scratch: Path, step: int) -> Path:
    """Return where a step keeps its network."""
    return scratch / f"step{step}"


@dataclass(frozen=True)
class _Work:
    """One step's pruning and training."""

    plan: PrunePlan
    aim: Aim
    dataset: Path
    scratch: Path
    step: int
    show: Show
    checkpoints: Checkpoints | None

    @property
    def folder(self) -> Path:
        """Where the step's network is kept."""
        return _folder_of(self.scratch, self.step)

    def prune(
        self, network: Network, architecture: Architecture
    ) -> tuple[Network, Architecture, float, dict[str, float]] | None:
        """Return the network after this step, its architecture, mAP50 before it was trained again, scores after.

        None if there is nothing left to prune.
        """
        plan = self.plan
        self.folder.mkdir()
        if plan.options.importance == "taylor":
            accumulate_gradients(network, architecture, plan.recovery, self.dataset, GRADIENT_BATCHES, plan.seed)
        shrunk = shrink(network, architecture, self.aim, self.step, self.scratch)
        if shrunk is None:
            return None
        architecture = shrunk
        parameters = _parameters(network)
        before = validate(network, architecture, plan.recovery, self.dataset)["map50"]
        for number in range(1, plan.options.recovery_rounds + 1):
            best = self._train(network, architecture, number)
            network, architecture = load_model(self.folder)
            _require_kept(network, architecture, parameters)
        scores = {name: getattr(best, name) for name in ("precision", "recall", "map50", "map50_95")}
        return network, architecture, before, scores

    def _train(self, network: Network, architecture: Architecture, number: int) -> Epoch:
        """Train the pruned network again, for that time; return its best epoch."""
        rounds = f", round {number}" if self.plan.options.recovery_rounds > 1 else ""
        with self.show(f"step {self.step}{rounds}") as shown:
            result = train_by_recipe(
                architecture,
                self.plan.recovery,
                self.dataset,
                self.folder,
                start=network.state_dict(),
                seed=self.plan.seed,
                on_epoch=shown,
                tell=shown.tell,
                checkpoints=self.checkpoints.part(f"step{self.step}-{number}") if self.checkpoints else None,
            )
        if result.transferred.matched != result.transferred.total:
            raise ModelError(
                f"training again began from {result.transferred.matched} of {result.transferred.total} tensors",
                "its network differs from the pruned one; please report it",
            )
        return result.best


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
