"""What evaluation costs: what comes before and after the network, and the intervals.

    python benchmarks/evaluation.py INT8 [--images FOLDER] [--data DATA] [--json FILE]

share      preparing an image, decoding and suppression, as a share of the INT8 network's time on one thread; INT8 is a
           file of 640 x 640 (8,400 anchors) with its decode.json beside it, and the aim at most 0.25. Without images it
           sees noise, where an evaluation's low threshold lets through more than any photograph does
intervals  seconds for 1,000 resamples of the images in DATA (a materialised data set of the file's classes); aim 2
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

RESAMPLES = 1000


def share(file: Path, folder: Path | None) -> dict[str, object]:
    """Return the share at the score of a demonstration and at the one of an evaluation."""
    from ethos.evaluation.speed import Load, bench, some_images

    images = some_images(folder) if folder else ()
    found = {}
    for conf in (0.25, 0.001):
        (entry,) = bench([file], Load(threads=1, conf=conf, runs=100, images=images))["files"]
        parts = {part: entry[f"{part}_ms"]["median"] for part in ("preprocess", "network", "postprocess")}
        ratio = (parts["preprocess"] + parts["postprocess"]) / parts["network"]
        found[f"conf {conf}"] = {**parts, "share": round(ratio, 3)}
    return found


def intervals(file: Path, data: Path) -> dict[str, object]:
    """Return the seconds that scoring and the resamples take."""
    from ethos.evaluation.bootstrap import Draws
    from ethos.evaluation.evaluate import assess
    from ethos.evaluation.samples import load_samples
    from ethos.specs import ProtocolParams

    samples = load_samples(data, "val")
    scored = assess(file, samples, ProtocolParams())
    began = time.perf_counter()
    Draws(scored.matches, len(samples.names), RESAMPLES)
    seconds = time.perf_counter() - began
    return {"images": len(samples.samples), "detections": len(scored.matches.score), "seconds": round(seconds, 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="an INT8 TFLite file with a raw head")
    parser.add_argument("--images", type=Path, help="a folder of images, for the share")
    parser.add_argument("--data", type=Path, help="a materialised data set, for the intervals")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    found: dict[str, object] = {"share": share(arguments.file, arguments.images)}
    if arguments.data:
        found["intervals"] = intervals(arguments.file, arguments.data)
    print(json.dumps(found, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
