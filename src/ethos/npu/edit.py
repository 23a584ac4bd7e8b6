"""Changes to a TFLite network that show what a change of the spec would give: structure and sizes, not accuracy.

Each edit works on the unpacked file. New layers have random weights: compiled figures depend on shapes, and on weights
only through their compression.
"""

from __future__ import annotations

import copy
import struct
from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ethos.npu.patterns import CHANNEL, NHWC

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ethos.npu.graph import Graph
    from ethos.npu.patterns import Attention, Decode, Silu, SlicedConvolution

KERNEL = 3
SAME_PADDING = 0
NO_ACTIVATION, RELU = 0, 1
WEIGHT_SCALE = 0.01
# kinds above it have a field of their own in the file
MAX_OLD_CODE = 127
# what a file raises that holds less than an edit needs: constants cut short, scales left out, fields out of range
IMPOSSIBLE = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError)
# stands for whoever takes the network's results
NO_OPERATOR = -1
# operators that can apply a ReLU themselves
FUSING = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})


class Edited:
    """A file's network, unpacked; `keep` writes it."""

    def __init__(self, graph: Graph) -> None:
        self.model = schema.ModelT.InitFromPackedBuf(graph.file.read_bytes(), 0)
        self.subgraph = self.model.subgraphs[0]
        # signatures name outputs that an edit may remove, and the compiler does not need them
        self.model.signatureDefs = None
        self.rng = np.random.default_rng(0)

    def keep(self, path: Path) -> Path:
        """Write the network to `path`."""
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path

    # --- parts ---

    def remove(self, operators: Iterable[int]) -> None:
        """Take operators out, by their index in the file."""
        gone = set(operators)
        self.subgraph.operators = [o for index, o in enumerate(self.subgraph.operators) if index not in gone]

    def add_tensor(self, like: int, name: str, shape: Iterable[int]) -> int:
        """Add a computed tensor with the type and quantization of another."""
        tensor = copy.deepcopy(self.subgraph.tensors[like])
        tensor.name, tensor.buffer = name.encode(), 0
        tensor.shape, tensor.shapeSignature = np.array(list(shape), np.int32), None
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def add_constant(self, name: str, values: np.ndarray, scale: np.ndarray | None) -> int:
        """Add a constant with its values; quantized along its first axis if it has scales."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        tensor = schema.TensorT()
        tensor.name, tensor.buffer = name.encode(), len(self.model.buffers) - 1
        tensor.shape = np.array(values.shape, np.int32)
        tensor.type = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32}[values.dtype.name]
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.asarray(scale, np.float32)
            tensor.quantization.zeroPoint = np.zeros(len(scale), np.int64)
            tensor.quantization.quantizedDimension = 0
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def values(self, tensor: int, dtype: str) -> np.ndarray:
        """Return a constant's stored values in its shape."""
        found = self.subgraph.tensors[tensor]
        data = np.asarray(self.model.buffers[found.buffer].data, np.uint8)
        return np.frombuffer(data.tobytes(), dtype).reshape(tuple(found.shape))

    def convolution(self, source: int, result: int, activation: int) -> Any:
        """Return a new 3x3 convolution of stride 1 with random weights between two tensors."""
        given, made = (int(self.subgraph.tensors[index].shape[-1]) for index in (source, result))
        weights = self.rng.integers(-127, 128, (made, KERNEL, KERNEL, given)).astype(np.int8)
        scale = np.full(made, WEIGHT_SCALE, np.float32)
        bias_scale = scale * np.float32(self.subgraph.tensors[source].quantization.scale[0])
        name = self.subgraph.tensors[result].name.decode(errors="replace")
        operator = schema.OperatorT()
        operator.opcodeIndex = self.code_for(schema.BuiltinOperator.CONV_2D)
        operator.inputs = [
            source,
            self.add_constant(f"{name}_weights", weights, scale),
            self.add_constant(f"{name}_bias", np.zeros(made, np.int32), bias_scale),
        ]
        operator.outputs = [result]
        operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
        operator.builtinOptions = options = schema.Conv2DOptionsT()
        options.padding, options.fusedActivationFunction = SAME_PADDING, activation
        options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
        return operator

    def code_for(self, kind: int) -> int:
        """Return the place of an operator's kind in the file's list of kinds, which it joins if it is not there."""
        for place, code in enumerate(self.model.operatorCodes):
            if max(code.builtinCode, code.deprecatedBuiltinCode) == kind:
                return place
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, min(kind, MAX_OLD_CODE), 1
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1


def cut_decode(edited: Edited, decode: Decode) -> None:
    """End the network at what the trained part hands to the decoding."""
    edited.remove(decode.operators)
    edited.subgraph.outputs = list(decode.raw)


