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
# their first argument is no number of channels
WITHOUT_CHANNELS = {"nn.Upsample", "Concat", "Detect"}
# takes weights from the network when it is built
FETCHING_LAYERS = {"TorchVision"}
CHECK_LAYERS = "check the level's base, and the arguments of its steps"
Share = Annotated[float, Field(gt=0.0, le=1.0)]


class Architecture(BaseModel):
    """All that is needed to build a network again: base graph, steps, activation and classes.

    `widths` is set for a pruned network: input and output channels of each convolution in its split form, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    steps: Steps
    activation: Activation
    names: tuple[str, ...]
    widths: dict[str, tuple[Positive, Positive]] | None = None


def resolve_level(name: str) -> tuple[str, Steps]:
    """Return the base graph and all steps of a level, those of the levels it extends first.

    Raises:
        SpecError: The level or one that it extends is unknown, or they extend each other in a circle.
    """
    chain: list[str] = []
    steps: Steps = ()
    base: str | None = None
    while True:
        if name in chain:
            raise SpecError(f"specs/levels: {' extends '.join([*chain, name])}", "remove one 'extends'")
        chain.append(name)
        level = catalog.load("level", name)
        steps = level.steps + steps
        # the level that is asked for has the last word on its base
        base = base or level.base
        if level.extends is None:
            if base is None:  # excluded by the spec's own validation
                raise SpecError(f"specs/levels/{name}.yaml: neither base nor extends", "give one")
            return base, steps
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
        ModelError: The steps left a graph that is no network, its widths are not those of its layers, or the built one
            does not hold the declared activation everywhere.
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
    model = construct(graph, len(architecture.names))
    require_raw_head(model, architecture.base)
    for step in architecture.steps:
        _apply(MODULE_STEPS, step, model)
    if architecture.widths is not None:
        from ethos.model.widths import set_widths

        set_widths(model, architecture.widths)
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


def construct(graph: Graph, classes: int) -> Network:
    """Return the network of a layer list; the activation that the engine sets for all later networks is put back.

    Raises:
        ModelError: It names a layer that is none, or is no network.
    """
    from ultralytics.nn.modules.conv import Conv
    from ultralytics.nn.tasks import DetectionModel

    _require_layers(graph)
    default = Conv.default_act
    try:
        return DetectionModel(copy.deepcopy(graph), ch=3, nc=classes, verbose=False)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # the engine builds what it reads and runs it once, so a wrong layer fails anywhere
        text, _, _ = str(error).partition("\n")
        raise ModelError(f"the layer list is no network: {type(error).__name__}: {text}", CHECK_LAYERS) from None
    finally:
        Conv.default_act = default


def _require_layers(graph: Graph) -> None:
    """Refuse a name that is no layer: the engine would call any function of that name, such as one that unpickles."""
    from torch import nn
    from ultralytics.nn import modules

    for part in PARTS:
        for layer in graph[part]:
            name = str(layer[2])
            place, name_there = (nn, name[3:]) if name.startswith("nn.") else (modules, name)
            found = getattr(place, name_there, None)
            if not (isinstance(found, type) and issubclass(found, nn.Module)) or name in FETCHING_LAYERS:
                raise ModelError(f"the layer list is no network: unknown layer '{name}'", CHECK_LAYERS)


def require_raw_head(model: Network, base: str) -> None:
    """Refuse a head that cannot be exported raw: what leaves the network would not be what the decoder reads.

    Raises:
        ModelError: The head does more than boxes and classes, or gives no box distributions, or one box an object.
    """
    head = model.model[-1]
    reason = ""
    if type(head).__name__ != "Detect":
        reason = f"is {type(head).__name__}, not Detect"
    elif head.reg_max == 1:
        reason = "gives no box distributions"
    elif getattr(head, "end2end", False):
        reason = "has a second set of branches"
    if reason:
        raise ModelError(
            f"base graph '{base}': its head {reason}", "use a base such as yolov8n, yolo11n or yolo12n, of any scale"
        )


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
def narrow_neck(graph: Graph, *, width: Share, first: Share = 1.0) -> None:
    """Multiply the channels of every neck layer by `width` (rounded to multiples of 8 when built).

    Args:
        graph: The layer list.
        width: Factor for the layers between backbone and detection head.
        first: Factor for the backbone's last block, where the neck begins.
    """
    for layer in graph["head"]:
        if layer[2] not in WITHOUT_CHANNELS:
            layer[3][0] = int(layer[3][0] * width)
    begin = graph["backbone"][-1]
    begin[3][0] = int(begin[3][0] * first)


# --- module steps: change the built network --------------------------------------------------------------------------

ANY_MODULE = ConfigDict(arbitrary_types_allowed=True)


@validate_call(config=ANY_MODULE)
def narrow_lateral(model: Network, *, stride: Positive, channels: Positive) -> None:
    """Bring the backbone's map of a stride to `channels` by a linear 1x1 convolution where the neck joins it.

    Args:
        model: The network.
        stride: Pixels of the input for each of the map, in each direction.
        channels: What the neck gets of the map.
    """
    from torch import nn

    from ethos.model.blocks import LateralConcat

    join, source = _join_of(model, stride)
    width = (source.cv2 if hasattr(source, "cv2") else source).conv.out_channels
    model.model[join.i] = LateralConcat(join, width, channels)
    reader = model.model[join.i + 1].cv1
    inputs, outputs = reader.conv.in_channels - width + channels, reader.conv.out_channels
    reader.conv = nn.Conv2d(inputs, outputs, reader.conv.kernel_size, bias=False)


def _join_of(model: Network, stride: int) -> tuple[Any, Any]:
    """Return the layer that joins the backbone's map of a stride to the neck, and the layer that makes the map."""
    from ultralytics.nn.modules.conv import Concat, Conv

    strides: list[int] = []
    for layer in model.model[: len(model.yaml["backbone"]) - 1]:
        before = strides[-1] if strides else 1
        strides.append(before * (layer.conv.stride[0] if isinstance(layer, Conv) else 1))
    for layer in model.model:
        if isinstance(layer, Concat) and 0 <= layer.f[-1] < len(strides) and strides[layer.f[-1]] == stride:
            return layer, model.model[layer.f[-1]]
    raise ModelError(f"level step 'narrow_lateral': the neck joins no map of stride {stride}", "use 8 or 16, each once")


