"""The operators of a TFLite file, as the census of activations takes them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ethos.errors import ModelError
from ethos.model.census import Node, leaky, prelu
from ethos.npu.graph import NO_TENSOR, NPU_OPERATOR, output_name

if TYPE_CHECKING:
    from ethos.model.census import Role
    from ethos.npu.graph import Graph, Operator


def tflite_nodes(graph: Graph) -> list[Node]:
    """Return the operators of a TFLite network.

    Raises:
        ModelError: The file has been compiled for an NPU, which hides its operators.
    """
    if any(operator.kind == NPU_OPERATOR for operator in graph.operators):
        raise ModelError(
            f"{graph.file}: compiled for an NPU, its operators cannot be seen", "give the file that it was made from"
        )
    return [_node(graph, operator) for operator in graph.operators]


def _node(graph: Graph, operator: Operator) -> Node:
    activation = _activation(graph, operator)
    role: Role = ROLES.get(operator.kind, "activation" if activation else "other")
    return Node(
        # unlike a name, the place in the file is unique; converters join the names of all that became one operator
        name=f"{operator.index} {output_name(graph, operator).partition(';')[0]}",
        operator=operator.kind,
        role=role,
        inputs=tuple(each for each in operator.inputs if each != NO_TENSOR and not graph.tensors[each].constant),
        outputs=operator.outputs,
        activation=activation,
    )


def _activation(graph: Graph, operator: Operator) -> str | None:
    if operator.kind == "LEAKY_RELU":
        return leaky(float(operator.options.get("alpha") or 0.0))
    if operator.kind == "PRELU":
        return prelu(_slopes(graph, operator))
    fused = FUSED.get(int(operator.options.get("fusedActivationFunction") or 0))
    return ACTIVATIONS.get(operator.kind, fused)


def _slopes(graph: Graph, operator: Operator) -> list[float]:
    """Return the slopes of a PRELU, which are its second input; none where they cannot be read."""
    tensor = graph.tensors[operator.inputs[-1]]
    if tensor.dtype == "FLOAT32" and len(tensor.data) == 4 * tensor.elements:
        return list(struct.unpack(f"<{tensor.elements}f", tensor.data))
    if tensor.dtype == "INT8" and len(tensor.scale) == 1 and len(tensor.data) == tensor.elements:
        steps = struct.unpack(f"<{tensor.elements}b", tensor.data)
        return [round((step - tensor.zero_point[0]) * tensor.scale[0], QUANTIZED_DIGITS) for step in steps]
    return []


# a slope that went through 8 bits comes back with their error
QUANTIZED_DIGITS = 4
# ActivationFunctionType of TFLite's schema
FUSED = {1: "ReLU()", 2: "ReLU_N1_TO_1()", 3: "ReLU6()", 4: "Tanh()", 5: "SignBit()"}
ROLES: dict[str, Role] = {
    "CONV_2D": "convolution",
    "DEPTHWISE_CONV_2D": "convolution",
    "TRANSPOSE_CONV": "convolution",
    "FULLY_CONNECTED": "convolution",
    "LOGISTIC": "sigmoid",
    "MUL": "product",
}
ACTIVATIONS = {
    "RELU": "ReLU()",
    "RELU6": "ReLU6()",
    "RELU_0_TO_1": "ReLU_0_TO_1()",
    "RELU_N1_TO_1": "ReLU_N1_TO_1()",
    "ELU": "ELU()",
    "GELU": "GELU()",
    "HARD_SWISH": "Hardswish()",
    "TANH": "Tanh()",
}
