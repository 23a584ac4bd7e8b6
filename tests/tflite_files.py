"""Small TFLite files for tests, built with the flatbuffer schema alone: milliseconds, no TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 16
CHANNELS = 16


class Network:
    """A TFLite network under construction; methods return tensor indices."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []
        self.model.subgraphs = [self.graph]
        self.codes: list[str] = []

    def tensor(self, name: str, shape: tuple[int, ...], dtype: str = "INT8", scale: float | None = 0.05) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name, list(shape), getattr(schema.TensorType, dtype)
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [0]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, name: str, values: np.ndarray, scale: float | None = None) -> int:
        dtype = {"int8": "INT8", "int32": "INT32", "float32": "FLOAT32"}[values.dtype.name]
        index = self.tensor(name, values.shape, dtype, scale)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.graph.tensors[index].buffer = len(self.model.buffers) - 1
        return index

    def operator(self, kind: str, inputs: list[int], outputs: list[int], options: str = "", **values: Any) -> None:
        if kind not in self.codes:
            code = schema.OperatorCodeT()
            code.version = 1
            code.builtinCode = getattr(schema.BuiltinOperator, kind, schema.BuiltinOperator.CUSTOM)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.customCode = None if hasattr(schema.BuiltinOperator, kind) else kind
            self.model.operatorCodes.append(code)
            self.codes.append(kind)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = self.codes.index(kind), inputs, outputs
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            vars(operator.builtinOptions).update(values)
        self.graph.operators.append(operator)

    def conv(self, source: int, name: str, rng: np.random.Generator, dtype: str = "int8", activation: int = 1) -> int:
        """Add a 3x3 convolution from CHANNELS to CHANNELS, padded to keep the size, ReLU (1) or linear (0)."""
        weights = rng.integers(-127, 127, (CHANNELS, 3, 3, CHANNELS)).astype(dtype)
        bias = rng.integers(-100, 100, CHANNELS).astype("int32" if dtype == "int8" else dtype)
        quantized = dtype == "int8"
        operands = [
            source,
            self.constant(f"{name}_weights", weights, 0.01 if quantized else None),
            self.constant(f"{name}_bias", bias, 0.0005 if quantized else None),
        ]
        result = self.feature_map(name, quantized)
        stride = {"strideW": 1, "strideH": 1, "dilationWFactor": 1, "dilationHFactor": 1}
        self.operator(
            "CONV_2D", operands, [result], "Conv2DOptions", padding=0, fusedActivationFunction=activation, **stride
        )
        return result

    def feature_map(self, name: str, quantized: bool = True) -> int:
        shape = (1, SIDE, SIDE, CHANNELS)
        return self.tensor(name, shape) if quantized else self.tensor(name, shape, "FLOAT32", None)

    def signature(self, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        signature = schema.SignatureDefT()
        signature.signatureKey = "serving_default"
        signature.inputs, signature.outputs = _tensor_map(inputs), _tensor_map(outputs)
        self.model.signatureDefs = [signature]

    def pack(self) -> bytes:
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def write(self, path: Path) -> Path:
        path.write_bytes(self.pack())
        return path


def _tensor_map(named: dict[str, int]) -> list[Any]:
    pairs = []
    for name, index in named.items():
        pair = schema.TensorMapT()
        pair.name, pair.tensorIndex = name, index
        pairs.append(pair)
    return pairs


def small_network(
    *, seed: int = 0, between: tuple[str, ...] = (), dtype: str = "int8", prefix: str = "", activation: int = 1
) -> Network:
    """Return conv0 -> the kinds `between` -> conv1, plus a residual addition: 1,179,648 MACs in two convolutions."""
    rng = np.random.default_rng(seed)
    network = Network()
    source = network.feature_map(f"{prefix}input", dtype == "int8")
    here = network.conv(source, f"{prefix}conv0", rng, dtype, activation)
    for kind in between:
        result = network.feature_map(f"{prefix}{kind.lower()}", dtype == "int8")
        network.operator(kind, [here], [result])
        here = result
    last = network.conv(here, f"{prefix}conv1", rng, dtype, activation)
    total = network.feature_map(f"{prefix}sum", dtype == "int8")
    network.operator("ADD", [last, here], [total], "AddOptions")
    network.graph.inputs, network.graph.outputs = [source], [total]
    network.signature({"images": source}, {"result": total})
    return network
