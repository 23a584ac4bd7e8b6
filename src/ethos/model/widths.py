"""Widths: how many channels each convolution of a network takes and gives, read from it and set on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from ethos.errors import ModelError
from ethos.model.blocks import split_blocks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethos.model.levels import Network

# input and output channels of each convolution, by its name in the network
Widths = dict[str, tuple[int, int]]
REMAKE = "make it again: dvc repro prune"


def widths_of(network: nn.Module) -> Widths:
    """Return the widths of every convolution; those of a layer in groups are of the whole layer."""
    return {name: (conv.in_channels, conv.out_channels) for name, conv in _convolutions(network).items()}


def set_widths(network: Network, widths: Mapping[str, tuple[int, int]]) -> None:
    """Bring a newly built network into its split form and give each convolution its widths, in place.

    What is left of a layer are its first channels; weights are to be loaded afterwards.

    Raises:
        ModelError: The widths name other layers than the network has, or are wider than these.
    """
    split_blocks(network)
    convolutions = _convolutions(network)
    if differing := sorted(set(widths) ^ set(convolutions)):
        raise ModelError(f"widths of a pruned network: '{differing[0]}' is not a layer of both", REMAKE)
    modules = dict(network.named_modules())
    for name, conv in convolutions.items():
        taken, given = widths[name]
        if taken > conv.in_channels or given > conv.out_channels:
            raise ModelError(
                f"widths of a pruned network: '{name}' is {taken} to {given} channels, "
                f"its level has {conv.in_channels} to {conv.out_channels}",
                REMAKE,
            )
        _narrow(conv, taken, given)
        parent, _, attribute = name.rpartition(".")
        norm = getattr(modules[parent], "bn", None)
        if attribute == "conv" and norm is not None:
            modules[parent].bn = _narrow_norm(norm, given)


def require_widths(network: nn.Module, widths: Mapping[str, tuple[int, int]]) -> None:
    """Refuse a network whose convolutions do not have these widths.

    Raises:
        ModelError: With the first layer that differs.
    """
    found = widths_of(network)
    for name in sorted({*found, *widths}):
        if found.get(name) != widths.get(name):
            raise ModelError(
                f"layer '{name}' has {found.get(name)} input and output channels instead of {widths.get(name)}",
                "a pruned network changed its shape; please report it",
            )


def depthwise(conv: nn.Conv2d) -> bool:
    """Whether each channel is convolved alone."""
    return bool(conv.groups > 1 and conv.groups == conv.in_channels == conv.out_channels)


def _convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the trained convolutions; the head's fixed one, which decodes boxes, is none of them."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and not name.endswith(".dfl.conv")
    }


def _narrow(conv: Any, taken: int, given: int) -> None:
    if depthwise(conv):
        conv.groups = given
        taken_each = 1
    elif conv.groups > 1:
        raise ModelError(f"a convolution in {conv.groups} groups has no widths to set", "use a level without one")
    else:
        taken_each = taken
    conv.in_channels, conv.out_channels = taken, given
    conv.weight = nn.Parameter(conv.weight.detach()[:given, :taken_each].clone(), conv.weight.requires_grad)
    if conv.bias is not None:
        conv.bias = nn.Parameter(conv.bias.detach()[:given].clone(), conv.bias.requires_grad)


def _narrow_norm(norm: Any, channels: int) -> nn.BatchNorm2d:
    """Return a batch norm of fewer channels with the same constants."""
    return nn.BatchNorm2d(channels, eps=norm.eps, momentum=norm.momentum)
