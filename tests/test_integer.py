"""The INT8 file: ranges that are observed and clipped, scales, corrected biases, and layers left in float."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from quantized import OPTIONS

from ethos.compress.checks import require_integer
from ethos.compress.integer import correct_biases, to_int8, with_ranges
from ethos.compress.names import layer_names, select_layers
from ethos.compress.quantize import FLOAT_FILE, INT8_FILE, ONNX_FILE
from ethos.compress.ranges import Activations, Observer, least_error_range, observe, percentile_range
from ethos.errors import ModelError, SpecError
from ethos.npu.graph import output_name
from ethos.npu.tflite import read_graph
from ethos.specs import Quantize

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from quantized import Quantized

    from ethos.npu.graph import Graph


class Floats:
    """A float file, and what it does on a few calibration images."""

    def __init__(self, file: Path, images: NDArray[np.float32]) -> None:
        self.file, self.images = file, images
        self.graph, self.content = read_graph(file), file.read_bytes()

    def observe(self, **options: Any) -> Activations:
        return observe(self.content, self.graph, self.images, Quantize(**options))


@pytest.fixture(scope="module")
def floats(quantized: Quantized) -> Floats:
    return Floats(quantized.files / FLOAT_FILE, quantized.images()[:4])


@pytest.fixture(scope="module")
def names(quantized: Quantized, floats: Floats) -> dict[str, str]:
    return layer_names(floats.graph, quantized.files / ONNX_FILE)


@pytest.fixture(scope="module")
def plain(floats: Floats) -> Activations:
    return floats.observe(bias_correction=True)


def written(path: Path, content: bytes) -> Graph:
    path.write_bytes(content)
    return read_graph(path)


# --- ranges ----------------------------------------------------------------------------------------------------------


def test_every_activation_has_the_range_that_was_seen(floats: Floats, plain: Activations) -> None:
    computed = {index for operator in floats.graph.operators for index in operator.outputs}
    assert set(plain.ranges) == computed | set(floats.graph.inputs)
    assert plain.ranges[floats.graph.inputs[0]] == (floats.images.min(), floats.images.max())
    values = list(Observer(floats.content, floats.graph).run(floats.images))
    for index in floats.graph.outputs:
        low, high = min(each[index].min() for each in values), max(each[index].max() for each in values)
        assert plain.ranges[index] == (low, high)


def test_means_are_those_of_each_channel(floats: Floats, plain: Activations) -> None:
    mean = plain.means[floats.graph.inputs[0]]
    np.testing.assert_allclose(mean, floats.images.mean((0, 1, 2), np.float64), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "clipped"),
    [({"ranges": "percentile", "percentile": 99.0}, 0.25), ({"ranges": "mse"}, 0)],
    ids=["pct", "mse"],
)
def test_clipped_ranges_lie_within_but_for_the_ends(
    options: dict[str, Any], clipped: float, floats: Floats, plain: Activations
) -> None:
    found = floats.observe(**options).ranges
    ends = {*floats.graph.inputs, *floats.graph.outputs}
    assert {index: found[index] for index in ends} == {index: plain.ranges[index] for index in ends}
    inner = set(found) - ends
    widths = {index: (found[index][1] - found[index][0], np.ptp(plain.ranges[index])) for index in inner}
    assert all(width <= whole * 1.0001 for width, whole in widths.values())
    assert sum(width < 0.95 * whole for width, whole in widths.values()) > clipped * len(inner)


def test_percentiles_of_a_known_histogram() -> None:
    counts = np.zeros(2048, np.int64)
    counts[1024:1124] = 10  # values 0 to about 0.98
    counts[-1] = 1  # and one of 10
    histogram = (counts, (-10.0, 10.0))
    assert percentile_range(histogram, 99.0) == pytest.approx((0.0, 0.98), abs=0.02)
    assert percentile_range(histogram, 99.9999)[1] == pytest.approx(10.0)


def test_least_error_gives_up_an_outlier_and_keeps_an_even_spread() -> None:
    even = (np.full(2048, 100), (0.0, 4.0))
    assert least_error_range(even)[1] == pytest.approx(4.0, rel=0.02)
    outlier = np.zeros(2048, np.int64)
    outlier[:512], outlier[-1] = 100_000, 1
    assert least_error_range((outlier, (0.0, 4.0)))[1] == pytest.approx(1.0, abs=0.06)


def test_values_that_are_not_finite(floats: Floats) -> None:
    images = floats.images.copy()
    images[0, 0, 0, 0] = np.nan
    with pytest.raises(ModelError, match=r"^\d+ layers give values that are not finite, the first is \S+"):
        observe(floats.content, floats.graph, images, OPTIONS)


def test_a_percentile_goes_with_its_ranges() -> None:
    for wrong in ({"percentile": 99.9}, {"ranges": "percentile"}, {"ranges": "mse", "percentile": 99.9}):
        with pytest.raises(ValueError, match="'percentile' and 'ranges: percentile' go together"):
            Quantize(**wrong)


# --- the file --------------------------------------------------------------------------------------------------------


def weight_scales(graph: Graph) -> Counter[int]:
    """Return how many convolutions have weights with that many scales."""
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D")
    return Counter(len(graph.tensors[op.inputs[1]].scale) for op in graph.operators if op.kind in kinds)


def test_weights_per_channel_and_per_tensor(floats: Floats, plain: Activations, tmp_path: Path) -> None:
    fine = written(tmp_path / "fine", to_int8(floats.content, plain, [], per_channel=True))
    coarse = written(tmp_path / "coarse", to_int8(floats.content, plain, [], per_channel=False))
    assert set(weight_scales(coarse)) == {1}
    assert sum(weight_scales(fine).values()) == sum(weight_scales(coarse).values()) > 40
    assert 1 not in weight_scales(fine)
    for graph in (fine, coarse):
        require_integer(graph)


def test_the_same_input_gives_the_same_bytes(floats: Floats, plain: Activations) -> None:
    assert to_int8(floats.content, plain, [], True) == to_int8(floats.content, plain, [], True)


def test_scales_follow_the_ranges(floats: Floats, plain: Activations, tmp_path: Path) -> None:
    graph = written(tmp_path / "file", to_int8(floats.content, plain, [], per_channel=True))
    by_name = {graph.tensors[index].name: graph.tensors[index] for index in graph.outputs}
    for index in floats.graph.outputs:
        low, high = plain.ranges[index]
        (scale,) = by_name[floats.graph.tensors[index].name].scale
        assert scale == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=1e-3)


def test_ranges_are_noted_in_a_copy(floats: Floats, plain: Activations, tmp_path: Path) -> None:
    copy = written(tmp_path / "noted", with_ranges(floats.content, plain))
    assert [op.kind for op in copy.operators] == [op.kind for op in floats.graph.operators]
    assert floats.file.read_bytes() == floats.content


def test_corrected_biases_bring_the_mean_output_nearer(floats: Floats, plain: Activations, tmp_path: Path) -> None:
    file = tmp_path / "int8.tflite"
    file.write_bytes(to_int8(floats.content, plain, [], per_channel=False))
    before = mean_errors(file, floats)
    kinds = [op.kind for op in read_graph(file).operators]
    assert correct_biases(file, floats.file, plain) == sum(weight_scales(read_graph(file)).values())
    assert [op.kind for op in read_graph(file).operators] == kinds
    after = mean_errors(file, floats)
    assert after[0] < 0.3 * before[0]  # what enters the first layer is exact
    assert np.mean(after) < np.mean(before)


def test_biases_of_a_grouped_convolution(tmp_path: Path) -> None:
    """As attention has one: each group of output channels reads input channels of its own."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    filters = rng.normal(0, 1, (3, 3, 2, 8)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 4], tf.float32, "images")])
    def network(images: Any) -> Any:
        return tf.nn.conv2d(images, filters, 1, "VALID") + rng.normal(0, 1, 8).astype(np.float32)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    (tmp_path / "fp32.tflite").write_bytes(converter.convert())
    images = rng.uniform(0, 1, (4, 8, 8, 4)) * np.array([1, 2, 4, 8])
    floats = Floats(tmp_path / "fp32.tflite", images.astype(np.float32))
    (convolution,) = [op for op in floats.graph.operators if op.kind == "CONV_2D"]
    assert floats.graph.tensors[convolution.inputs[1]].shape == (8, 3, 3, 2)
    seen = floats.observe(bias_correction=True)
    file = tmp_path / "int8.tflite"
    file.write_bytes(to_int8(floats.content, seen, [], per_channel=False))
    before = mean_errors(file, floats)
    assert correct_biases(file, floats.file, seen) == 1
    assert mean_errors(file, floats)[0] < 0.5 * before[0]


