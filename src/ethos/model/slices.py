"""Weights of a wider network for a narrower one: matching channels, taken consistently along the graph.

Where a level narrows a layer, each of its channels is one of the wider layer's. Which ones is decided where they are
made, by how much they vary; every layer that reads them takes the same channels of its weights, behind concatenations
too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ethos.model.blocks import LateralConcat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ethos.model.levels import Network

NORM = ("weight", "bias", "running_mean", "running_var")
IMAGE_CHANNELS = 3
# where a deviation is zero, no channel varies
SMALLEST = 1e-6


@dataclass(frozen=True)
class View:
    """What a map of the narrower network holds of the source's map.

    `matrix` is [source channels, own channels]: the source's map is taken as `matrix` times the own one. Where channels
    were left out, it holds a one for each that stayed.
    """

    matrix: Tensor

    @classmethod
    def of(cls, width: int, channels: Tensor | None = None) -> View:
        """Return the view that holds some of `width` channels, or all."""
        whole = torch.eye(width)
        return cls(whole if channels is None else whole[:, channels])

    def read_by(self, weight: Tensor) -> Tensor:
        """Return a convolution's [out, in, h, w] weights for the own map's channels."""
        return torch.einsum("oihw,ik->okhw", weight.float(), self.matrix)


@dataclass
class Slices:
    """What of a source fits a narrower network.

    Attributes:
        tensors: By name, each of the shape that the network has.
        narrowed: By convolution of which only a part was taken, the source's output channels for its own, in order.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    narrowed: dict[str, Tensor] = field(default_factory=dict)


def take_slices(model: Network, tensors: Mapping[str, Tensor]) -> Slices:
    """Return what `model` can take from the tensors of a network whose layers are as wide or wider.

    Args:
        model: The network to fill, its layers named as in the source.
        tensors: The source's state dict.
    """
    walk = _Walk(model, tensors)
    views: list[View | None] = []
    for layer in model.model:
        places = [layer.f] if isinstance(layer.f, int) else layer.f
        given = [views[place] if views else View.of(IMAGE_CHANNELS) for place in places]
        views.append(walk.layer(layer, f"model.{layer.i}", given))
    return walk.slices


