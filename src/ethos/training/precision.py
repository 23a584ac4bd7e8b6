"""Mixed precision, tried on the network that is trained: the engine's own check fetches the weights of another one."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ethos.model.levels import Network

SIDE = 256
# mean difference of the decoded boxes, of which some hundred lie far from every object
TOLERANCE_PIXELS = 1.0


def works_in_half(network: Network) -> bool:
    """Return whether training may use mixed precision: on a GPU, where the network agrees with itself in it."""
    return next(network.parameters()).device.type == "cuda" and agrees_in_half(network)


def agrees_in_half(network: Network) -> bool:
    """Return whether a network's predictions with mixed precision are finite and near those in float32."""
    # the head keeps what it computed for an input size, so that another instance is tried
    trial = copy.deepcopy(network).eval()
    device = next(trial.parameters()).device
    images = torch.linspace(0, 1, 3 * SIDE * SIDE, device=device).reshape(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        exact = trial(images)[0]
        with torch.autocast(device.type):
            half = trial(images)[0].float()
    return bool(half.isfinite().all()) and float((half - exact).abs().mean()) < TOLERANCE_PIXELS
