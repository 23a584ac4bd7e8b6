"""Quantization-aware training: a short fine-tuning in which the network already computes with int8 steps.

Weights and activations are rounded on the way forward and gradients pass as if they were not (the straight-through
estimator, Jacob et al. 2018, https://arxiv.org/abs/1712.05877). Batch norm is folded with its running figures, as it is
for export. The network keeps its parameters and their names: what is trained is exported and calibrated as any other.
Ranges and steps are float32 also where the network computes in half precision: there a step may be 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from ultralytics.nn.modules.block import Bottleneck, C2f
from ultralytics.nn.modules.conv import Conv

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethos.model.levels import Network

MOMENTUM = 0.95  # of the running range
LOWEST, HIGHEST = -128, 127
SYMMETRIC = 127  # weights use -127 to 127
TINY = 1e-12


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
    """An Ultralytics Conv (convolution, batch norm, activation) that computes with rounded weights and activations."""

    rounded: Rounded
    per_channel: bool
    parts: int

    def forward(self, images: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        gain = self.bn.weight.float() / torch.sqrt(self.bn.running_var.float() + self.bn.eps)
        weights = round_weights(self.conv.weight.float() * gain[:, None, None, None], self.per_channel, self.parts)
        bias = self.bn.bias.float() - self.bn.running_mean.float() * gain
        result: Tensor = self.rounded(self.act(_convolve(self.conv, images, weights, bias)))
        return result


class RoundedConv2d(nn.Conv2d):
    """A plain convolution that computes with rounded weights and activations."""

    rounded: Rounded
    per_channel: bool

    def forward(self, images: Tensor) -> Tensor:
        """Map [b, c1, h, w] to [b, c2, h, w]."""
        weights = round_weights(self.weight.float(), self.per_channel)
        result: Tensor = self.rounded(_convolve(self, images, weights, self.bias))
        return result


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
    halves = {id(module.cv1) for module in model.modules() if type(module) is C2f}
    found = [module for module in model.modules() if isinstance(module, Conv) and hasattr(module, "bn")]
    inside = {id(module.conv) for module in found}
    plain = [
        module
        for name, module in model.named_modules()
        if type(module) is nn.Conv2d and id(module) not in inside and ".dfl." not in name
    ]
    for module in found:
        module.parts = 2 if id(module) in halves else 1
        _turn(module, RoundedConv, per_channel)
    for module in plain:
        _turn(module, RoundedConv2d, per_channel)
    for module in [each for each in model.modules() if isinstance(each, Bottleneck) and each.add]:
        module.register_forward_hook(_rounds_sum(Rounded()))
    return len(found) + len(plain)


def _turn(module: Any, kind: type[nn.Module], per_channel: bool) -> None:
    module.__class__ = kind
    module.per_channel = per_channel
    module.rounded = Rounded()


def _rounds_sum(rounded: Rounded) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        rounded.train(module.training)
        result: Tensor = rounded(output)
        return result

    return hook


def _convolve(conv: nn.Conv2d, images: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    kind = conv.weight.dtype
    bias = None if bias is None else bias.to(kind)
    return functional.conv2d(images, weights.to(kind), bias, conv.stride, conv.padding, conv.dilation, conv.groups)
