"""Operands of an INT8 concatenation are balanced, and the float network stays the same to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from conftest import CLASSES, SIDE

from ethos.compress.balance import balance_laterals
from ethos.model.blocks import LateralConcat
from ethos.model.head import to_export_form
from ethos.model.levels import Architecture, build, resolve_level

SAMPLES = np.random.default_rng(0).uniform(0, 1, (4, SIDE, SIDE, 3)).astype(np.float32)


def exported(level: str = "level4") -> Any:
    base, steps = resolve_level(level)
    return to_export_form(build(Architecture(base=base, steps=steps, activation="relu", names=CLASSES)))


def outputs(network: Any) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        found: tuple[torch.Tensor, ...] = network(torch.from_numpy(SAMPLES.transpose(0, 3, 1, 2).copy()))
    return found


def unbalanced(network: Any, factor: float) -> Any:
    """Make the lateral map larger, in a network that gives the same; return its layer."""
    (lateral,) = [layer for layer in network.model if isinstance(layer, LateralConcat)]
    width = lateral.lateral.out_channels
    reader = network.model[lateral.i + 1]
    lateral.lateral.weight.data.mul_(factor)
    for part in (reader.cv0, reader.cv1):
        part.conv.weight.data[:, -width:].div_(factor)
    return lateral


def octaves_below(network: Any, lateral: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how far each channel is below the maps that it is joined with, and its column below the other weights."""
    seen: list[Any] = []
    handle = lateral.register_forward_hook(lambda _, given, joined: seen.append((given[0][0], joined)))
    outputs(network)
    handle.remove()
    (others, joined) = seen[0]
    own = joined[:, others.shape[1] :].abs().amax((0, 2, 3))
    reader = network.model[lateral.i + 1]
    weights = torch.cat([reader.cv0.conv.weight, reader.cv1.conv.weight]).detach().abs()
    columns = weights[:, -len(own) :].amax((0, 2, 3))
    return torch.log2(others.abs().max() / own), torch.log2(weights[:, : -len(own)].max() / columns)


@pytest.mark.parametrize("factor", [2.0**6, 2.0**-6])
def test_maps_and_weights_share_what_rounding_costs(factor: float) -> None:
    network = exported()
    lateral = unbalanced(network, factor)
    wanted = outputs(network)
    maps, columns = octaves_below(network, lateral)
    assert ((maps - columns).abs() > 4).all()

    assert balance_laterals(network, SAMPLES) == lateral.lateral.out_channels

    for one, two in zip(wanted, outputs(network), strict=True):
        assert torch.equal(one, two)
    after, columns_after = octaves_below(network, lateral)
    assert ((after - columns_after >= -1e-3) & (after - columns_after < 2)).all()
    changes = maps - after
    assert torch.allclose(changes, changes.round(), atol=1e-3)
    # twice is once
    assert balance_laterals(network, SAMPLES) == 0


def test_a_silent_channel_stays_silent() -> None:
    network = exported()
    lateral = unbalanced(network, 2.0**10)
    lateral.lateral.weight.data[0] = 0.0
    wanted = outputs(network)
    assert balance_laterals(network, SAMPLES) == lateral.lateral.out_channels - 1
    assert all(torch.equal(one, two) for one, two in zip(wanted, outputs(network), strict=True))


def test_a_map_with_another_reader_stays_as_it_is() -> None:
    network = exported()
    lateral = unbalanced(network, 2.0**10)
    network.model[-1].f = [lateral.i, *network.model[-1].f[1:]]
    weights = lateral.lateral.weight.clone()
    assert balance_laterals(network, SAMPLES) == 0
    assert torch.equal(lateral.lateral.weight, weights)


def test_a_network_without_lateral_maps() -> None:
    assert balance_laterals(exported("level3"), SAMPLES) == 0
