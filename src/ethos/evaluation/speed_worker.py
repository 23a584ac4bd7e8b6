"""The process in which one file's speed and memory are measured; reads what to do from stdin, answers on stdout.

A process of its own has no other network in its memory, and no other thread that runs.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ethos.errors import EthosError
from ethos.evaluation.detect import read_image
from ethos.evaluation.predictors import content_of, open_predictor
from ethos.files import sha256_file
from ethos_runtime.letterbox import letterbox

if TYPE_CHECKING:
    from ethos.evaluation.predictors import Predictor
    from ethos_runtime.letterbox import Image

STATUS = Path("/proc/self/status")
STEPS = ("preprocess", "network", "postprocess")
NOISE_SHAPE = (480, 640, 3)


def main() -> None:
    """Measure one file and print what came out as JSON, a failure included."""
    order = json.load(sys.stdin)
    try:
        answer = measure(order)
    except EthosError as error:
        answer = {"error": {"kind": type(error).__name__, "message": error.message, "fix": error.fix}}
    # everything that the runtime prints comes before this line
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Return times, memory and identity of one file."""
    cv2.setNumThreads(order["threads"])
    images = [read_image(Path(path)) for path in order["images"]] or [noise()]
    before = peak_mib()
    file = Path(order["file"])
    contract = Path(order["contract"]) if order["contract"] else None
    began = time.perf_counter()
    predictor = open_predictor(file, contract=contract, threads=order["threads"])
    opened = time.perf_counter() - began
    for number in range(order["warmup"]):
        once(predictor, images[number % len(images)], order)
    times = np.array([once(predictor, images[number % len(images)], order) for number in range(order["runs"])])
    whole = times.sum(axis=1)
    content = content_of(file)
    return {
        "file": str(file),
        "sha256": sha256_file(content),
        "bytes": content.stat().st_size,
        "runtime": predictor.runtime,
        "file_precision": predictor.precision,
        "imgsz": list(predictor.imgsz),
        "open_ms": round(1e3 * opened, 3),
        **{f"{step}_ms": spread(times[:, place]) for place, step in enumerate(STEPS)},
        "end_to_end_ms": spread(whole),
        "fps": {
            "network": round(float(1 / np.median(times[:, 1])), 2),
            "end_to_end": round(float(1 / np.median(whole)), 2),
        },
        "ram_peak_mib": round(peak_mib(), 1),
        "ram_before_mib": round(before, 1),
    }


def once(predictor: Predictor, image: Image, order: dict[str, Any]) -> tuple[float, float, float]:
    """Return the seconds that preparing an image, the network, and decoding with suppression take."""
    began = time.perf_counter()
    fitted, _, _ = letterbox(image, predictor.imgsz)
    predictor.feed(fitted)
    fed = time.perf_counter()
    predictor.invoke()
    ran = time.perf_counter()
    predictor.decode(order["conf"], order["iou"], order["max_det"])
    return fed - began, ran - fed, time.perf_counter() - ran


def spread(seconds: np.ndarray[Any, Any]) -> dict[str, float]:
    """Return median, 5th and 95th percentile in milliseconds."""
    middle, low, high = np.quantile(seconds, [0.5, 0.05, 0.95]) * 1e3
    return {"median": round(float(middle), 4), "p5": round(float(low), 4), "p95": round(float(high), 4)}


def noise() -> Image:
    """Return a picture of noise, always the same."""
    pixels: Image = np.random.default_rng(0).integers(0, 256, NOISE_SHAPE, dtype=np.uint8)
    return pixels


def peak_mib() -> float:
    """Return the most memory that this process has held, in MiB."""
    if STATUS.is_file():
        # getrusage would count the parent's memory too: it survives the start of a new program
        for line in STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    scale = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # runtimes may take long, or fail, to tear down their threads; the answer is out
    os._exit(0)
