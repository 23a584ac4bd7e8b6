"""A built network as a table: every layer with its parameters and multiply-accumulates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.errors import SpecError
from ethos.model.levels import Architecture, Network, build, resolve_level

if TYPE_CHECKING:
    from torch import Tensor, nn

LARGEST_STRIDE = 32


def describe(variant_name: str, classes: int, imgsz: int) -> dict[str, Any]:
    """Return a variant's layers, as built for training (before batch norm is folded).

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
    model = build(Architecture(base=base, steps=steps, activation=variant.activation, names=names))
    macs = layer_macs(model, imgsz)
    layers = [
        {
            "index": layer.i,
            "from": layer.f,
            "module": type(layer).__name__,
            "parameters": sum(parameter.numel() for parameter in layer.parameters()),
            "macs": macs[index],
        }
        for index, layer in enumerate(model.model)
    ]
    return {
        "schema": 1,
        "name": variant_name,
        "level": variant.level,
        "activation": variant.activation,
        "base": base,
        "steps": [dict(step) for step in steps],
        "classes": classes,
        "imgsz": imgsz,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "macs": sum(macs),
        "layers": layers,
    }


def layer_macs(model: Network, imgsz: int) -> list[int]:
    """Return the multiply-accumulates of each top-level layer's convolutions at batch 1.

    A convolution takes out_channels * out_h * out_w * kernel_h * kernel_w * in_channels / groups. Products of two
    computed tensors (attention) are not counted, as in the common figures for YOLO.
    """
    import torch
    from torch import nn

    counted = [0] * len(model.model)

    def count(index: int) -> Any:
        def hook(conv: nn.Conv2d, _: tuple[Tensor, ...], output: Tensor) -> None:
            kernel = conv.kernel_size[0] * conv.kernel_size[1] * conv.in_channels // conv.groups
            counted[index] += output[0].numel() * kernel

        return hook

    hooks = [
        module.register_forward_hook(count(index))
        for index, layer in enumerate(model.model)
        for module in layer.modules()
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad
    ]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            model(torch.zeros(1, 3, imgsz, imgsz))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    return counted
