"""Balance what an INT8 concatenation joins: its operands share one scale, so that a large one coarsens the others.

A lateral convolution is linear and read by known convolutions alone. Its channels may therefore be scaled, and the
columns that read them scaled back, as in cross-layer equalization (Nagel et al. 2019,
https://arxiv.org/abs/1906.04721, section 4.1). The factors are powers of two: the float network stays the same to the
bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ethos.model.blocks import LateralConcat, SplitC2f
from ethos.model.trial import run_watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from ethos.model.levels import Network

IMAGES = 16  # a factor of two is no matter of many images
MOST = 16  # octaves
TINY = 1e-9


def balance_laterals(network: Network, samples: NDArray[np.float32]) -> int:
    """Scale the channels of lateral maps by powers of two, in place; return how many changed.

    A channel and the column of weights that reads it share what rounding costs: the channel is then as many octaves
    below the maps that it is joined with as its column is below the largest other weight.

    Args:
        network: What `ethos.model.head.to_export_form` gives.
        samples: [n, h, w, 3] images in 0..1.
    """
    found = {layer: _readers(network, layer) for layer in network.model if isinstance(layer, LateralConcat)}
    known = {layer: readers for layer, readers in found.items() if readers}
    ranges = _ranges(network, list(known), samples[:IMAGES]) if known else {}
    changed = 0
    for layer, (others, own) in ranges.items():
        weights = torch.cat([reader.weight.detach().abs() for reader in known[layer]])
        columns, other_columns = weights[:, -len(own) :].amax((0, 2, 3)), weights[:, : -len(own)].max()
        below = torch.log2(others / own.clamp(min=TINY)) - torch.log2(other_columns / columns.clamp(min=TINY))
        octaves = (below / 2).floor().clamp(-MOST, MOST)
        octaves[(own < TINY) | (columns < TINY)] = 0
        factors = torch.exp2(octaves)
        layer.lateral.weight.data.mul_(factors[:, None, None, None])
        for reader in known[layer]:
            reader.weight.data[:, -len(factors) :].div_(factors[:, None, None])
        changed += int((octaves != 0).sum())
    return changed


def _readers(network: Network, joined: LateralConcat) -> list[Any]:
    """Return the convolutions that read a layer's map, the lateral channels last; none if others may read it."""
    readers = []
    for layer in _reading(network, joined):
        if not isinstance(layer, SplitC2f):
            return []
        readers += [layer.cv0.conv, layer.cv1.conv]
    return readers


def _reading(network: Network, source: Any) -> Iterator[Any]:
    for layer in network.model:
        places = [layer.f] if isinstance(layer.f, int) else layer.f
        if source.i in [layer.i + place if place < 0 else place for place in places]:
            yield layer


def _ranges(
    network: Network, layers: list[Any], samples: NDArray[np.float32]
) -> dict[Any, tuple[torch.Tensor, torch.Tensor]]:
    """Return the largest magnitude of the other operands, and that of each lateral channel, by layer."""
    found: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}

    def look(layer: Any, given: tuple[list[torch.Tensor]], _: object) -> None:
        *others, last = given[0]
        own = layer.lateral(last).abs().amax((0, 2, 3))
        found[layer] = torch.stack([each.abs().max() for each in others]).max(), own

    run_watched(network, layers, look, torch.from_numpy(samples.transpose(0, 3, 1, 2).copy()))
    return found
