"""One run of a network in which chosen modules are watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn


def run_watched(
    network: nn.Module, modules: Iterable[nn.Module], see: Callable[[Any, Any, Tensor], None], images: Tensor
) -> None:
    """Run a network, as in validation, and show what some of its modules do; afterwards it is as it was.

    Args:
        network: The network.
        modules: Those to watch.
        see: Called for each with the module, the tuple of its inputs, and its output.
        images: [n, 3, h, w] in 0..1.
    """
    import torch

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        see(module, inputs, output)

    handles = [module.register_forward_hook(hook) for module in modules]
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            network(images)
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)
