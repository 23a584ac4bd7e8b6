"""Writes small INT8 TFLite networks with the flatbuffer schema alone, in milliseconds.

They carry what a compiler's time depends on: operators, shapes and weights. Activation scales are nominal, so their
results mean nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SCALE, ZERO_POINT = 1 / 16, 0
# what TFLite's quantization specification demands of operators with results in 0..1
UNIT_SCALE, UNIT_ZERO_POINT = 1 / 256, -128
NO_ACTIVATION, RELU = 0, 1
SAME, VALID = 0, 1
LARGEST_WEIGHT = 127
# kinds above it have a field of their own in the file
MAX_OLD_CODE = 127
SCHEMA_VERSION = 3


class Writer:
    """A network under construction; methods return tensor indices. Shapes are NHWC."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = SCHEMA_VERSION
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []
        self.model.subgraphs = [self.graph]
        self._codes: list[str] = []

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return tuple(self.graph.tensors[tensor].shape)

    def quantization(self, tensor: int) -> tuple[float, int]:
        """Return the scale and zero point of a computed tensor."""
        found = self.graph.tensors[tensor].quantization
        return found.scale[0], found.zeroPoint[0]

    def map(self, name: str, shape: Sequence[int], scale: float = SCALE, zero_point: int = ZERO_POINT) -> int:
        """Add a computed int8 tensor."""
        return self._tensor(name, shape, "INT8", ([scale], [zero_point]))

    def constant(self, name: str, values: NDArray[Any], scales: Sequence[float] = ()) -> int:
        """Add a constant; quantized along its first axis if it has several scales."""
        kind = {"int8": "INT8", "int32": "INT32"}[values.dtype.name]
        index = self._tensor(name, values.shape, kind, (list(scales), [0] * len(scales)) if len(scales) else None)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.graph.tensors[index].buffer = len(self.model.buffers) - 1
        return index

    def operator(self, kind: str, inputs: list[int], result: int | list[int], options: str = "", **values: Any) -> None:
        """Add an operator; `options` is the name of its options in the schema, `values` their fields."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(kind)
        operator.inputs, operator.outputs = inputs, result if isinstance(result, list) else [result]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            vars(operator.builtinOptions).update(values)
        self.graph.operators.append(operator)

    def convolution(
        self,
        source: int,
        name: str,
        weights: NDArray[Any],
        *,
        stride: int = 1,
        activation: int = NO_ACTIVATION,
        depthwise: bool = False,
    ) -> int:
        """Add a convolution padded to keep the size, but for its stride.

        Args:
            source: Its input [1, h, w, c].
            name: Name of its result.
            weights: [out, kernel_h, kernel_w, in] float, [channels, kernel_h, kernel_w, 1] if depthwise.
            stride: In both directions.
            activation: Fused activation.
            depthwise: Each channel is convolved alone.
        """
        channels = len(weights)
        _, height, width, _ = self.shape(source)
        scales = np.maximum(np.abs(weights).reshape(channels, -1).max(axis=1), 1e-6) / LARGEST_WEIGHT
        stored = np.round(weights / scales[:, None, None, None]).astype(np.int8)
        if depthwise:
            stored = stored.transpose(3, 1, 2, 0)
        operands = [
            source,
            self.constant(f"{name}/weights", stored, [float(scale) for scale in scales]),
            self.constant(f"{name}/bias", np.zeros(channels, np.int32), [float(scale) * SCALE for scale in scales]),
        ]
        if depthwise:
            self.graph.tensors[operands[1]].quantization.quantizedDimension = 3
        result = self.map(name, (1, -(-height // stride), -(-width // stride), channels))
        common = {
            "padding": SAME,
            "strideH": stride,
            "strideW": stride,
            "dilationHFactor": 1,
            "dilationWFactor": 1,
            "fusedActivationFunction": activation,
        }
        if depthwise:
            self.operator("DEPTHWISE_CONV_2D", operands, result, "DepthwiseConv2DOptions", depthMultiplier=1, **common)
        else:
            self.operator("CONV_2D", operands, result, "Conv2DOptions", **common)
        return result

    def write(self, path: Path, inputs: list[int], outputs: list[int]) -> Path:
        """Write the network to `path`, which is returned."""
        self.graph.inputs, self.graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path

    def _tensor(
        self, name: str, shape: Sequence[int], kind: str, quantized: tuple[list[float], list[int]] | None
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), getattr(schema.TensorType, kind)
        if quantized is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = quantized
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _code(self, kind: str) -> int:
        if kind not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = getattr(schema.BuiltinOperator, kind), 1
            code.deprecatedBuiltinCode = min(code.builtinCode, MAX_OLD_CODE)
            self.model.operatorCodes.append(code)
            self._codes.append(kind)
        return self._codes.index(kind)
