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
    channels each compute the same numbers. Built from a C2f, whose weights it takes over. The block may ask for more:

    - `fold_shortcut`: the last inner block's addition leaves. Its sum, b + f(b), is read by the last convolution alone,
      where W (b + f(b)) = W b + W f(b): the columns for b take those for the sum in addition.
    - `recompute`: the half that both the chain and the concatenation read is computed once for each, where an NPU
      would compute it once and copy it.
    """

    cv0: nn.Module
    cv1: nn.Module
    cv2: nn.Module
    m: nn.ModuleList

    def __init__(self, block: Any) -> None:
        super().__init__()
        _take_over(self, block)
        self.recompute = bool(getattr(block, "recompute", False))
        if self.recompute:
            self.cv0 = block.cv1
        if getattr(block, "fold_shortcut", False) and block.m[-1].add:
            _fold_shortcut(block.cv2.conv, self.m, int(block.c))

    def forward(self, x: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        start = self.cv1(x)
        features = [self.cv0(x)] if self.recompute else [self.cv0(x), start]
        chain = start
        for block in self.m:
            chain = block(chain)
            features.append(chain)
        joined: Tensor = self.cv2(torch.cat(features, 1))
        return joined


class LateralConcat(nn.Module):
    """Concatenation whose last input first passes a linear 1x1 convolution, which leaves fewer channels of it."""

    def __init__(self, concat: Any, width: int, channels: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(width, channels, 1, bias=False)
        _take_place(self, concat)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Join [b, c, h, w] maps, the last one of `width` channels."""
        return torch.cat([*maps[:-1], self.lateral(maps[-1])], 1)


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
    _take_place(split, block)


def _take_place(module: nn.Module, of: Any) -> None:
    """Copy layer index, inputs and type: what Ultralytics' forward loop reads from every layer."""
    for attribute in ("i", "f", "type", "np"):
        if hasattr(of, attribute):
            setattr(module, attribute, getattr(of, attribute))


def _fold_shortcut(last: nn.Conv2d, chain: Any, width: int) -> None:
    """Take the addition out of the chain's last block; `last` reads `width` channels of each of its members."""
    last.weight.data = fold_columns(last.weight.data, width)
    chain[-1].add = False


def fold_columns(weight: Tensor, width: int) -> Tensor:
    """Return weights [out, in, h, w] that read b and f(b) in their last columns, for some that read b and b + f(b).

    Args:
        weight: The weights; they are returned as they are where there is nothing to fold.
        width: Channels of b; 0 for nothing.
    """
    if not width:
        return weight
    before, inner, total = weight[:, : -2 * width], weight[:, -2 * width : -width], weight[:, -width:]
    return torch.cat((before, inner + total, total), 1)


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
