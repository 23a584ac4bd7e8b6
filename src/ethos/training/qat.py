"""Quantization-aware training: a short fine-tuning in which the network already computes with int8 steps.

Weights and activations are rounded on the way forward and gradients pass as if they were not (the straight-through
estimator, Jacob et al. 2018, https://arxiv.org/abs/1712.05877). Batch norm is folded with its running figures, as it is
for export, and so is the last addition of a C2f where its level asks for that. The network keeps its parameters and
their names: what is trained is exported and calibrated as any other. Ranges and steps are float32 also where the
network computes in half precision: there a step may be 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from ultralytics.nn.modules.block import Bottleneck, C2f
from ultralytics.nn.modules.conv import Conv

from ethos.model.blocks import fold_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ethos.model.levels import Network

MOMENTUM = 0.95  # of the running range
LOWEST, HIGHEST = -128, 127
SYMMETRIC = 127  # weights use -127 to 127
TINY = 1e-12
WITHIN = (nn.ReLU, nn.Identity)  # activations that TFLite computes with their convolution


class Rounded(nn.Module):
    """Rounds activations to the 256 steps of a running range.

    A copy shares its range: the averaged network that is validated sees what the trained one has seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.low: Tensor | None = None
        self.high: Tensor | None = None

    def forward(self, values: Tensor) -> Tensor:
        """Return the values [any shape], rounded; in training the range follows them."""
        if self.training:
            self._follow(values.detach())
        if self.low is None or self.high is None:
            return values
        low, high = self.low.clamp(max=0.0), self.high.clamp(min=0.0)
        scale = ((high - low) / (HIGHEST - LOWEST)).clamp(min=TINY)
        zero = (LOWEST - low / scale).round().clamp(LOWEST, HIGHEST).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, LOWEST, HIGHEST)

    def _follow(self, values: Tensor) -> None:
        low, high = values.amin().float(), values.amax().float()
        if self.low is None or self.high is None:
            self.low, self.high = low, high
        else:
            self.low, self.high = self.low.lerp(low, 1 - MOMENTUM), self.high.lerp(high, 1 - MOMENTUM)

    def __deepcopy__(self, memo: dict[int, Any]) -> Rounded:
        return self


class RoundedConv(Conv):  # type: ignore[misc]
    """An Ultralytics Conv (convolution, batch norm, activation) that computes with rounded weights and activations.

    Attributes:
        rounded: Rounds what it gives.
        inner: Rounds what its activation reads, unless that is a ReLU: TFLite computes those together.
        per_channel: One weight scale for each output channel.
        parts: Tensors that its output channels become when exported.
        folded: Width of the sum that it reads the parts of, where the addition is folded into its last columns; else 0.
    """

    rounded: Rounded
    inner: nn.Module
    per_channel: bool
    parts: int
    folded: int

    def forward(self, images: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        bias = self.bn.bias.float() - self.bn.running_mean.float() * self._gain()
        sums = self.inner(_convolve(self.conv, images, self.rounded_weights(), bias))
        result: Tensor = self.rounded(self.act(sums))
        return result

    def rounded_weights(self) -> Tensor:
        """Return the float32 weights [c2, c1, k, k] that it computes with."""
        weights = self.conv.weight.float() * self._gain()[:, None, None, None]
        return round_weights(fold_columns(weights, self.folded), self.per_channel, self.parts)

    def _gain(self) -> Tensor:
        gain: Tensor = self.bn.weight.float() / torch.sqrt(self.bn.running_var.float() + self.bn.eps)
        return gain


class RoundedConv2d(nn.Conv2d):
    """A plain convolution that computes with rounded weights and activations."""

    rounded: Rounded
    per_channel: bool

    def forward(self, images: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        result: Tensor = self.rounded(_convolve(self, images, self.rounded_weights(), self.bias))
        return result

    def rounded_weights(self) -> Tensor:
        """Return the float32 weights [c2, c1, k, k] that it computes with."""
        return round_weights(self.weight.float(), self.per_channel)


def round_weights(weights: Tensor, per_channel: bool, parts: int = 1) -> Tensor:
    """Return float32 weights [out, in, h, w] rounded to int8, with a scale for each output channel or for the whole.

    Args:
        weights: The weights.
        per_channel: One scale for each output channel.
        parts: Otherwise, how many tensors they are cut into along the output channels when exported.
    """
    if per_channel:
        scales = weights.detach().abs().amax((1, 2, 3)).clamp(min=TINY) / SYMMETRIC
        zeros = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weights, scales, zeros, 0, -SYMMETRIC, SYMMETRIC)
    rounded = []
    for part in weights.chunk(parts):
        scale = float(part.detach().abs().amax().clamp(min=TINY)) / SYMMETRIC
        rounded.append(torch.fake_quantize_per_tensor_affine(part, scale, 0, -SYMMETRIC, SYMMETRIC))
    return torch.cat(rounded)


def round_network(model: Network, per_channel: bool) -> int:
    """Make a network compute with rounded weights and activations, in place; return how many convolutions do.

    The classes of its layers change, not their parameters: its state is that of the same network without rounding.
    """
    found = [module for module in model.modules() if isinstance(module, Conv) and hasattr(module, "bn")]
    inside = {id(module.conv) for module in found}
    plain = [
        module
        for name, module in model.named_modules()
        if type(module) is nn.Conv2d and id(module) not in inside and ".dfl." not in name
    ]
    for module in found:
        _turn(module, RoundedConv, per_channel)
        module.inner = nn.Identity() if isinstance(module.act, WITHIN) else Rounded()
        module.parts, module.folded = 1, 0
    for module in plain:
        _turn(module, RoundedConv2d, per_channel)
    for block in [each for each in model.modules() if type(each) is C2f]:
        block.cv1.parts = 2
        if getattr(block, "fold_shortcut", False) and block.m[-1].add:
            block.cv2.folded, block.m[-1].add = int(block.c), False
    for module in [each for each in model.modules() if isinstance(each, Bottleneck) and each.add]:
        module.rounded_sum = Rounded()
        module.register_forward_hook(_round_sum)
    return len(found) + len(plain)


def ranges_of(model: Network) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the running ranges of a rounded network's activations, each a least and a greatest value, by name."""
    return {
        name: (each.low, each.high)
        for name, each in _roundings(model)
        if each.low is not None and each.high is not None
    }


def set_ranges(model: Network, ranges: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Let a rounded network go on from what `ranges_of` gave for one that is built as it."""
    device = next(model.parameters()).device
    for name, each in _roundings(model):
        if name in ranges:
            each.low, each.high = (end.to(device) for end in ranges[name])


def _roundings(model: Network) -> Iterator[tuple[str, Rounded]]:
    return ((name, each) for name, each in model.named_modules() if isinstance(each, Rounded))


def _turn(module: Any, kind: type[nn.Module], per_channel: bool) -> None:
    module.__class__ = kind
    module.per_channel = per_channel
    module.rounded = Rounded()


def _round_sum(module: Any, _: Any, output: Tensor) -> Tensor:
    result: Tensor = module.rounded_sum(output)
    return result


def _convolve(conv: nn.Conv2d, images: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    kind = conv.weight.dtype
    bias = None if bias is None else bias.to(kind)
    return functional.conv2d(images, weights.to(kind), bias, conv.stride, conv.padding, conv.dilation, conv.groups)
