"""The activations of an exported graph, layer by layer: what the file holds, whatever its spec declared.

Both file formats are read into the same small nodes first. An activation is an operator of its own (Relu, LEAKY_RELU),
fused into a convolution (TFLite's options), or a sigmoid with a product of its input (SiLU).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ethos.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from pathlib import Path

Role = Literal["convolution", "activation", "sigmoid", "product", "other"]
SIGMOID, SILU = "Sigmoid()", "SiLU()"


@dataclass(frozen=True)
class Node:
    """An operator: its tensors, what it does for this census, and the activation that it computes or has fused."""

    name: str
    operator: str
    role: Role
    inputs: tuple[Hashable, ...]
    outputs: tuple[Hashable, ...]
    activation: str | None = None


@dataclass(frozen=True)
class LayerUse:
    """A layer with its activation as written in PyTorch code, None for a convolution without one."""

    name: str
    operator: str
    activation: str | None


def census(nodes: Sequence[Node]) -> list[LayerUse]:
    """Return every convolution with its activation, and every activation that follows something else.

    Args:
        nodes: The graph, in running order.
    """
    makers = {tensor: node for node in nodes for tensor in node.outputs}
    found = _activations(nodes)
    uses: dict[str, list[str]] = defaultdict(list)
    alone: list[LayerUse] = []
    for node, written in found:
        maker = node if node.role == "convolution" else next((makers[t] for t in node.inputs if t in makers), node)
        if maker.role == "convolution":
            uses[maker.name].append(written)
        else:
            alone.append(LayerUse(node.name, node.operator, written))
    layers = []
    for node in nodes:
        if node.role == "convolution":
            joined = ", ".join(uses[node.name]) or None
            layers.append(LayerUse(node.name, node.operator, joined))
    return layers + alone


def _activations(nodes: Sequence[Node]) -> list[tuple[Node, str]]:
    """Return the nodes that are, or have fused, an activation; a sigmoid counts once, alone or as part of a SiLU.

    A sigmoid behind which no convolution follows gives scores, and is none.
    """
    users: dict[Hashable, list[Node]] = defaultdict(list)
    for node in nodes:
        for tensor in node.inputs:
            users[tensor].append(node)
    onward = _onward(nodes)
    found = []
    for node in nodes:
        if node.role == "sigmoid":
            gated = any(
                user.role == "product" and set(user.inputs) & set(node.inputs)
                for tensor in node.outputs
                for user in users[tensor]
            )
            if gated or onward & set(node.outputs):
                found.append((node, SILU if gated else SIGMOID))
        elif node.activation is not None:
            found.append((node, node.activation))
    return found


def _onward(nodes: Sequence[Node]) -> set[Hashable]:
    """Return the tensors from which a convolution can be reached."""
    onward: set[Hashable] = set()
    for node in reversed(nodes):
        if node.role == "convolution" or onward & set(node.outputs):
            onward |= set(node.inputs)
    return onward


def count(layers: Sequence[LayerUse]) -> dict[str, int]:
    """Return how many layers use each activation, the most frequent first; layers without one are left out."""
    counted = Counter(layer.activation for layer in layers if layer.activation is not None)
    return dict(counted.most_common())


# --- ONNX ------------------------------------------------------------------------------------------------------------


def onnx_nodes(file: Path) -> list[Node]:
    """Return the operators of an ONNX file.

    Raises:
        ModelError: The file is missing or no ONNX network.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(file, load_external_data=False)
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file", "give the path of an .onnx file") from None
    except (DecodeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{file}: not a readable ONNX file: {reason}", "export it again") from None
    if not model.graph.node:
        raise ModelError(f"{file}: holds no network", "export it again")
    constants = {each.name: each for each in model.graph.initializer}
    return [_onnx_node(index, node, constants) for index, node in enumerate(model.graph.node)]


def _onnx_node(index: int, node: Any, constants: dict[str, Any]) -> Node:
    activation = ONNX_ACTIVATIONS.get(node.op_type)
    if node.op_type in {"LeakyRelu", "PRelu", "Clip"}:
        activation = _onnx_parametric(node, constants)
    role: Role = ONNX_ROLES.get(node.op_type, "activation" if activation else "other")
    return Node(
        name=node.name or f"#{index}",
        operator=node.op_type,
        role=role,
        inputs=tuple(name for name in node.input if name and name not in constants),
        outputs=tuple(node.output),
        activation=activation,
    )


def _onnx_parametric(node: Any, constants: dict[str, Any]) -> str | None:
    """Return an activation whose slope or limits are an attribute or a constant."""
    from onnx import numpy_helper

    given = [numpy_helper.to_array(constants[name]).ravel().tolist() for name in node.input[1:] if name in constants]
    if node.op_type == "LeakyRelu":
        slope = next((attribute.f for attribute in node.attribute if attribute.name == "alpha"), ONNX_SLOPE)
        return leaky(slope)
    if node.op_type == "PRelu":
        return prelu(given[0] if given else [])
    return "ReLU6()" if given == [[0.0], [6.0]] else None


# --- slopes ----------------------------------------------------------------------------------------------------------


def leaky(slope: float) -> str:
    """Return a leaky ReLU as code; files hold the slope in 32 bits."""
    import numpy as np

    return f"LeakyReLU({np.float32(slope)!s})"


def prelu(slopes: Sequence[float]) -> str:
    """Return a ReLU with a slope for each channel as code: a leaky one if all are equal."""
    return leaky(slopes[0]) if slopes and len(set(slopes)) == 1 else "PReLU()"


ONNX_SLOPE = 0.01  # of a LeakyRelu that states none (ONNX's operator reference)
ONNX_ROLES: dict[str, Role] = {
    "Conv": "convolution",
    "ConvTranspose": "convolution",
    "Gemm": "convolution",
    "Sigmoid": "sigmoid",
    "Mul": "product",
}
ONNX_ACTIVATIONS = {
    "Relu": "ReLU()",
    "Elu": "ELU()",
    "Celu": "CELU()",
    "Selu": "SELU()",
    "Gelu": "GELU()",
    "HardSigmoid": "Hardsigmoid()",
    "HardSwish": "Hardswish()",
    "Mish": "Mish()",
    "Softplus": "Softplus()",
    "Tanh": "Tanh()",
}