class _Walk:
    """Follows the network from its input.

    Each method finds a layer's tensors and returns the view that the layer gives: None where its map is not known to be
    the source's.
    """

    def __init__(self, model: Network, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.own = {name: value.shape for name, value in model.state_dict().items()}
        matching = {name: value for name, value in tensors.items() if self.own.get(name) == value.shape}
        self.slices = Slices(matching)

    def layer(self, layer: Any, name: str, given: Sequence[View | None]) -> View | None:
        """Any layer of the network, by its kind."""
        from torch import nn
        from ultralytics.nn.modules.block import SPPF, C2f
        from ultralytics.nn.modules.conv import Concat, Conv
        from ultralytics.nn.modules.head import Detect

        if isinstance(layer, nn.Upsample):
            return given[0]
        if isinstance(layer, Concat):
            return _joined(given)
        if isinstance(layer, LateralConcat):
            return _joined([*given[:-1], self.lateral(layer, given[-1])])
        if isinstance(layer, Conv):
            return self.conv(name, given[0])
        if isinstance(layer, C2f):
            return self.c2f(layer, name, given[0])
        if isinstance(layer, SPPF):
            hidden = self.conv(f"{name}.cv1", given[0])
            return self.conv(f"{name}.cv2", _joined([hidden] * (layer.n + 1)))
        if isinstance(layer, Detect):
            for part in ("cv2", "cv3"):
                for scale, branch in enumerate(getattr(layer, part)):
                    self.branch(branch, f"{name}.{part}.{scale}", given[scale])
            return None
        return self.block(layer, name)

    def block(self, block: Any, name: str) -> View | None:
        """A block of another kind is taken whole or not at all."""
        own = block.state_dict()
        if not all(f"{name}.{key}" in self.slices.tensors for key in own):
            return None
        *_, last = (value for key, value in own.items() if key.endswith("conv.weight"))
        return View.of(len(last))

    def conv(self, name: str, given: View | None, halves: int = 1, like: View | None = None) -> View | None:
        """A convolution with batch norm.

        Args:
            name: The layer's name.
            given: What it reads.
            halves: Parts of its output of which equally many channels are to be kept.
            like: The view that it has to give, as what it is added to.
        """
        weight = self.tensors.get(f"{name}.conv.weight")
        if weight is None:
            return None
        outputs, inputs, *kernel = self.own[f"{name}.conv.weight"]
        if f"{name}.conv.weight" in self.slices.tensors:
            return like or View.of(outputs)
        readable = given is not None and given.matrix.shape == (weight.shape[1], inputs)
        if given is None or not readable or list(weight.shape[2:]) != kernel or outputs > len(weight):
            return None
        norm = {key: self.tensors[f"{name}.bn.{key}"] for key in NORM}
        kept = like.matrix.argmax(0) if like else liveliest(norm, outputs, halves)
        self.slices.tensors[f"{name}.conv.weight"] = given.read_by(weight[kept])
        self.slices.tensors |= {f"{name}.bn.{key}": value[kept] for key, value in norm.items()}
        self.slices.narrowed[f"{name}.conv"] = kept
        return View.of(len(weight), kept)

    def c2f(self, block: Any, name: str, given: View | None) -> View | None:
        """Both halves of the first convolution keep equally many channels; the second goes through the chain."""
        from ultralytics.nn.modules.block import Bottleneck

        parts = _halves(self.conv(f"{name}.cv1", given, halves=2))
        for index, inner in enumerate(block.m):
            place, before = f"{name}.m.{index}", parts[-1]
            if isinstance(inner, Bottleneck):
                hidden = self.conv(f"{place}.cv1", before)
                parts.append(self.conv(f"{place}.cv2", hidden, like=before if inner.add else None))
            else:
                parts.append(self.block(inner, place))
        return self.conv(f"{name}.cv2", _joined(parts))

    def lateral(self, layer: Any, given: View | None) -> View | None:
        """The map's directions that the block behind reads most, by the singular values of its weights."""
        reader = self.tensors.get(f"model.{layer.i + 1}.cv1.conv.weight")
        channels, width = layer.lateral.weight.shape[:2]
        if reader is None or given is None or given.matrix.shape != (width, width) or reader.shape[1] < width:
            return None
        directions = torch.linalg.svd(reader[:, -width:, 0, 0].float(), full_matrices=False).Vh[:channels]
        if len(directions) < channels:
            return None
        self.slices.tensors[f"model.{layer.i}.lateral.weight"] = directions[:, :, None, None]
        return View(directions.T)

    def branch(self, branch: Any, name: str, view: View | None) -> None:
        """Hidden convolutions are narrowed; the outputs mean something each, and are all there or not taken."""
        from torch import nn
        from ultralytics.nn.modules.conv import Conv

        for index, layer in enumerate(branch):
            place = f"{name}.{index}"
            if isinstance(layer, Conv):
                view = self.conv(place, view)
            elif isinstance(layer, nn.Conv2d):
                self.output(layer, place, view)
            else:
                view = self.block(layer, place)

    def output(self, layer: Any, name: str, view: View | None) -> None:
        """The last convolution of a branch, which has a bias and no batch norm."""
        weight = self.tensors.get(f"{name}.weight")
        if weight is None or view is None or len(weight) != layer.out_channels:
            return
        if f"{name}.weight" not in self.slices.tensors and len(view.matrix) == weight.shape[1]:
            self.slices.tensors[f"{name}.weight"] = view.read_by(weight)
            self.slices.narrowed[name] = torch.arange(len(weight))


def liveliest(norm: Mapping[str, Tensor], count: int, parts: int = 1) -> Tensor:
    """Return the `count` channels that vary most behind batch norm and ReLU, equally many of each part of the layer.

    A channel is taken as normal with mean `bias` and deviation `weight`; its variance behind ReLU follows in closed
    form. What hardly varies can be left out: the next batch norm makes up for a constant.
    """
    mean, deviation = norm["bias"].float(), norm["weight"].float().abs().clamp(min=SMALLEST)
    ratio = mean / deviation
    above, density = (1 + torch.erf(ratio / 2**0.5)) / 2, torch.exp(-(ratio**2) / 2) / (2 * torch.pi) ** 0.5
    first = mean * above + deviation * density
    strength = (mean**2 + deviation**2) * above + mean * deviation * density - first**2
    chosen = [part.topk(count // parts).indices.sort().values for part in strength.reshape(parts, -1)]
    return torch.cat([index + place * (len(strength) // parts) for place, index in enumerate(chosen)])


def _joined(parts: Sequence[View | None]) -> View | None:
    known = [part.matrix for part in parts if part is not None]
    return View(_diagonal(known)) if len(known) == len(parts) else None


def _diagonal(blocks: Sequence[Tensor]) -> Tensor:
    """Return the blocks along the diagonal of a matrix of zeros."""
    rows, columns = (sum(block.shape[side] for block in blocks) for side in (0, 1))
    joined = torch.zeros(rows, columns)
    row = column = 0
    for block in blocks:
        height, width = block.shape
        joined[row : row + height, column : column + width] = block
        row, column = row + height, column + width
    return joined


def _halves(view: View | None) -> list[View | None]:
    if view is None:
        return [None, None]
    rows, columns = (side // 2 for side in view.matrix.shape)
    return [View(view.matrix[:rows, :columns]), View(view.matrix[rows:, columns:])]
