"""Blocks in a form that NPUs take without detours; each equals the block it replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor


class SplitC2f(nn.Module):
    """C2f whose first convolution and channel slice are written as two convolutions.

    A channel slice costs an NPU a copy and falls outside what some compilers take; two convolutions of half the output
    channels each compute the same numbers. Built from a C2f, whose weights it takes over.
    """

    cv0: nn.Module
    cv1: nn.Module
    cv2: nn.Module
    m: nn.ModuleList

    def __init__(self, block: Any) -> None:
        super().__init__()
        _take_over(self, block)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        features = [self.cv0(x), self.cv1(x)]
        features.extend(block(features[-1]) for block in self.m)
        joined: Tensor = self.cv2(torch.cat(features, 1))
        return joined


class SplitC2PSA(nn.Module):
    """C2PSA in the same form as `SplitC2f`: attention works on the result of a convolution of its own."""

    cv0: nn.Module
    cv1: nn.Module
    cv2: nn.Module
    m: nn.Sequential

    def __init__(self, block: Any) -> None:
        super().__init__()
        _take_over(self, block)

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c1, h, w]."""
        joined: Tensor = self.cv2(torch.cat((self.cv0(x), self.m(self.cv1(x))), 1))
        return joined


def split_c2f(model: nn.Module) -> int:
    """Replace every plain C2f in the model by its split form, in place; return how many were replaced."""
    from ultralytics.nn.modules.block import C2f

    return _replace(model, {C2f: SplitC2f})


def split_blocks(model: nn.Module) -> int:
    """Replace every block that slices channels by its split form, in place; return how many were replaced."""
    from ultralytics.nn.modules.block import C2PSA, C2f, C3k2

    return _replace(model, {C2f: SplitC2f, C3k2: SplitC2f, C2PSA: SplitC2PSA})


def _replace(model: nn.Module, forms: Mapping[type, Callable[[Any], nn.Module]]) -> int:
    found = [(name, module) for name, module in model.named_modules() if type(module) in forms]
    for name, module in found:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, forms[type(module)](module))
    return len(found)


def _take_over(split: Any, block: Any) -> None:
    """Give a split block the layers of the block that it replaces."""
    half = int(block.c)
    split.cv0 = _output_slice(block.cv1, slice(0, half))
    split.cv1 = _output_slice(block.cv1, slice(half, 2 * half))
    split.cv2, split.m = block.cv2, block.m
    # layer index, inputs and type: what Ultralytics' forward loop reads from every layer
    for attribute in ("i", "f", "type", "np"):
        if hasattr(block, attribute):
            setattr(split, attribute, getattr(block, attribute))


def _output_slice(conv: Any, channels: slice) -> Any:
    """Return a copy of an Ultralytics Conv (convolution, optional batch norm, activation) with some output channels."""
    import copy

    part = copy.deepcopy(conv)
    part.conv.weight = nn.Parameter(conv.conv.weight.detach()[channels].clone())
    part.conv.out_channels = len(part.conv.weight)
    if conv.conv.bias is not None:
        part.conv.bias = nn.Parameter(conv.conv.bias.detach()[channels].clone())
    if hasattr(conv, "bn"):
        part.bn = nn.BatchNorm2d(part.conv.out_channels, eps=conv.bn.eps, momentum=conv.bn.momentum)
        part.bn.load_state_dict(
            {key: value if value.ndim == 0 else value[channels].clone() for key, value in conv.bn.state_dict().items()}
        )
        part.bn.train(conv.bn.training)
    # the activation instance stays shared, as in the original
    part.act = conv.act
    return part
