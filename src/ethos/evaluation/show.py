"""Detections in pictures: an image, a folder of images, or a video in, JSON and pictures with boxes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ethos.data.manifest import IMAGE_SUFFIXES
from ethos.errors import DataError
from ethos.evaluation.detect import read_image
from ethos.evaluation.draw import draw
from ethos.evaluation.predictors import content_of, open_predictor
from ethos.files import new_folder, sha256_file, write_json
from ethos_runtime.letterbox import letterbox, to_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ethos.evaluation.predictors import Predictor
    from ethos.specs import ProtocolParams
    from ethos_runtime.letterbox import Image

SCHEMA = 1
REPORT = "detections.json"
VIDEO_SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}
# as given, others become PNG
KEPT_SUFFIXES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True)
class Shot:
    """An image to look at: where it is from, its name among the pictures, and the frame of a video."""

    source: Path
    name: Path
    image: Image
    frame: int | None = None
    seconds: float | None = None


def show(
    source: Path,
    file: Path,
    into: Path,
    params: ProtocolParams,
    contract: Path | None = None,
    frames: int | None = None,
    every: int = 1,
    identity: dict[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Write pictures with boxes and detections.json into a folder; return the document.

    Args:
        source: An image, a folder of images, or a video.
        file: The detector.
        into: A folder that is not there yet, is empty, or was written by this function.
        params: Least score, suppression and number of detections.
        contract: The decode contract; by default the one beside the file.
        frames: Most frames of a video to look at; all if not given.
        every: Look at one of so many frames of a video.
        identity: More about the model, for the document.
        progress: Called with the number of images done.

    Raises:
        DataError: The source cannot be read or holds no image, or the folder holds something else.
        ModelError: The file is no detector.
    """
    if into.exists() and not (into / REPORT).is_file() and (not into.is_dir() or any(into.iterdir())):
        raise DataError(f"{into}: is there already and holds something else", "name a new folder")
    predictor = open_predictor(file, contract=contract)
    shots = _shots(source, frames, every)
    entries = []
    with new_folder(into) as folder:
        for shot in shots:
            entries.append(_look(shot, predictor, params, folder))
            if progress:
                progress(len(entries))
        if not entries:
            raise DataError(f"{source}: holds no image that can be read", "name an image, a folder or a video")
        document = {
            "schema": SCHEMA,
            "provenance": "measured",
            "model": {
                **(identity or {}),
                "sha256": sha256_file(content_of(file)),
                "runtime": predictor.runtime,
                "file_precision": predictor.precision,
                "imgsz": list(predictor.imgsz),
            },
            **params.model_dump(),
            "source": str(source),
            "folder": str(into),
            "images": entries,
        }
        write_json(folder / REPORT, document)
    return document


def _look(shot: Shot, predictor: Predictor, params: ProtocolParams, folder: Path) -> dict[str, Any]:
    """Detect in one image, write its picture, and return its entry of the document."""
    height, width = shot.image.shape[:2]
    fitted, ratio, padding = letterbox(shot.image, predictor.imgsz)
    detections = predictor.predict(fitted, params.conf, params.iou, params.max_det)
    detections = to_source(detections, ratio, padding, (height, width))
    path = folder / shot.name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = cv2.cvtColor(draw(shot.image, detections, predictor.names), cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(path), picture):
        raise DataError(f"{path}: cannot be written", "name a folder that you can write to")
    place = {} if shot.frame is None else {"frame": shot.frame, "seconds": shot.seconds}
    return {
        "source": str(shot.source),
        **place,
        "picture": shot.name.as_posix(),
        "width": width,
        "height": height,
        "detections": [
            {
                "class": predictor.names[int(label)],
                "class_id": int(label),
                "score": round(score, 4),
                "box": [round(side, 2) for side in box],
            }
            for *box, score, label in detections.tolist()
        ],
    }


def _shots(source: Path, frames: int | None, every: int) -> Iterator[Shot]:
    if source.is_dir():
        return _folder(source)
    if source.suffix.lower() in VIDEO_SUFFIXES:
        return _video(source, frames, every)
    return iter([Shot(source, _picture(Path(source.name)), read_image(source))])


def _folder(source: Path) -> Iterator[Shot]:
    for path in sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES):
        yield Shot(path, _picture(path.relative_to(source)), read_image(path))


def _picture(name: Path) -> Path:
    return name if name.suffix.lower() in KEPT_SUFFIXES else name.with_name(f"{name.name}.png")


def _video(source: Path, frames: int | None, every: int) -> Iterator[Shot]:
    if not source.is_file():
        raise DataError(f"{source}: no such file", "check the path")
    capture = cv2.VideoCapture(str(source))
    try:
        if not capture.isOpened():
            raise DataError(
                f"{source}: cannot be read as a video", "convert it, to MP4 say, or name its frames' folder"
            )
        rate = capture.get(cv2.CAP_PROP_FPS) or 0.0
        number = taken = 0
        while frames is None or taken < frames:
            more, pixels = capture.read()
            if not more:
                break
            if number % every == 0:
                taken += 1
                image: Image = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8)
                seconds = round(number / rate, 4) if rate > 0 else None
                yield Shot(source, Path(f"frame_{number:06d}.jpg"), image, number, seconds)
            number += 1
    finally:
        capture.release()
