"""A sketch of a network's INT8 file: its operators, shapes and INT8 weights, with nominal activation scales.

Made from the ONNX export in a fraction of a second, where the converters take twenty. A compiler and an interpreter
spend the same time on it as on the real file; what it computes means nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.errors import ModelError
from ethos.pruning.writer import (
    NO_ACTIVATION,
    RELU,
    SAME,
    SCALE,
    UNIT_SCALE,
    UNIT_ZERO_POINT,
    ZERO_POINT,
    Writer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

TO_NHWC, TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


def write_sketch(onnx_file: Path, path: Path, widths: Mapping[str, tuple[int, int]] | None = None) -> Path:
    """Write the sketch of an exported network to `path`, which is returned.

    Args:
        onnx_file: The network, as `ethos.compress.convert.export_onnx` writes it.
        path: File to write.
        widths: Input and output channels of convolutions to draw narrower than they are, by their names in the file.

    Raises:
        ModelError: The network holds an operator that no sketch can be made of.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(onnx_file))
    sketch = _Sketch(model.graph, widths or {})
    for node in model.graph.node:
        if node.name in sketch.done:
            continue
        draw = OPERATORS.get(node.op_type)
        if draw is None:
            raise ModelError(f"operator {node.op_type} ({node.name}): no sketch of it is known", "use another level")
        draw(sketch, node)
    inputs = [sketch.places[each.name] for each in model.graph.input]
    return sketch.writer.write(path, inputs, [sketch.as_map(each.name) for each in model.graph.output])


class _Sketch:
    """The ONNX graph being drawn: `places` are tensors by ONNX name, `plain` those not stored as NHWC maps."""

    def __init__(self, graph: Any, widths: Mapping[str, tuple[int, int]]) -> None:
        from onnx import numpy_helper

        self.writer, self.widths = Writer(), widths
        self.constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.shapes = {
            value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self.takers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)
        self.places: dict[str, int] = {}
        self.plain: set[str] = set()
        self.done: set[str] = set()
        for value in graph.input:
            shape = tuple(self.shapes[value.name][axis] for axis in TO_NHWC)
            self.places[value.name] = self.writer.map(value.name, shape)

    def as_map(self, name: str) -> int:
        """Return a tensor stored as NHWC."""
        if name not in self.plain:
            return self.places[name]
        return self.transposed(self.places[name], TO_NHWC, f"{name}/nhwc")

    def as_plain(self, name: str) -> int:
        """Return a tensor stored in the order of its ONNX dimensions."""
        if name in self.plain:
            return self.places[name]
        return self.transposed(self.places[name], TO_NCHW, f"{name}/nchw")

    def keep(self, name: str, place: int, *, plain: bool = False) -> None:
        self.places[name] = place
        if plain:
            self.plain.add(name)

    def moved(self, source: int, name: str, shape: Sequence[int]) -> int:
        """Add a tensor whose numbers are some of another's in other places: TFLite wants both quantized alike."""
        return self.writer.map(name, shape, *self.writer.quantization(source))

    def transposed(self, source: int, order: tuple[int, ...], name: str) -> int:
        shape = [self.writer.shape(source)[axis] for axis in order]
        result = self.moved(source, name, shape)
        axes = self.writer.constant(f"{name}/order", np.array(order, np.int32))
        self.writer.operator("TRANSPOSE", [source, axes], result, "TransposeOptions")
        return result


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _convolution(sketch: _Sketch, node: Any) -> None:
    name = node.input[1].removesuffix(".weight")
    weights = sketch.constants[node.input[1]].transpose(0, 2, 3, 1)
    taken, made = sketch.widths.get(name, (weights.shape[3], weights.shape[0]))
    weights = weights[:made, :, :, :taken]
    given = _attributes(node)
    result = node.output[0]
    takers = sketch.takers.get(result, [])
    fused = len(takers) == 1 and takers[0].op_type == "Relu"
    if fused:
        sketch.done.add(takers[0].name)
        result = takers[0].output[0]
    place = sketch.writer.convolution(
        sketch.as_map(node.input[0]),
        name,
        weights,
        stride=given["strides"][0],
        activation=RELU if fused else NO_ACTIVATION,
        depthwise=given["group"] > 1,
    )
    sketch.keep(result, place)


def _elementwise(kind: str, options: str) -> Callable[[_Sketch, Any], None]:
    def draw(sketch: _Sketch, node: Any) -> None:
        constants = [name for name in node.input if name in sketch.constants]
        names = [name for name in node.input if name not in sketch.constants]
        plain = all(name in sketch.plain for name in names)
        places = [sketch.places[name] if plain else sketch.as_map(name) for name in names]
        # a factor or summand of one value
        places += [sketch.writer.constant(f"{node.name}/{name}", np.ones(1, np.int8), [0.1]) for name in constants]
        result = sketch.writer.map(node.output[0], sketch.writer.shape(places[0]))
        sketch.writer.operator(kind, places, result, options)
        sketch.keep(node.output[0], result, plain=plain)

    return draw


