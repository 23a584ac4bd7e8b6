"""From a float32 TFLite file and the ranges of its activations to a full-integer INT8 file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.compress.quiet import quiet
from ethos.npu.graph import output_name
from ethos.npu.tflite import read_graph

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos.compress.ranges import Activations
    from ethos.npu.graph import Graph, Operator, Tensor

IDENTIFIER = b"TFL3"
# litert-torch notes here that constants be kept in its own form, which the quantizer then leaves in float
KEPT_CONSTANTS = b"keep_stablehlo_constant"
CORRECTED = {"CONV_2D", "DEPTHWISE_CONV_2D"}


def to_int8(content: bytes, activations: Activations, keep: Sequence[str], per_channel: bool) -> bytes:
    """Return a network with int8 weights, activations, input and outputs; biases are int32.

    Args:
        content: The float32 TFLite file.
        activations: Ranges of its tensors.
        keep: Layers, by the names of their outputs, that stay in float32 between two conversions.
        per_channel: One weight scale for each output channel instead of one for each tensor.

    Raises:
        ModelError: The quantizer refuses the network; with its last words.
    """
    with quiet("TensorFlow Lite quantizer"):
        import tensorflow as tf
        from tensorflow.lite.python.convert import mlir_quantize

        quantized: bytes = mlir_quantize(
            with_ranges(content, activations),
            disable_per_channel=not per_channel,
            input_data_type=tf.int8,
            output_data_type=tf.int8,
            denylisted_nodes=list(keep) or None,
        )
    return quantized


def with_ranges(content: bytes, activations: Activations) -> bytes:
    """Return the file with the range of every observed tensor noted in it, where the quantizer looks for it."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    model.metadata = [entry for entry in model.metadata or [] if entry.name != KEPT_CONSTANTS]
    for index, (low, high) in activations.ranges.items():
        noted = schema.QuantizationParametersT()
        noted.min, noted.max = [low], [high]
        model.subgraphs[0].tensors[index].quantization = noted
    return _packed(model)


def correct_biases(file: Path, float_file: Path, activations: Activations) -> int:
    """Take the mean error of rounded weights out of an INT8 file's biases, in place; return how many layers changed.

    With weights W rounded to W', an output is off by (W' - W) E[x] on average (Nagel et al. 2019,
    https://arxiv.org/abs/1906.04721, section 4.2); E[x] is the observed mean of each input channel, in which what lies
    beyond the picture's border is not counted.
    """
    from ai_edge_litert import schema_py_generated as schema

    exact, rounded = read_graph(float_file), read_graph(file)
    twins = {output_name(exact, operator): operator for operator in exact.operators if operator.kind in CORRECTED}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.read_bytes(), 0))
    changed = 0
    for operator in rounded.operators:
        twin = twins.get(output_name(rounded, operator))
        if operator.kind not in CORRECTED or twin is None or len(operator.inputs) < len(("x", "weights", "bias")):
            continue
        mean = activations.means.get(twin.inputs[0])
        bias = rounded.tensors[operator.inputs[2]]
        if mean is None or bias.dtype != "INT32":
            continue
        error = _output_error(rounded, operator, exact, twin, mean)
        steps = np.frombuffer(bias.data, np.int32) - np.round(error / np.array(bias.scale)).astype(np.int32)
        # equal biases may share a buffer
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(steps.astype(np.int32).tobytes(), np.uint8)
        model.subgraphs[0].tensors[bias.index].buffer = len(model.buffers) - 1
        changed += 1
    file.write_bytes(_packed(model))
    return changed


def _output_error(
    rounded: Graph, operator: Operator, exact: Graph, twin: Operator, mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return by how much each output channel is off on average."""
    weights = rounded.tensors[operator.inputs[1]]
    error = _real(weights) - np.frombuffer(exact.tensors[twin.inputs[1]].data, np.float32).reshape(weights.shape)
    if operator.kind == "CONV_2D":  # weights are [out, h, w, in], of a grouped one the inputs of a group alone
        groups = len(mean) // weights.shape[3]
        means = np.repeat(mean.reshape(groups, -1), len(error) // groups, axis=0)
        return np.asarray((error.sum((1, 2)) * means).sum(1))
    # weights are [1, h, w, out]; each input channel feeds as many outputs
    return np.asarray(error.sum((0, 1, 2)) * np.repeat(mean, weights.shape[-1] // len(mean)))


def _real(tensor: Tensor) -> NDArray[np.float64]:
    """Return the real values of constant int8 weights with one scale, or one for each channel of an axis."""
    values = np.frombuffer(tensor.data, np.int8).reshape(tensor.shape).astype(np.float64)
    scales = np.array(tensor.scale)
    if len(scales) > 1:
        axis = 0 if tensor.shape[0] == len(scales) else -1
        scales = scales.reshape([-1 if place == axis % values.ndim else 1 for place in range(values.ndim)])
    return np.asarray(values * scales)


def _packed(model: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
