"""A network of one convolution and one activation, as ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

if TYPE_CHECKING:
    from pathlib import Path


def write_network(path: Path, biases: list[float], activation: str = "Relu") -> Path:
    """Write a network that takes the mean of a pixel's channels, adds each bias, and applies the activation."""
    make = onnx.helper
    weights = np.full((len(biases), 3, 1, 1), 1 / 3, np.float32)
    nodes = [
        make.make_node("Conv", ["images", "weights", "biases"], ["sum"]),
        make.make_node(activation, ["sum"], ["out"]),
    ]
    tensors = [onnx.numpy_helper.from_array(weights, "weights")]
    tensors.append(onnx.numpy_helper.from_array(np.array(biases, np.float32), "biases"))
    graph = make.make_graph(
        nodes,
        "tiny",
        [make.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [make.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [1, len(biases), 8, 8])],
        tensors,
    )
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), str(path))
    return path
