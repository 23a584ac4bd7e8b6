"""Groups of channels that can only be pruned together, and the layers that take and give them.

Torch-Pruning follows the channels through additions, concatenations and depthwise convolutions. Attention is pruned
around: its heads keep their structure, and so does every map that enters or leaves it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch_pruning
from torch import nn

from ethos.errors import ModelError, unknown
from ethos.model.blocks import split_blocks
from ethos.model.head import RawHead
from ethos.model.trial import run_watched
from ethos.model.widths import depthwise

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ethos.model.levels import Network

TRACE_SIDE = 64
# the raw head's branches are the detection head's under other names
BRANCHES = {"box": "cv2", "cls": "cv3"}
# model.INDEX.BRANCH.SCALE...
HEAD_PARTS = 3


@dataclass(frozen=True)
class Group:
    """Channels that go together; it is named after the convolution that gives them first.

    `gives` are all convolutions with these output channels; `takes` maps a convolution to how many of its input
    channels come from each of the group's.
    """

    name: str
    width: int
    gives: tuple[str, ...]
    takes: Mapping[str, int]


@dataclass(frozen=True)
class Layer:
    """A convolution: how its input and output channels follow from the groups' widths, and what it costs.

    `inputs` are groups with how often their channels enter; the rest of its channels is fixed. `side` is that of its
    output map, `kernel` that of its square kernel, `beside` how many trained values an output channel has beside its
    weights.
    """

    name: str
    taken: int
    given: int
    inputs: Mapping[str, int]
    output: str | None
    kernel: int
    stride: int
    side: tuple[int, int]
    depthwise: bool
    beside: int
    full: Mapping[str, int] = field(repr=False)

    def channels(self, widths: Mapping[str, int]) -> tuple[int, int]:
        """Return input and output channels for widths of the groups."""
        removed = sum(times * (self.full[group] - widths[group]) for group, times in self.inputs.items())
        given = self.given if self.output is None else widths[self.output]
        return self.taken - removed, given


@dataclass(frozen=True)
class Structure:
    """What can be pruned of a network, and all its convolutions."""

    groups: Mapping[str, Group]
    layers: Mapping[str, Layer]

    @property
    def full(self) -> dict[str, int]:
        """Return the unpruned width of each group."""
        return {name: group.width for name, group in self.groups.items()}

    def widths(self, chosen: Mapping[str, int]) -> dict[str, tuple[int, int]]:
        """Return input and output channels of every convolution for widths of the groups."""
        return {name: layer.channels(chosen) for name, layer in self.layers.items()}


class Tracer:
    """Torch-Pruning's dependency graph over a network, which is brought into its split form.

    Args:
        network: The network; it is changed in place.
        keep: Names of layers whose output channels all stay; a name stands for all layers below it.

    Raises:
        SpecError: A name in `keep` is no layer of the network.
        ModelError: The network holds nothing that can be pruned.
    """

    def __init__(self, network: Network, keep: Sequence[str] = ()) -> None:
        split_blocks(network)
        self.network = network
        _check_kept(network, keep)
        with _traceable(network) as (fixed, names):
            # Torch-Pruning follows gradients, also of what is not trained
            frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
            training = network.training
            network.eval().requires_grad_(True)
            self._graph = torch_pruning.DependencyGraph().build_dependency(
                network, torch.zeros(1, 3, TRACE_SIDE, TRACE_SIDE)
            )
            network.train(training)
            for parameter in frozen:
                parameter.requires_grad_(False)
            self._names = names
            self._modules = {name: module for module, name in names.items()}
            self.groups = self._find(fixed, keep)
        if not self.groups:
            raise ModelError("nothing of the network can be pruned", "keep fewer layers, or use another level")

    def group(self, name: str, indices: Sequence[int]) -> Any:
        """Return Torch-Pruning's group for some of a group's channels."""
        return self._graph.get_pruning_group(self._modules[name], torch_pruning.prune_conv_out_channels, list(indices))

    def prune(self, removed: Mapping[str, Sequence[int]]) -> None:
        """Take channels out of the network, by group."""
        for name, indices in removed.items():
            if indices:
                self.group(name, indices).prune()

    def structure(self, imgsz: int) -> Structure:
        """Return what can be pruned and how each layer follows, for square inputs of that side."""
        sides = _output_sides(self.network, self._names, imgsz)
        full = {name: group.width for name, group in self.groups.items()}
        gives = {layer: group.name for group in self.groups.values() for layer in group.gives}
        layers = {}
        for conv, name in self._names.items():
            layers[name] = Layer(
                name=name,
                taken=conv.in_channels,
                given=conv.out_channels,
                inputs={g.name: g.takes[name] for g in self.groups.values() if name in g.takes},
                output=gives.get(name),
                kernel=conv.kernel_size[0],
                stride=conv.stride[0],
                side=sides[name],
                depthwise=depthwise(conv),
                beside=_beside_weights(self.network, name, conv),
                full=full,
            )
        return Structure(self.groups, layers)

    def _find(self, fixed: set[nn.Module], keep: Sequence[str]) -> dict[str, Group]:
        groups: dict[str, Group] = {}
        seen: set[nn.Module] = set()
        for conv, name in self._names.items():
            if conv in seen or conv in fixed:
                continue
            found = self.group(name, range(conv.out_channels))
            gives: list[str] = []
            takes: dict[str, int] = {}
            stays = False
            for dependency, indices in found:
                module = dependency.target.module
                if self._graph.is_out_channel_pruning_fn(dependency.handler):
                    stays = stays or module in fixed
                    if module in self._names:
                        seen.add(module)
                        gives.append(self._names[module])
                elif module in self._names:
                    label = self._names[module]
                    takes[label] = takes.get(label, 0) + len(indices) // conv.out_channels
            # a depthwise convolution takes what it gives
            takes |= {label: 1 for label in gives if depthwise(self._modules[label])}
            kept = any(_below(label, each) for label in gives for each in keep)
            if not stays and not kept:
                groups[name] = Group(name, conv.out_channels, tuple(gives), takes)
        return groups


@contextmanager
def _traceable(network: Network) -> Iterator[tuple[set[nn.Module], dict[nn.Conv2d, str]]]:
    """Yield the modules whose widths are fixed and the names of all others, with what cannot be followed set aside.

    Outputs of the head stand for themselves; attention is stood in for by a convolution of its width.
    """
    from ultralytics.nn.modules.block import Attention

    head = network.model[-1]
    names = {module: name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    names = {module: name for module, name in names.items() if not name.endswith(".dfl.conv")}
    fixed: set[nn.Module] = {branch[-1] for branches in (head.cv2, head.cv3) for branch in branches}
    attentions = {name: module for name, module in network.named_modules() if isinstance(module, Attention)}
    for name, attention in attentions.items():
        channels = attention.qkv.conv.in_channels
        stand_in = nn.Conv2d(channels, channels, 1)
        fixed |= {stand_in, attention.qkv.conv, attention.proj.conv, attention.pe.conv}
        _put(network, name, stand_in)
    network.model[-1] = RawHead(head)
    try:
        yield fixed, names
    finally:
        network.model[-1] = head
        for name, attention in attentions.items():
            _put(network, name, attention)


def detect_name(name: str) -> str:
    """Return a layer's name in the network for its name in the exported file, whose head is raw."""
    parts = name.split(".")
    if len(parts) > HEAD_PARTS:
        parts[2] = BRANCHES.get(parts[2], parts[2])
    return ".".join(parts)


