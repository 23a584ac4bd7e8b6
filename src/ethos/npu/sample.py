"""A very small INT8 network, made without a converter: enough to see whether a compiler works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS, SIDE = 16, 8
FEATURE_SCALE, WEIGHT_SCALE = 0.05, 0.01
INT8, INT32 = schema.TensorType.INT8, schema.TensorType.INT32
CONV_2D = schema.BuiltinOperator.CONV_2D


def write_sample(path: Path) -> Path:
    """Write one 1x1 convolution with ReLU over [1, 8, 8, 16]; return the path."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (CHANNELS, 1, 1, CHANNELS)).astype(np.int8)
    bias = np.zeros(CHANNELS, np.int32)
    shape = (1, SIDE, SIDE, CHANNELS)
    model = schema.ModelT()
    model.version = 3
    model.buffers = [_buffer(b""), _buffer(weights.tobytes()), _buffer(bias.tobytes())]
    graph = schema.SubGraphT()
    graph.tensors = [
        _tensor("images", shape, INT8, FEATURE_SCALE, 0),
        _tensor("weights", weights.shape, INT8, WEIGHT_SCALE, 1),
        _tensor("bias", bias.shape, INT32, FEATURE_SCALE * WEIGHT_SCALE, 2),
        _tensor("result", shape, INT8, FEATURE_SCALE, 0),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [3], [_convolution()]
    model.subgraphs = [graph]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = CONV_2D
    code.version = 1
    model.operatorCodes = [code]
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _buffer(content: bytes) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8) if content else None
    return buffer


def _tensor(name: str, shape: tuple[int, ...], kind: int, scale: float, buffer: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, buffer
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
    return tensor


def _convolution() -> Any:
    options = schema.Conv2DOptionsT()
    options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
    options.padding, options.fusedActivationFunction = schema.Padding.SAME, schema.ActivationFunctionType.RELU
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1, 2], [3]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.Conv2DOptions, options
    return operator