def mean_errors(file: Path, floats: Floats) -> list[float]:
    """Return by how much the mean of each convolution's output channels is off, as a share of their spread."""
    graph = read_graph(file)
    given = graph.tensors[graph.inputs[0]]
    integers = (np.round(floats.images / given.scale[0]) + given.zero_point[0]).clip(-128, 127).astype(np.int8)
    twins = {output_name(floats.graph, op): op.outputs[0] for op in floats.graph.operators}
    convolutions = [op for op in graph.operators if op.kind == "CONV_2D"]
    wanted = list(Observer(floats.content, floats.graph).run(floats.images))
    found = list(Observer(file.read_bytes(), graph).run(integers))
    errors = []
    for op in convolutions:
        tensor = graph.tensors[op.outputs[0]]
        exact = np.concatenate([each[twins[output_name(graph, op)]] for each in wanted])
        rounded = np.concatenate([each[op.outputs[0]] for each in found]).astype(np.float64)
        difference = (rounded - tensor.zero_point[0]) * tensor.scale[0] - exact
        errors.append(float(np.abs(difference.mean((0, 1, 2))).mean() / (exact.std() + 1e-6)))
    return errors


# --- layers in float -------------------------------------------------------------------------------------------------


def test_convolutions_are_named_as_in_pytorch(floats: Floats, names: dict[str, str]) -> None:
    convolutions = [output_name(floats.graph, op) for op in floats.graph.operators if op.kind == "CONV_2D"]
    named = [names[name] for name in convolutions]
    assert named[0] == "model.0.conv"
    assert all(name.startswith("model.") for name in named)
    assert len(set(named)) == len(named)


