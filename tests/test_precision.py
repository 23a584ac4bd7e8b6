"""Mixed precision is tried on the network itself, and nothing is fetched for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from conftest import CLASSES
from test_train import architecture

from ethos.model.engine import prepare
from ethos.model.levels import Architecture, Network, build, resolve_level
from ethos.training.precision import agrees_in_half, works_in_half

if TYPE_CHECKING:
    from ethos.specs import Activation


@pytest.fixture
def network() -> Network:
    return build(architecture(), seed=0)


def test_the_engine_asks_us() -> None:
    prepare()
    import ultralytics.engine.trainer

    import ethos.training.trainer  # noqa: F401

    assert ultralytics.engine.trainer.check_amp is works_in_half


@pytest.mark.parametrize(("level", "activation"), [("level2", "relu"), ("level2", "leaky_relu"), ("baseline", "silu")])
def test_attention_agrees_in_half(level: str, activation: Activation) -> None:
    base, steps = resolve_level(level)
    assert agrees_in_half(build(Architecture(base=base, steps=steps, activation=activation, names=CLASSES)))


def test_no_mixed_precision_on_a_processor(network: Network) -> None:
    assert agrees_in_half(network)
    assert not works_in_half(network)


def test_a_network_that_overflows_does_not_agree(network: Network) -> None:
    with torch.no_grad():
        network.model[0].conv.weight.fill_(torch.inf)
    assert not agrees_in_half(network)


def test_the_network_is_left_as_it_was(network: Network) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    agrees_in_half(network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
