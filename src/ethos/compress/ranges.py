"""Ranges of activations: what each tensor of a float network holds while it looks at calibration images.

TensorFlow's own calibrator lets operators write in place, and so notes a residual sum under its operand's name; here
every tensor keeps its memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from ethos.npu.graph import Graph
    from ethos.specs import Quantize

BINS = 2048  # of a tensor's histogram
STEPS = 255  # of an int8 tensor
SHRINKING = np.linspace(1.0, 0.2, 81)  # shares of the full range that the search for the least error tries

Range = tuple[float, float]
Histogram = tuple["NDArray[np.int64]", Range]


@dataclass
class Activations:
    """What was observed, by tensor index.

    Attributes:
        ranges: Least and greatest value.
        means: Mean of each channel, for tensors [1, h, w, c].
    """

    ranges: dict[int, Range] = field(default_factory=dict)
    means: dict[int, NDArray[np.float64]] = field(default_factory=dict)


def observe(content: bytes, graph: Graph, samples: NDArray[np.float32], options: Quantize) -> Activations:
    """Return the ranges that a float network's activations need, as the options say.

    Args:
        content: The float32 TFLite file.
        graph: The same file, read.
        samples: [n, h, w, 3] images in 0..1.
        options: `ranges` and `percentile`, and whether `bias_correction` needs means.

    Raises:
        ModelError: An activation is not finite.
    """
    runner = Observer(content, graph)
    found = Activations()
    for values in runner.run(samples):
        for index, value in values.items():
            low, high = found.ranges.get(index, (np.inf, -np.inf))
            found.ranges[index] = (float(np.minimum(low, value.min())), float(np.maximum(high, value.max())))
            if options.bias_correction and value.ndim == len("nhwc"):
                found.means[index] = found.means.get(index, 0.0) + value.mean((0, 1, 2), np.float64) / len(samples)
    _require_finite(found, graph)
    if options.ranges != "min_max":
        inner = [index for index in found.ranges if index not in {*graph.inputs, *graph.outputs}]
        for index, histogram in _histograms(runner, samples, {index: found.ranges[index] for index in inner}).items():
            found.ranges[index] = CLIPPING[options.ranges](histogram, options.percentile or 0.0)
    return found


class Observer:
    """Runs a TFLite network and shows every tensor that it computes.

    Args:
        content: The TFLite file.
        graph: The same file, read.
    """

    def __init__(self, content: bytes, graph: Graph) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        # a delegate would keep what lies between its operators to itself
        self._interpreter: Any = Interpreter(
            model_content=content,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
            num_threads=THREADS,
        )
        self._interpreter.allocate_tensors()
        computed = {*graph.inputs, *(index for operator in graph.operators for index in operator.outputs)}
        self.observed = sorted(index for index in computed if graph.tensors[index].dtype in OBSERVED_TYPES)
        (self._input,) = graph.inputs

    def run(self, images: NDArray[Any]) -> Iterator[dict[int, NDArray[Any]]]:
        """Yield, image by image, the values of every computed tensor by its index."""
        for image in images:
            self._interpreter.set_tensor(self._input, image[None])
            self._interpreter.invoke()
            yield {index: self._interpreter.get_tensor(index) for index in self.observed}


THREADS = 2
OBSERVED_TYPES = frozenset({"FLOAT32", "INT8"})


def percentile_range(histogram: Histogram, percentile: float) -> Range:
    """Return the range that leaves out what lies beyond the percentile (in per cent) at either end."""
    counts, (low, high) = histogram
    edges = np.linspace(low, high, len(counts) + 1)
    share = np.cumsum(counts) / max(counts.sum(), 1)
    beyond = (100.0 - percentile) / 100.0
    first = int(np.searchsorted(share, beyond, side="right"))
    last = int(np.searchsorted(share, 1.0 - beyond, side="left"))
    return float(min(edges[first], 0.0) if low <= 0 else edges[first]), float(edges[min(last, len(counts) - 1) + 1])


def least_error_range(histogram: Histogram, _percentile: float = 0.0) -> Range:
    """Return the range, a share of the full one, of the least mean squared error.

    A value inside is off by step / sqrt(12) on average, the deviation of a uniform error; one outside by its distance
    from the range.
    """
    counts, (low, high) = histogram
    edges = np.linspace(low, high, len(counts) + 1)
    values = (edges[:-1] + edges[1:]) / 2
    errors = []
    for share in SHRINKING:
        bottom, top = low * share, high * share
        outside = np.maximum(values - top, 0) + np.maximum(bottom - values, 0)
        inside = ((max(top, 0) - min(bottom, 0)) / STEPS) ** 2 / 12
        errors.append(float((counts * np.where(outside > 0, outside**2, inside)).sum()))
    best = float(SHRINKING[int(np.argmin(errors))])
    return low * best, high * best


def _histograms(observer: Observer, samples: NDArray[np.float32], ranges: dict[int, Range]) -> dict[int, Histogram]:
    counts = {index: np.zeros(BINS, np.int64) for index in ranges}
    for values in observer.run(samples):
        for index, (low, high) in ranges.items():
            if high > low:
                places = ((values[index].ravel() - low) * (BINS / (high - low))).astype(np.int32)
                counts[index] += np.bincount(places.clip(0, BINS - 1), minlength=BINS)
    return {index: (counts[index], (low, high)) for index, (low, high) in ranges.items() if high > low}


def _require_finite(found: Activations, graph: Graph) -> None:
    wrong = [graph.tensors[index].name for index, ends in found.ranges.items() if not np.isfinite(ends).all()]
    if wrong:
        raise ModelError(
            f"{len(wrong)} layers give values that are not finite, the first is {wrong[0]}", "train the network again"
        )


CLIPPING: dict[str, Callable[[Histogram, float], Range]] = {"percentile": percentile_range, "mse": least_error_range}
