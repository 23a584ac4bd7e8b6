"""Score a detector file on one side of a data set."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ethos.evaluation.detect import open_predictor, predict_all
from ethos.evaluation.metrics import score
from ethos.evaluation.protocol import Protocol, ap_implementation, tool_versions
from ethos.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ethos.evaluation.samples import SampleSet
    from ethos.specs import ProtocolParams

SCHEMA = 1


def evaluate(
    file: Path,
    data: SampleSet,
    params: ProtocolParams,
    contract: Path | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Return the scores of a detector file as a JSON document, with the protocol and the file's hash.

    Args:
        file: A TFLite detector.
        data: Images and labels, from `ethos.evaluation.samples.load_samples`.
        params: Post-processing.
        contract: The decode contract; see `ethos.evaluation.detect.open_predictor`.
        workers: Images worked on at a time; the number of processors if not given. Scores do not depend on it.
        progress: Called with the number of images done and of all images.

    Raises:
        ModelError: The file is missing or broken, or does not fit contract or data set.
        DataError: An image cannot be read.
    """
    count = min(workers or os.cpu_count() or 1, len(data.samples))
    predictors = [open_predictor(file, data.names, contract) for _ in range(count)]
    found = predict_all(predictors, data.samples, params.conf, params.iou, params.max_det, progress)
    protocol = protocol_of(data, params, predictors[0].imgsz)
    return {
        "schema": SCHEMA,
        "provenance": "measured",
        "file": str(file),
        "sha256": sha256_file(file),
        "protocol": protocol.document(),
        **score(found, data.names).document(),
    }


def protocol_of(data: SampleSet, params: ProtocolParams, imgsz: tuple[int, int]) -> Protocol:
    """Return the protocol under which `evaluate` scores a detector of that input size."""
    return Protocol(
        dataset=data.dataset,
        split=data.split,
        split_sha256=data.split_sha256,
        labels_sha256=data.labels_sha256,
        imgsz=imgsz,
        conf=params.conf,
        iou=params.iou,
        max_det=params.max_det,
        ap=ap_implementation(),
        batch=1,
        device="cpu",
        tools=tool_versions(),
    )
