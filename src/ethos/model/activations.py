"""Activations: what a spec's word stands for, and proof that a built network holds it everywhere.

Ultralytics ignores an `act:` key in a model file without a word, so the declaration alone proves nothing; the module
tree is read instead. Blocks share one activation instance, so uses are counted per layer, not per instance.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethos.errors import ModelError, some_of

if TYPE_CHECKING:
    from torch import nn

    from ethos.specs import Activation


@dataclass(frozen=True)
class ActivationKind:
    """An activation as Ultralytics' model files write it."""

    expression: str

    @property
    def written(self) -> str:
        """The activation as `activation_uses` writes it."""
        return self.expression.removeprefix("torch.nn.")


LEAKY_SLOPE = 0.1
# kept among PyTorch's activations, though they are none
NO_ACTIVATIONS = {"MultiheadAttention", "Softmax", "Softmax2d", "LogSoftmax"}
ACTIVATIONS: dict[Activation, ActivationKind] = {
    "silu": ActivationKind("torch.nn.SiLU()"),
    "relu": ActivationKind("torch.nn.ReLU()"),
    "leaky_relu": ActivationKind(f"torch.nn.LeakyReLU({LEAKY_SLOPE})"),
}
# convolutions that are linear by their block's design: (block class, path in the block)
LINEAR_BY_DESIGN = {
    ("SPPF", "cv1"),
    ("Attention", "qkv"),
    ("Attention", "proj"),
    ("Attention", "pe"),
    ("PSABlock", "ffn.1"),
    ("AAttn", "qkv"),
    ("AAttn", "proj"),
    ("AAttn", "pe"),
    ("ABlock", "mlp.1"),
}


def verify_activations(model: nn.Module, declared: Activation) -> int:
    """Return how many layers use the declared activation.

    Raises:
        ModelError: A layer uses another one (the first are named), or none uses it.
    """
    wanted = ACTIVATIONS[declared]
    uses: Counter[str] = Counter()
    wrong: list[str] = []
    for name, found in activation_uses(model):
        uses[found] += 1
        if found != wanted.written:
            wrong.append(f"{name} has {found}")
    if wrong or not uses:
        raise ModelError(
            f"activation '{declared}' is declared, but {some_of(wrong) or 'no layer has an activation'}",
            "declare it with 'activation:' in the variant's spec; other keys, such as 'act:', have no effect",
        )
    return uses.total()


def activation_uses(model: nn.Module) -> list[tuple[str, str]]:
    """Return (layer name, activation as written in code) for each use; linear layers by design are left out."""
    from ultralytics.nn.modules.conv import Conv

    uses = []
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, module in modules.items():
        if isinstance(module, Conv):
            written = _written(module.act)
            if written != "Identity()" or not _linear_by_design(name, modules):
                uses.append((name, written))
        elif _is_activation(module) and not isinstance(modules[name.rpartition(".")[0]], Conv):
            # some blocks hold one of their own, which no declaration reaches
            uses.append((name, _written(module)))
    return uses


def _is_activation(module: nn.Module) -> bool:
    kind = type(module)
    return kind.__module__ == "torch.nn.modules.activation" and kind.__name__ not in NO_ACTIVATIONS


def _linear_by_design(name: str, modules: dict[str, nn.Module]) -> bool:
    return any(
        name == f"{place}.{path}" and type(module).__name__ == block
        for place, module in modules.items()
        for block, path in LINEAR_BY_DESIGN
    )


def _written(activation: nn.Module) -> str:
    """Return the activation as code, such as "LeakyReLU(0.1)"."""
    slope = getattr(activation, "negative_slope", None)
    return f"{type(activation).__name__}({'' if slope is None else slope})"