def _unary(kind: str, options: str = "", unit: bool = False, **values: Any) -> Callable[[_Sketch, Any], None]:
    def draw(sketch: _Sketch, node: Any) -> None:
        place = sketch.places[node.input[0]]
        quantized = (UNIT_SCALE, UNIT_ZERO_POINT) if unit else (SCALE, ZERO_POINT)
        result = sketch.writer.map(node.output[0], sketch.writer.shape(place), *quantized)
        given = {ours: _attributes(node)[theirs] for ours, theirs in values.items() if isinstance(theirs, str)}
        fixed = {ours: value for ours, value in values.items() if not isinstance(value, str)}
        sketch.writer.operator(kind, [place], result, options, **given, **fixed)
        sketch.keep(node.output[0], result, plain=node.input[0] in sketch.plain)

    return draw


def _concat(sketch: _Sketch, node: Any) -> None:
    places = [sketch.as_map(name) for name in node.input]
    shapes = [sketch.writer.shape(place) for place in places]
    result = sketch.writer.map(node.output[0], (*shapes[0][:3], sum(shape[3] for shape in shapes)))
    sketch.writer.operator("CONCATENATION", places, result, "ConcatenationOptions", axis=3)
    sketch.keep(node.output[0], result)


def _pool(sketch: _Sketch, node: Any) -> None:
    (side, _), (stride, _) = _attributes(node)["kernel_shape"], _attributes(node)["strides"]
    source = sketch.as_map(node.input[0])
    _, height, width, channels = sketch.writer.shape(source)
    result = sketch.writer.map(node.output[0], (1, -(-height // stride), -(-width // stride), channels))
    sketch.writer.operator(
        "MAX_POOL_2D",
        [source],
        result,
        "Pool2DOptions",
        padding=SAME,
        filterHeight=side,
        filterWidth=side,
        strideH=stride,
        strideW=stride,
    )
    sketch.keep(node.output[0], result)


def _resize(sketch: _Sketch, node: Any) -> None:
    source = sketch.as_map(node.input[0])
    shape = (1, *sketch.shapes[node.output[0]][2:], sketch.writer.shape(source)[3])
    size = sketch.writer.constant(f"{node.output[0]}/size", np.array(shape[1:3], np.int32))
    result = sketch.writer.map(node.output[0], shape)
    sketch.writer.operator("RESIZE_NEAREST_NEIGHBOR", [source, size], result, "ResizeNearestNeighborOptions")
    sketch.keep(node.output[0], result)


def _reshape(sketch: _Sketch, node: Any) -> None:
    shape, source = sketch.shapes[node.output[0]], sketch.as_plain(node.input[0])
    result = sketch.moved(source, node.output[0], shape)
    wanted = sketch.writer.constant(f"{node.output[0]}/shape", np.array(shape, np.int32))
    sketch.writer.operator("RESHAPE", [source, wanted], result, "ReshapeOptions", newShape=list(shape))
    sketch.keep(node.output[0], result, plain=True)


def _transpose(sketch: _Sketch, node: Any) -> None:
    place = sketch.transposed(sketch.as_plain(node.input[0]), _attributes(node)["perm"], node.output[0])
    sketch.keep(node.output[0], place, plain=True)


def _split(sketch: _Sketch, node: Any) -> None:
    source, axis = sketch.as_plain(node.input[0]), _attributes(node)["axis"]
    start = 0
    for name in node.output:
        shape = sketch.shapes[name]
        begin = [start if each == axis else 0 for each in range(len(shape))]
        result = sketch.moved(source, name, shape)
        steers = [
            sketch.writer.constant(f"{name}/{what}", np.array(values, np.int32))
            for what, values in (("begin", begin), ("size", shape))
        ]
        sketch.writer.operator("SLICE", [source, *steers], result, "SliceOptions")
        sketch.keep(name, result, plain=True)
        start += shape[axis]


def _product(sketch: _Sketch, node: Any) -> None:
    result = sketch.writer.map(node.output[0], sketch.shapes[node.output[0]])
    places = [sketch.as_plain(name) for name in node.input]
    sketch.writer.operator("BATCH_MATMUL", places, result, "BatchMatMulOptions", adjX=False, adjY=False)
    sketch.keep(node.output[0], result, plain=True)


OPERATORS: dict[str, Callable[[_Sketch, Any], None]] = {
    "Add": _elementwise("ADD", "AddOptions"),
    "Concat": _concat,
    "Conv": _convolution,
    "LeakyRelu": _unary("LEAKY_RELU", "LeakyReluOptions", alpha="alpha"),
    "MatMul": _product,
    "MaxPool": _pool,
    "Mul": _elementwise("MUL", "MulOptions"),
    "Relu": _unary("RELU"),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _unary("LOGISTIC", unit=True),
    "Softmax": _unary("SOFTMAX", "SoftmaxOptions", unit=True, beta=1.0),
    "Split": _split,
    "Transpose": _transpose,
}