@validate_call(config=ANY_MODULE)
def light_head(
    model: Network,
    *,
    convolutions: Annotated[int, Field(ge=1, le=2)] = 2,
    box_channels: Positive | None = None,
    class_channels: Positive | None = None,
) -> None:
    """Lighten the detection branches, which as published have two hidden convolutions before each output.

    Args:
        model: The network.
        convolutions: How many of the hidden convolutions stay, the first ones.
        box_channels: Channels of those that find boxes; by default as published.
        class_channels: Channels of those that find classes; by default as published, which follows the neck's width.
    """
    from torch import nn

    head = model.model[-1]
    for branches, width in ((head.cv2, box_channels), (head.cv3, class_channels)):
        for index, branch in enumerate(branches):
            *hidden, output = branch
            inner = nn.Sequential(*hidden[:convolutions])
            channels = _set_channels(inner, width)
            branches[index] = nn.Sequential(*inner, nn.Conv2d(channels, output.out_channels, 1))
    head.bias_init()


def _set_channels(chain: Any, width: int | None) -> int:
    """Give each convolution of a chain `width` output channels, if any are wanted; return those of the last."""
    from torch import nn
    from ultralytics.nn.modules.conv import Conv

    found = [module for module in chain.modules() if isinstance(module, Conv)]
    channels: int = found[0].conv.in_channels
    for module in found:
        conv = module.conv
        depthwise = conv.groups > 1
        outputs = channels if depthwise else width or conv.out_channels
        if (channels, outputs) != (conv.in_channels, conv.out_channels):
            groups = channels if depthwise else 1
            module.conv = nn.Conv2d(
                channels, outputs, conv.kernel_size, conv.stride, conv.padding, groups=groups, bias=False
            )
            module.bn = nn.BatchNorm2d(outputs, eps=module.bn.eps, momentum=module.bn.momentum)
        channels = outputs
    return channels


@validate_call(config=ANY_MODULE)
def fold_shortcuts(model: Network) -> None:
    """Export the residual C2f without their last addition, exactly (see `SplitC2f`); they train as they are."""
    found = [block for block in _c2f_of(model) if block.m and getattr(block.m[-1], "add", False)]
    if not found:
        raise ModelError("level step 'fold_shortcuts': no C2f adds what it reads", "remove the step")
    for block in found:
        block.fold_shortcut = True


@validate_call(config=ANY_MODULE)
def recompute_copies(model: Network, *, inputs: Positive) -> None:
    """Export a C2f of at most `inputs` input channels with its second half computed twice, not copied."""
    found = [block for block in _c2f_of(model) if block.cv1.conv.in_channels <= inputs]
    if not found:
        raise ModelError(f"level step 'recompute_copies': no C2f of {inputs} inputs or fewer", "raise inputs")
    for block in found:
        block.recompute = True


def _c2f_of(model: Network) -> list[Any]:
    from ultralytics.nn.modules.block import C2f

    return [module for module in model.modules() if type(module) is C2f]


@validate_call(config=ANY_MODULE)
def depthwise_class_branch(model: Network) -> None:
    """Make each hidden 3x3 layer of the class branches a depthwise 3x3 and a pointwise 1x1, as YOLO11 has them."""
    from ultralytics.nn.modules.conv import Conv, DWConv
    from ultralytics.utils.torch_utils import initialize_weights

    head, changed = model.model[-1], 0
    for branch in head.cv3:
        for index, layer in enumerate(branch):
            if type(layer) is Conv and layer.conv.groups == 1 and layer.conv.kernel_size == (3, 3):
                given, wanted = layer.conv.in_channels, layer.conv.out_channels
                pair = DWConv(given, given, 3, act=layer.act), Conv(given, wanted, 1, act=layer.act)
                branch[index] = type(branch)(*pair)
                changed += 1
    if not changed:
        raise ModelError(
            "level step 'depthwise_class_branch': the class branches are depthwise already", "remove the step"
        )
    initialize_weights(head)
    head.bias_init()


@validate_call(config=ANY_MODULE)
def split_c2f(model: Network) -> None:
    """Write every C2f as two convolutions instead of one and a slice; the numbers stay the same.

    Every network is exported in that form. As a step it is also trained in it; weights from a file then match fewer
    tensors by name.
    """
    from ethos.model import blocks

    if not blocks.split_c2f(model):
        raise ModelError("level step 'split_c2f': the network holds no C2f", "put it after the step that makes them")


GRAPH_STEPS: dict[str, Callable[..., None]] = {"replace_block": replace_block, "narrow_neck": narrow_neck}
MODULE_STEPS: dict[str, Callable[..., None]] = {
    "narrow_lateral": narrow_lateral,
    "light_head": light_head,
    "depthwise_class_branch": depthwise_class_branch,
    "split_c2f": split_c2f,
    "fold_shortcuts": fold_shortcuts,
    "recompute_copies": recompute_copies,
}
