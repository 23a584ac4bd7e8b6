"""Score a detector file on one side of a data set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ethos.evaluation.bootstrap import RESAMPLES, Draws
from ethos.evaluation.detect import ImageResult, predict_all
from ethos.evaluation.matching import Matches, match
from ethos.evaluation.metrics import Scores, confusion, score
from ethos.evaluation.predictors import Size, content_of, open_predictor, require_precision
from ethos.evaluation.protocol import Protocol, ap_implementation, tool_versions
from ethos.evaluation.sizes import size_scores
from ethos.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ethos.evaluation.networks import Precision
    from ethos.evaluation.samples import SampleSet
    from ethos.specs import ProtocolParams

SCHEMA = 1


@dataclass(frozen=True)
class Options:
    """How to run a file.

    Attributes:
        contract: The decode contract; see `ethos.evaluation.predictors.open_predictor`.
        imgsz: Height and width of the input; see there.
        precision: Refuse a file of another precision.
        workers: Images worked on at a time; the number of processors if not given. Scores do not depend on it.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """

    contract: Path | None = None
    imgsz: Size | None = None
    precision: Precision | None = None
    workers: int | None = None
    resamples: int = RESAMPLES
    seed: int = 0


@dataclass(frozen=True)
class Scored:
    """A file's detections on a set of images, and what they are worth.

    Attributes:
        file: The file.
        sha256: Its hash.
        data: The images.
        protocol: How the score was taken.
        runtime: The package that ran the file.
        precision: Of the file.
        found: Detections beside labels, in the order of the images.
        matches: Which of them are right.
        scores: The figures.
        draws: The figures of resampled images.
    """

    file: Path
    sha256: str
    data: SampleSet
    protocol: Protocol
    runtime: str
    precision: Precision
    found: list[ImageResult]
    matches: Matches
    scores: Scores
    draws: Draws

    def document(self) -> dict[str, Any]:
        """Return all of it as a JSON document."""
        scores = self.scores.document()
        intervals = self.draws.class_intervals()
        scores["per_class"] = [
            {**entry, "map50_interval": found} for entry, found in zip(scores["per_class"], intervals, strict=True)
        ]
        return {
            "schema": SCHEMA,
            "provenance": "measured",
            "file": str(self.file),
            "sha256": self.sha256,
            "runtime": self.runtime,
            "file_precision": self.precision,
            "protocol": self.protocol.document(),
            **scores,
            "intervals": self.draws.document(),
            **size_scores(self.found, self.matches, len(self.data.names)),
            "confusion": confusion(self.found, self.data.names),
        }


def assess(
    file: Path,
    data: SampleSet,
    params: ProtocolParams,
    options: Options | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scored:
    """Return the scores of a detector file, with the protocol and the file's hash.

    Args:
        file: A detector; see `ethos.evaluation.predictors.open_predictor`.
        data: Images and labels, from `ethos.evaluation.samples.load_samples`.
        params: Post-processing.
        options: How to run it.
        progress: Called with the number of images done and of all images.

    Raises:
        ModelError: The file is missing or broken, or does not fit contract, data set or options.
        DataError: An image cannot be read.
    """
    options = options or Options()
    predictors = _predictors(file, data, options)
    found = predict_all(predictors, data.samples, params.conf, params.iou, params.max_det, progress)
    matches = match(found)
    return Scored(
        file=file,
        sha256=sha256_file(content_of(file)),
        data=data,
        protocol=protocol_of(data, params, predictors[0].imgsz),
        runtime=predictors[0].runtime,
        precision=predictors[0].precision,
        found=found,
        matches=matches,
        scores=score(found, data.names, matches),
        draws=Draws(matches, len(data.names), options.resamples, options.seed),
    )


def _predictors(file: Path, data: SampleSet, options: Options) -> list[Any]:
    def opened() -> Any:
        return open_predictor(file, data.names, options.contract, imgsz=options.imgsz)

    first = opened()
    if options.precision:
        require_precision(first, options.precision, file)
    count = min(options.workers or os.cpu_count() or 1, len(data.samples)) if first.parallel else 1
    return [first, *(opened() for _ in range(count - 1))]


def protocol_of(data: SampleSet, params: ProtocolParams, imgsz: Size) -> Protocol:
    """Return the protocol under which `assess` scores a detector of that input size."""
    return Protocol(
        dataset=data.dataset,
        split=data.split,
        split_sha256=data.split_sha256,
        labels_sha256=data.labels_sha256,
        excluded=data.excluded,
        imgsz=imgsz,
        conf=params.conf,
        iou=params.iou,
        max_det=params.max_det,
        ap=ap_implementation(),
        batch=1,
        device="cpu",
        tools=tool_versions(),
    )
