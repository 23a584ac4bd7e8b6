"""A built network as a table: every layer with its parameters and multiply-accumulates, and the steps that made it."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.errors import SpecError
from ethos.model.levels import Architecture, Network, build, resolve_level
from ethos.model.trial import run_watched

if TYPE_CHECKING:
    from torch import Tensor, nn

LARGEST_STRIDE = 32


@dataclass(frozen=True)
class Stage:
    """A network after some of its level's steps: its layers, and by which steps (counted from 1) each was changed."""

    layers: list[dict[str, Any]]
    changed_by: list[list[int]]

    def total(self, figure: str) -> int:
        """Return the sum of `parameters` or `macs` over the layers."""
        return sum(int(layer[figure]) for layer in self.layers)


def describe(variant_name: str, classes: int, imgsz: int) -> dict[str, Any]:
    """Return a variant's layers, as built for training (before batch norm is folded), and what each step changed.

    Args:
        variant_name: The variant.
        classes: Number of classes.
        imgsz: Side of the square input in pixels, for the MACs.

    Raises:
        SpecError: The variant, its level or a step is unknown, or the side is no multiple of the largest stride.
    """
    if imgsz % LARGEST_STRIDE:
        raise SpecError(f"input side {imgsz} is no multiple of {LARGEST_STRIDE}", "give one, such as 640")
    variant = catalog.load("variant", variant_name)
    base, steps = resolve_level(variant.level)
    names = tuple(f"class{index}" for index in range(classes))
    whole = Architecture(base=base, steps=steps, activation=variant.activation, names=names)
    stages = _stages(whole, imgsz)
    last = stages[-1]
    return {
        "schema": 1,
        "name": variant_name,
        "level": variant.level,
        "activation": variant.activation,
        "base": base,
        "steps": [_step_row(step, *pair) for step, pair in zip(steps, pairwise(stages), strict=True)],
        "classes": classes,
        "imgsz": imgsz,
        "base_parameters": stages[0].total("parameters"),
        "base_macs": stages[0].total("macs"),
        "parameters": last.total("parameters"),
        "macs": last.total("macs"),
        "layers": [
            {**layer, "changed_by": changed} for layer, changed in zip(last.layers, last.changed_by, strict=True)
        ],
    }


def _stages(whole: Architecture, imgsz: int) -> list[Stage]:
    """Return the base network, and the network after each further step."""
    layers = layer_rows(build(whole.model_copy(update={"steps": ()})), imgsz)
    stages = [Stage(layers, [[] for _ in layers])]
    for number in range(1, len(whole.steps) + 1):
        layers = layer_rows(build(whole.model_copy(update={"steps": whole.steps[:number]})), imgsz)
        stages.append(Stage(layers, _changes(stages[-1], layers, number)))
    return stages


def _step_row(step: dict[str, dict[str, Any] | None], before: Stage, after: Stage) -> dict[str, Any]:
    ((name, arguments),) = step.items()
    return {
        "step": name,
        "arguments": arguments or {},
        "parameters": after.total("parameters"),
        "macs": after.total("macs"),
        "parameters_change": after.total("parameters") - before.total("parameters"),
        "macs_change": after.total("macs") - before.total("macs"),
    }


def _changes(before: Stage, layers: list[dict[str, Any]], number: int) -> list[list[int]]:
    """Return the steps that changed each layer; a step may also take layers out or put some in."""
    old, new = ([_look(layer) for layer in each] for each in (before.layers, layers))
    changed_by: list[list[int]] = []
    for tag, start, end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            changed_by += before.changed_by[start:end]
        elif end - start == new_end - new_start:
            changed_by += [[*earlier, number] for earlier in before.changed_by[start:end]]
        else:
            changed_by += [[number]] * (new_end - new_start)
    return changed_by


def _look(layer: dict[str, Any]) -> tuple[Any, ...]:
    return layer["module"], layer["parameters"], layer["macs"]


def layer_rows(model: Network, imgsz: int) -> list[dict[str, Any]]:
    """Return each top-level layer with its inputs, class, parameters and MACs."""
    macs = layer_macs(model, imgsz)
    return [
        {
            "index": layer.i,
            "from": layer.f,
            "module": type(layer).__name__,
            "parameters": sum(parameter.numel() for parameter in layer.parameters()),
            "macs": macs[index],
        }
        for index, layer in enumerate(model.model)
    ]


def layer_macs(model: Network, imgsz: int) -> list[int]:
    """Return the multiply-accumulates of each top-level layer's convolutions at batch 1.

    A convolution takes out_channels * out_h * out_w * kernel_h * kernel_w * in_channels / groups. Products of two
    computed tensors (attention) are not counted, as in the common figures for YOLO.
    """
    import torch
    from torch import nn

    places = {
        module: index
        for index, layer in enumerate(model.model)
        for module in layer.modules()
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad
    }
    counted = [0] * len(model.model)

    def count(conv: nn.Conv2d, _: object, output: Tensor) -> None:
        kernel = conv.kernel_size[0] * conv.kernel_size[1] * conv.in_channels // conv.groups
        counted[places[conv]] += output[0].numel() * kernel

    run_watched(model, places, count, torch.zeros(1, 3, imgsz, imgsz))
    return counted
