"""One pruning of a network: what it costs, what it may cost, who gives, and the narrower network."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ethos.compress.convert import export_onnx
from ethos.errors import ModelError
from ethos.model.blocks import split_blocks
from ethos.model.head import output_names, to_export_form
from ethos.model.widths import widths_of
from ethos.pruning.allocate import Goal, Kept, Limits, by_worth, check_goals, uniform
from ethos.pruning.costs import Channels, Cost, Macs, Parameters
from ethos.pruning.cycles import Cycles, Drawer, measure_curves
from ethos.pruning.groups import Structure, Tracer
from ethos.pruning.importance import score_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ethos.model.levels import Architecture, Network
    from ethos.pruning.allocate import Widths
    from ethos.pruning.cycles import Curves
    from ethos.specs import Prune, PruneGoal, VelaTarget

Given = TypeVar("Given")
Found = TypeVar("Found")
# a reduction by a smaller share of the channels is none
NOTICEABLE = 0.005


@dataclass
class Aim:
    """What a schedule aims at. `dense` and `totals`, of the dense network, are filled in at its first step.

    Attributes:
        options: The variant's prune section.
        imgsz: Side of the square input.
        targets: The NPUs whose cycles are aimed at, by name.
        dense: Unpruned width of each group.
        totals: Each quantity, by its cost's name.
        curves: How cycles follow channels, by target.
    """

    options: Prune
    imgsz: int
    targets: dict[str, VelaTarget]
    dense: Widths = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Curves] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """A network as pruning sees it."""

    tracer: Tracer
    structure: Structure
    costs: dict[str, Cost]


def shrink(network: Network, architecture: Architecture, aim: Aim, step: int, scratch: Path) -> Architecture | None:
    """Prune a network in place by one step of the schedule; return its new architecture, None if all goals are reached.

    An earlier step may have gone farther than it had to, since channels go in blocks; the next goals then count.

    Args:
        network: The dense network or an earlier step's; with `importance: taylor` its parameters hold gradients.
        architecture: Its architecture.
        aim: What the schedule aims at.
        step: Which of `options.steps`, from 1.
        scratch: Folder for temporary files.

    Raises:
        SpecError: A goal is met already, or a layer to keep is not there.
        ModelError: Nothing can be pruned, the goals cannot be reached, or about nothing would go.
    """
    view = look(network, aim, scratch)
    goals = _goals_left(view, aim, step)
    if not goals:
        return None
    scores = score_channels(view.tracer, aim.options.importance)
    chosen = allocate(view, goals, aim, scores)
    _require_noticeable(view.structure.full, chosen)
    removed = {
        group: scores[group].argsort(kind="stable")[: view.structure.full[group] - width].tolist()
        for group, width in chosen.items()
    }
    view.tracer.prune(removed)
    network.zero_grad(set_to_none=True)
    found, expected = widths_of(network), view.structure.widths(chosen)
    if wrong := sorted(name for name in expected if found[name] != expected[name]):
        raise ModelError(
            f"layer '{wrong[0]}' was pruned to {found[wrong[0]]} channels instead of {expected[wrong[0]]}",
            "keep it: name it in prune.keep",
        )
    return architecture.model_copy(update={"widths": found})


def look(network: Network, aim: Aim, scratch: Path) -> View:
    """Return a network's groups and costs; it is brought into its split form."""
    exported = export_network(network, aim.imgsz, scratch / "network.onnx")
    tracer = Tracer(network, aim.options.keep)
    structure = tracer.structure(aim.imgsz)
    parameters = sum(each.numel() for each in network.parameters())
    costs: dict[str, Cost] = {
        "channels": Channels(structure),
        "macs": Macs(structure),
        "parameters": Parameters(structure, parameters),
    }
    drawer = Drawer(network, exported, structure)
    names = sorted({each.target for each in aim.options.goals if each.target})
    costs |= dict(zip(names, side_by_side(partial(_cycles, aim, structure, drawer), names), strict=True))
    if not aim.dense:
        aim.dense = structure.full
        aim.totals = {name: cost.total(structure.full) for name, cost in costs.items()}
    return View(tracer, structure, costs)


def export_network(network: Network, imgsz: int, path: Path) -> Path:
    """Write a network in its export form as ONNX, blocks split; the network itself stays as it is."""
    strides = [int(stride) for stride in network.stride]
    split = copy.deepcopy(network)
    split_blocks(split)
    export_onnx(to_export_form(split), (imgsz, imgsz), output_names(strides), path)
    return path


def goals_of(view: View, aim: Aim, step: int) -> list[Goal]:
    """Return what is to be reached at a step: each quantity falls by the same factor from step to step.

    Raises:
        SpecError: The dense network meets one already.
    """
    options = aim.options
    wanted = [(str(each.target or each.quantity), _share(each, aim)) for each in options.goals]
    if options.ratio is not None:
        wanted.append(("channels", 1 - options.ratio))
    if step == 1:
        check_goals([Goal(view.costs[name], aim.totals[name] * share) for name, share in wanted], view.structure.full)
    return [Goal(view.costs[name], aim.totals[name] * share ** (step / options.steps)) for name, share in wanted]


def _goals_left(view: View, aim: Aim, step: int) -> list[Goal]:
    """Return the goals of this step or the next one that the network does not meet; none if it meets the last."""
    for number in range(step, aim.options.steps + 1):
        goals = goals_of(view, aim, number)
        if not all(goal.met(view.structure.full) for goal in goals):
            return goals
    return []


def _share(goal: PruneGoal, aim: Aim) -> float:
    """Return a goal as a share of the dense network's quantity."""
    if goal.share is not None:
        return goal.share
    return float(goal.at_most or 0) / aim.totals[str(goal.target or goal.quantity)]


def allocate(view: View, goals: Sequence[Goal], aim: Aim, scores: dict[str, NDArray[np.float64]]) -> Widths:
    """Return the width of each group.

    Raises:
        ModelError: The goals cannot be reached.
    """
    options, full = aim.options, view.structure.full
    limits = Limits(options.channel_multiple, options.max_layer_ratio, aim.dense)
    compiled = [goal.cost for goal in goals if isinstance(goal.cost, Cycles)]

    def correct(widths: Widths) -> None:
        side_by_side(lambda cost: cost.compile(widths), compiled)

    if options.method == "uniform":
        return uniform(goals, full, limits, correct)
    return by_worth(goals, full, Kept(scores), limits, blind=options.method == "importance", correct=correct)


def _cycles(aim: Aim, structure: Structure, drawer: Drawer, name: str) -> Cycles:
    target = aim.targets[name]
    if name not in aim.curves:
        aim.curves[name] = measure_curves(structure, target)
    return Cycles(structure, target, drawer, aim.curves[name])


def side_by_side(work: Callable[[Given], Found], given: Iterable[Given]) -> list[Found]:
    """Return what the work gives for each; compilers run in processes of their own."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(work, given))


def _require_noticeable(full: Widths, chosen: Widths) -> None:
    """Refuse a pruning that does about nothing."""
    before, after = sum(full.values()), sum(chosen.values())
    if before - after < NOTICEABLE * before:
        raise ModelError(
            f"pruning would remove {before - after} of {before} channels, which is about none",
            "lower channel_multiple, keep fewer layers, or ask for a larger reduction",
        )
