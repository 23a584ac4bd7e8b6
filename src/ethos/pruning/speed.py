"""How fast a TFLite file runs on this machine's CPU."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.training.environment import cpu_model

if TYPE_CHECKING:
    from pathlib import Path

THREADS, WARM_UP, RUNS = 1, 5, 30


@dataclass(frozen=True)
class Speed:
    """Frames a second at batch 1, from the median of some runs, and how that was measured."""

    fps: float
    protocol: dict[str, Any]


def measure_speed(file: Path) -> Speed:
    """Run a TFLite file with an empty input a number of times; pre- and post-processing are not counted."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file), num_threads=THREADS)
    interpreter.allocate_tensors()
    (given,) = interpreter.get_input_details()
    interpreter.set_tensor(given["index"], np.zeros(given["shape"], given["dtype"]))
    seconds = []
    for _ in range(WARM_UP + RUNS):
        began = time.perf_counter()
        interpreter.invoke()
        seconds.append(time.perf_counter() - began)
    protocol = {
        "runtime": f"ai-edge-litert {version('ai-edge-litert')}",
        "device": "cpu",
        "cpu": cpu_model(),
        "threads": THREADS,
        "batch": 1,
        "dtype": np.dtype(given["dtype"]).name,
        "warm_up": WARM_UP,
        "runs": RUNS,
        "statistic": "median",
    }
    return Speed(1 / statistics.median(seconds[WARM_UP:]), protocol)