def export_name(name: str, network: Network) -> str:
    """Return a layer's name in the exported file."""
    backwards = {theirs: ours for ours, theirs in BRANCHES.items()}
    parts = name.split(".")
    if int(parts[1]) == len(network.model) - 1:
        parts[2] = backwards.get(parts[2], parts[2])
    return ".".join(parts)


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, module)


def _check_kept(network: nn.Module, keep: Sequence[str]) -> None:
    names = [name for name, _ in network.named_modules() if name]
    for name in keep:
        if name not in names:
            raise unknown("layer", name, names, where="prune.keep")


def _beside_weights(network: nn.Module, name: str, conv: nn.Conv2d) -> int:
    """Return one for a bias, two for a batch norm, none for neither."""
    if conv.bias is not None:
        return 1
    return 2 if hasattr(network.get_submodule(name.rpartition(".")[0]), "bn") else 0


def _below(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


def _output_sides(network: nn.Module, names: Mapping[nn.Conv2d, str], imgsz: int) -> dict[str, tuple[int, int]]:
    """Return height and width of every convolution's output."""
    sides: dict[str, tuple[int, int]] = {}

    def note(conv: nn.Conv2d, _: Any, output: torch.Tensor) -> None:
        sides[names[conv]] = (int(output.shape[2]), int(output.shape[3]))

    run_watched(network, names, note, torch.zeros(1, 3, imgsz, imgsz))
    return sides