def replace_attention(edited: Edited, graph: Graph, blocks: list[Attention]) -> bool:
    """Put a C2f's bottleneck, two 3x3 convolutions, in the place of each attention block.

    Returns:
        Whether that could be done: a block must give a map of the size that it takes.
    """
    sizes = [(graph.tensors[block.start].shape, graph.tensors[block.end].shape) for block in blocks]
    if any(len(one) != NHWC or len(one) != len(other) or one[:CHANNEL] != other[:CHANNEL] for one, other in sizes):
        return False
    inserted = {}
    for block in blocks:
        shape = graph.tensors[block.end].shape
        middle = edited.add_tensor(block.end, f"{graph.tensors[block.end].name}_between", shape)
        first = edited.convolution(block.start, middle, RELU)
        inserted[max(block.operators)] = [first, edited.convolution(middle, block.end, NO_ACTIVATION)]
    gone = {index for block in blocks for index in block.operators}
    edited.subgraph.operators = [
        new
        for index, operator in enumerate(edited.subgraph.operators)
        for new in inserted.get(index, [] if index in gone else [operator])
    ]
    return True


def split_convolutions(edited: Edited, graph: Graph, sites: list[SlicedConvolution]) -> None:
    """Write each convolution that is only taken in ranges of channels as one convolution a range: the same values."""
    replaced: dict[int, list[Any]] = {}
    gone: set[int] = set()
    for site in sites:
        gone |= {*site.slices, *([] if site.activation is None else [site.activation])}
        operators = []
        for result, begin, end in site.parts:
            operators += _part(edited, graph, site, result, begin, end)
        replaced[site.convolution] = operators
    edited.subgraph.operators = [
        new
        for index, operator in enumerate(edited.subgraph.operators)
        for new in replaced.get(index, [] if index in gone else [operator])
    ]


def _part(edited: Edited, graph: Graph, site: SlicedConvolution, result: int, begin: int, end: int) -> list[Any]:
    """Return the operators that compute a range of a convolution's channels, without the old ones' constants."""
    old = edited.subgraph.operators[site.convolution]
    whole = graph.operators[site.convolution]
    operator = copy.copy(old)
    operator.inputs = [whole.inputs[0], _rows(edited, whole.inputs[1], begin, end, "i1")]
    operator.inputs += [_rows(edited, index, begin, end, "<i4") for index in whole.inputs[2:3]]
    if site.activation is None:
        operator.outputs = [result]
        return [operator]
    shape = graph.tensors[result].shape
    middle = edited.add_tensor(whole.outputs[0], f"{graph.tensors[result].name}_linear", shape)
    operator.outputs = [middle]
    activation = copy.copy(edited.subgraph.operators[site.activation])
    activation.inputs, activation.outputs = [middle, *list(activation.inputs)[1:]], [result]
    return [operator, activation]


def _rows(edited: Edited, tensor: int, begin: int, end: int, dtype: str) -> int:
    old = edited.subgraph.tensors[tensor]
    scale = np.asarray(old.quantization.scale, np.float32)
    rows = np.ascontiguousarray(edited.values(tensor, dtype)[begin:end])
    name = f"{old.name.decode(errors='replace')}_{begin}"
    return edited.add_constant(name, rows, scale[begin:end] if len(scale) > 1 else scale)


def replace_silu(edited: Edited, graph: Graph, sites: list[Silu]) -> None:
    """Make each SiLU a ReLU, fused into the convolution before it where there is one."""
    makers = {tensor: operator for operator in graph.operators for tensor in operator.outputs}
    takers: dict[int, set[int]] = {}
    for operator in graph.operators:
        for tensor in operator.inputs:
            takers.setdefault(tensor, set()).add(operator.index)
    for tensor in graph.outputs:
        takers.setdefault(tensor, set()).add(NO_OPERATOR)
    gone: set[int] = set()
    for site in sites:
        logistic, product = site.operators
        maker = makers.get(site.source)
        if maker is not None and maker.kind in FUSING and takers[site.source] == set(site.operators):
            convolution = edited.subgraph.operators[maker.index]
            convolution.builtinOptions = copy.copy(convolution.builtinOptions)
            convolution.builtinOptions.fusedActivationFunction = RELU
            convolution.outputs = [site.result]
            gone |= {logistic, product}
        else:
            relu = edited.subgraph.operators[product]
            relu.opcodeIndex = edited.code_for(schema.BuiltinOperator.RELU)
            relu.builtinOptionsType, relu.builtinOptions = schema.BuiltinOptions.NONE, None
            relu.inputs = [site.source]
            gone.add(logistic)
    edited.remove(gone)


def quantize_per_channel(edited: Edited, graph: Graph, convolutions: list[int]) -> None:
    """Give each convolution's weights one scale a channel; values stay, so it shows what the form costs, not gains."""
    for index in convolutions:
        operator = graph.operators[index]
        for tensor in operator.inputs[1:3]:
            quantization = edited.subgraph.tensors[tensor].quantization
            channels = graph.tensors[operator.inputs[1]].shape[0]
            spread = np.linspace(0.5, 1.0, channels, dtype=np.float32)
            quantization.scale = np.float32(quantization.scale[0]) * spread
            quantization.zeroPoint, quantization.quantizedDimension = np.zeros(channels, np.int64), 0
