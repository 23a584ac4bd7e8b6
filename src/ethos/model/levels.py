"""Levels: ordered steps that turn a published YOLO graph into one an NPU runs well.

A level's spec lists steps by name. Graph steps rewrite the layer list before the network is built; module steps change
the built network. A new step is one function and one line in the table at the foot of this module.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping  # noqa: TC003 - pydantic resolves annotations at run time
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, validate_call

from ethos import catalog
from ethos.errors import ModelError, SpecError, unknown
from ethos.model.activations import ACTIVATIONS, verify_activations
from ethos.specs import Activation, Positive  # noqa: TC001 - as above

Graph = dict[str, Any]
# an Ultralytics DetectionModel, whose layers are set at run time; torch types each attribute of a module as a tensor
Network = Any
Steps = tuple[dict[str, dict[str, Any] | None], ...]
PARTS = ("backbone", "head")


class Architecture(BaseModel):
    """All that is needed to build a network again: base graph, steps, activation and classes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    steps: Steps
    activation: Activation
    names: tuple[str, ...]


def resolve_level(name: str) -> tuple[str, Steps]:
    """Return the base graph and all steps of a level, those of the levels it extends first.

    Raises:
        SpecError: The level or one that it extends is unknown, or they extend each other in a circle.
    """
    chain: list[str] = []
    steps: Steps = ()
    while True:
        if name in chain:
            raise SpecError(f"specs/levels: {' extends '.join([*chain, name])}", "remove one 'extends'")
        chain.append(name)
        level = catalog.load("level", name)
        steps = level.steps + steps
        if level.extends is None:
            if level.base is None:  # excluded by the spec's own validation
                raise SpecError(f"specs/levels/{name}.yaml: neither base nor extends", "give one")
            return level.base, steps
        name = level.extends


def check_steps(steps: Steps) -> None:
    """Refuse a step that no table holds; arguments are checked when it is applied.

    Raises:
        SpecError: With the nearest known names.
    """
    known = [*GRAPH_STEPS, *MODULE_STEPS]
    for step in steps:
        for name in step:
            if name not in known:
                raise unknown("level step", name, known)


def build(architecture: Architecture, seed: int = 0) -> Network:
    """Return the network, randomly initialised from the seed, with its activation verified.

    The result is an Ultralytics DetectionModel: [b, 3, h, w] float32 in 0..1 to Ultralytics' predictions.

    Raises:
        SpecError: The base graph or a step is unknown, or a step's arguments do not fit.
        ModelError: The steps left a graph that is no network, or the built one does not hold the declared activation
            everywhere.
    """
    from ethos.model.engine import prepare

    prepare()
    import torch

    check_steps(architecture.steps)
    graph = base_graph(architecture.base)
    graph["activation"] = ACTIVATIONS[architecture.activation].expression
    for step in architecture.steps:
        _apply(GRAPH_STEPS, step, graph)
    torch.manual_seed(seed)
    model = _construct(graph, len(architecture.names))
    for step in architecture.steps:
        _apply(MODULE_STEPS, step, model)
    model.names = dict(enumerate(architecture.names))
    verify_activations(model, architecture.activation)
    return model


def base_graph(name: str) -> Graph:
    """Return the layer list of a model that Ultralytics publishes, such as yolo11n or yolov8n.

    Raises:
        SpecError: Ultralytics has no such model.
    """
    from ethos.model.engine import prepare

    prepare()
    from ultralytics.nn.tasks import yaml_model_load

    try:
        graph: Graph = yaml_model_load(f"{name}.yaml")
    except FileNotFoundError:
        raise SpecError(
            f"unknown base graph '{name}'", "use a detection model of Ultralytics, such as yolo11n"
        ) from None
    if not graph.get("scale"):
        raise SpecError(f"base graph '{name}' names no scale", f"add one, such as {name}n")
    return graph


def _construct(graph: Graph, classes: int) -> Network:
    """Return the network of a layer list; the activation that the engine sets for all later networks is put back."""
    from ultralytics.nn.modules.conv import Conv
    from ultralytics.nn.tasks import DetectionModel

    default = Conv.default_act
    try:
        return DetectionModel(copy.deepcopy(graph), ch=3, nc=classes, verbose=False)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # the engine builds what it reads and runs it once, so a wrong layer fails anywhere
        text, _, _ = str(error).partition("\n")
        raise ModelError(
            f"the level's graph is no network: {type(error).__name__}: {text}",
            "check the arguments of the level's steps",
        ) from None
    finally:
        Conv.default_act = default


def _apply(table: Mapping[str, Callable[..., None]], step: Mapping[str, Any], subject: object) -> None:
    """Apply the step if it stands in this table."""
    ((name, arguments),) = step.items()
    if name not in table:
        return
    try:
        table[name](subject, **(arguments or {}))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise SpecError(f"level step '{name}': {where}: {problem['msg']}", "correct the step's arguments") from None


# --- graph steps: change the layer list ------------------------------------------------------------------------------


@validate_call
def replace_block(graph: Graph, *, block: str, by: str, repeats: Positive, shortcut: bool | None = None) -> None:
    """Replace every `block` by a `by` of the same output channels.

    Args:
        graph: The layer list.
        block: Class to replace, such as C3k2.
        by: Class to put in its place, such as C2f.
        repeats: Inner repeats of the new block.
        shortcut: Residual connections in the new block; by default in the backbone only, as in YOLOv8.
    """
    found = 0
    for part in PARTS:
        for layer in graph[part]:
            if layer[2] == block:
                residual = part == "backbone" if shortcut is None else shortcut
                layer[1:] = [repeats, by, [layer[3][0], residual]]
                found += 1
    if not found:
        raise ModelError(f"level step 'replace_block': the graph holds no {block}", "check the level's base and order")


@validate_call
def narrow_neck(graph: Graph, *, width: Annotated[float, Field(gt=0.0, le=1.0)]) -> None:
    """Multiply the channels of every neck layer by `width` (rounded to multiples of 8 when built)."""
    for layer in graph["head"]:
        if layer[2] in {"Conv", "C2f", "C3k2"}:
            layer[3][0] = int(layer[3][0] * width)


# --- module steps: change the built network --------------------------------------------------------------------------


@validate_call(config=ConfigDict(arbitrary_types_allowed=True))
def light_head(model: Network, *, convolutions: Annotated[int, Field(ge=1, le=2)]) -> None:
    """Keep the first `convolutions` (1 or 2) hidden 3x3 layers of each detection branch.

    The published head has two hidden convolutions before each output; with one the head costs about half.
    """
    from torch import nn

    head = model.model[-1]
    for branches in (head.cv2, head.cv3):
        for index, branch in enumerate(branches):
            hidden, output = list(branch)[:convolutions], branch[-1]
            width = next(
                m for m in reversed([*nn.Sequential(*hidden).modules()]) if isinstance(m, nn.Conv2d)
            ).out_channels
            branches[index] = nn.Sequential(*hidden, nn.Conv2d(width, output.out_channels, 1))
    head.bias_init()


GRAPH_STEPS: dict[str, Callable[..., None]] = {"replace_block": replace_block, "narrow_neck": narrow_neck}
MODULE_STEPS: dict[str, Callable[..., None]] = {"light_head": light_head}