def test_named_layers_stay_in_float(floats: Floats, names: dict[str, str], plain: Activations, tmp_path: Path) -> None:
    kept = select_layers(names, ["model.0.conv", "model.23.cls.*"])
    assert kept[0] == next(name for name, layer in names.items() if layer == "model.0.conv")
    assert len(kept) > 3
    graph = written(tmp_path / "int8.tflite", to_int8(floats.content, plain, kept, per_channel=True))
    weights = Counter(graph.tensors[op.inputs[1]].dtype for op in graph.operators if op.kind == "CONV_2D")
    assert weights["FLOAT32"] == len(kept)
    assert weights["INT8"] == sum(weight_scales(floats.graph).values()) - len(kept)
    with pytest.raises(ModelError, match=r"^int8\.tflite: \d+ float operators: "):
        require_integer(graph)
    require_integer(graph, kept=len(kept))
    assert {graph.tensors[index].dtype for index in (*graph.inputs, *graph.outputs)} == {"INT8"}


def test_a_layer_that_is_not_there(names: dict[str, str]) -> None:
    with pytest.raises(SpecError) as caught:
        select_layers(names, ["model.0.conv", "model.99.*"])
    assert str(caught.value) == (
        "quantize.keep_float: no layer is named 'model.99.*'\n"
        "  fix: run `ethos quantize VARIANT --autopsy` for the names"
    )


def test_the_stage_used_these_parts(quantized: Quantized) -> None:
    record = quantized.record
    assert (record["ranges"], record["biases_corrected"], record["kept_float"]) == ("min_max", 0, [])
    assert (record["converter"], record["per_channel"]) == ("onnx2tf", True)
    require_integer(read_graph(quantized.files / INT8_FILE))
