"""Figures beside mAP: against COCO's own code, intervals, sizes, confusions, and two files compared."""

from __future__ import annotations

import time
from contextlib import redirect_stdout
from io import StringIO
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ethos.evaluation.bootstrap import Draws, interval, paired
from ethos.evaluation.compare import compare
from ethos.evaluation.detect import ImageResult
from ethos.evaluation.matching import match
from ethos.evaluation.metrics import confusion, score
from ethos.evaluation.precision import average_precisions, means
from ethos.evaluation.sizes import size_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMES = ("a", "b", "c", "d", "e")
SIDE = 640


def scene(rng: np.random.Generator, ratio: float = 1.0) -> ImageResult:
    """Return an image with objects of all sizes, most of them found, some twice or as another class, some invented."""
    count = int(rng.integers(0, 8))
    sides = np.exp(rng.uniform(np.log(12), np.log(250), (count, 2)))
    corners = rng.uniform(0, SIDE - sides)
    kinds = rng.integers(0, len(NAMES), count)
    boxes = np.concatenate((corners, corners + sides), axis=1)
    rows = []
    for box, kind, size in zip(boxes, kinds, sides, strict=True):
        for copy in range(int(rng.choice((0, 1, 1, 1, 1, 2)))):
            moved = box + rng.normal(0, 0.06 + 0.1 * copy, 4) * np.tile(size, 2)
            label = kind if rng.random() < 0.9 else (kind + 1) % len(NAMES)
            rows.append([*moved, rng.beta(5, 2), label])
    for _ in range(int(rng.integers(0, 6))):
        size = np.exp(rng.uniform(np.log(12), np.log(250), 2))
        corner = rng.uniform(0, SIDE - size)
        rows.append([*corner, *(corner + size), rng.beta(2, 4), rng.integers(0, len(NAMES))])
    detections = np.array(sorted(rows, key=lambda row: -row[4]), np.float32).reshape(-1, 6)
    labels = np.concatenate((kinds[:, None], boxes), axis=1, dtype=np.float32)
    return ImageResult(detections, labels, ratio, (round(SIDE / ratio), round(SIDE / ratio)))


@pytest.fixture(scope="module")
def images() -> list[ImageResult]:
    rng = np.random.default_rng(11)
    return [scene(rng) for _ in range(300)]


def coco(images: Sequence[ImageResult]) -> np.ndarray:
    """Return COCO's twelve figures of the detections."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        for kind, x1, y1, x2, y2 in image.labels.tolist():
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(kind),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
        for x1, y1, x2, y2, value, kind in image.detections.tolist():
            box = [x1, y1, x2 - x1, y2 - y1]
            found.append({"image_id": number, "category_id": int(kind), "bbox": box, "score": value})
    truth = COCO()
    truth.dataset = {
        "images": [{"id": number} for number in range(len(images))],
        "categories": [{"id": number} for number in range(len(NAMES))],
        "annotations": annotations,
    }
    with redirect_stdout(StringIO()):
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(found), "bbox")
        judge.params.maxDets = [1, 100, 300]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"]  # [IoU, recall, class, area, detections]

    def mean(values: np.ndarray) -> float:
        return float(values[values > -1].mean())

    by_area = [mean(precision[..., area, 2]) for area in (1, 2, 3)]
    return np.array([mean(precision[0, ..., 0, 2]), mean(precision[..., 0, 2]), *by_area])


def test_the_scores_are_those_of_coco(images: list[ImageResult]) -> None:
    theirs = coco(images)
    ours = score(images, NAMES)
    assert 0.4 < ours.map50 < 0.95  # a case that can tell formulas apart
    assert ours.map50 == pytest.approx(theirs[0], abs=0.01)
    assert ours.map50_95 == pytest.approx(theirs[1], abs=0.01)
    sizes = size_scores(images, match(images), len(NAMES))["sizes"]
    assert [sizes[size]["map50_95"] for size in ("small", "medium", "large")] == pytest.approx(theirs[2:], abs=0.015)


# --- resamples -------------------------------------------------------------------------------------------------------


def test_every_image_once_gives_the_score_itself(images: list[ImageResult]) -> None:
    matches = match(images)
    scored = average_precisions(matches, np.ones((1, len(images)), np.float32), len(NAMES))
    ours = score(images, NAMES, matches)
    assert [value[0] for value in means(scored)] == pytest.approx([ours.map50, ours.map50_95], abs=1e-6)
    assert scored[0, :, 0] == pytest.approx([entry.map50 for entry in ours.per_class], abs=1e-6)


def test_a_resample_is_the_score_of_the_images_drawn(images: list[ImageResult]) -> None:
    """Against Ultralytics' own figures of a set in which images stand as often as they were drawn."""
    few = images[:60]
    matches = match(few)
    rng = np.random.default_rng(2)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=5).astype(np.float32)
    map50, map50_95 = means(average_precisions(matches, weights, len(NAMES)))
    for row, one, other in zip(weights, map50, map50_95, strict=True):
        drawn = [image for image, times in zip(few, row, strict=True) for _ in range(int(times))]
        theirs = score(drawn, NAMES)
        # copies of a right detection come one by one there and at once here, and samples of recall fall between them
        assert one == pytest.approx(theirs.map50, abs=0.005)
        assert other == pytest.approx(theirs.map50_95, abs=0.005)


def test_a_class_that_is_not_drawn_does_not_count() -> None:
    box = [10.0, 10, 50, 50]
    one = ImageResult(np.array([[*box, 0.9, 0]], np.float32), np.array([[0, *box]], np.float32))
    missed = ImageResult(np.zeros((0, 6), np.float32), np.array([[1, *box]], np.float32))
    scored = average_precisions(match([one, missed]), np.array([[2, 0], [0, 2], [1, 1]], np.float32), 2)
    assert np.isnan(scored[0, 1]).all()
    assert np.isnan(scored[1, 0]).all()
    np.testing.assert_allclose(means(scored)[0], [0.995, 0.0, 0.4975], atol=1e-6)


def test_intervals_are_repeatable_and_hold_the_score(images: list[ImageResult]) -> None:
    matches = match(images)
    one, again, other = (Draws(matches, len(NAMES), 200, seed) for seed in (1, 1, 2))
    assert one.document() == again.document() != other.document()
    low, high = one.document()["map50"]
    assert low < score(images, NAMES, matches).map50 < high
    assert 0.01 < high - low < 0.15
    fewer = Draws(match(images[:50]), len(NAMES), 200, 1).document()["map50"]
    assert fewer[1] - fewer[0] > 1.5 * (high - low)


def test_a_thousand_resamples_take_seconds(images: list[ImageResult]) -> None:
    matches = match(images[:160])
    began = time.process_time()
    Draws(matches, len(NAMES), 1000)
    assert time.process_time() - began < 4


def test_an_interval_leaves_a_fortieth_on_each_side() -> None:
    assert interval(np.arange(1001) / 1000) == [0.025, 0.975]


# --- two files -------------------------------------------------------------------------------------------------------


def worse(images: list[ImageResult], share: float) -> list[ImageResult]:
    """Return the images with a share of the detections taken away."""
    rng = np.random.default_rng(4)
    kept = [image.detections[rng.random(len(image.detections)) >= share] for image in images]
    return [ImageResult(rows, image.labels, image.ratio, image.shape) for image, rows in zip(images, kept, strict=True)]


def test_a_paired_difference_is_surer_than_two_intervals(images: list[ImageResult]) -> None:
    good, bad = (Draws(match(found), len(NAMES), 300) for found in (images, worse(images, 0.05)))
    found = paired(good, bad, "map50")
    assert found["interval"][0] > 0
    assert found["probability"] > 0.99
    assert good.document()["map50"][0] < bad.document()["map50"][1]  # the intervals alone overlap
    assert paired(bad, good, "map50")["probability"] == pytest.approx(1 - found["probability"])
    assert paired(good, good, "map50") == {"interval": [0.0, 0.0], "probability": 0.5}


def test_compare_names_the_classes(images: list[ImageResult]) -> None:
    def scored(found: list[ImageResult]) -> Any:
        matches = match(found)
        protocol = SimpleNamespace(model_dump=lambda **_: {"conf": 0.001, "tools": {}})
        return SimpleNamespace(
            file="x",
            sha256="0",
            protocol=protocol,
            scores=score(found, NAMES, matches),
            draws=Draws(matches, len(NAMES), 100),
        )

    one, other = scored(images), scored(worse(images, 0.1))
    document = compare(one, other)
    difference = document["difference"]["map50"]
    assert difference["value"] == pytest.approx(one.scores.map50 - other.scores.map50, abs=1e-6)
    assert difference["interval"][0] < difference["value"] < difference["interval"][1]
    assert [entry["name"] for entry in document["per_class"]] == list(NAMES)
    assert all(entry["map50"] > 0 for entry in document["per_class"])


# --- sizes and confusions --------------------------------------------------------------------------------------------


def one_image(boxes: list[list[float]], found: list[list[float]], ratio: float = 1.0) -> list[ImageResult]:
    return [
        ImageResult(
            np.array(found, np.float32).reshape(-1, 6), np.array(boxes, np.float32).reshape(-1, 5), ratio, (640, 640)
        )
    ]


def test_sizes_are_pixels_of_the_source() -> None:
    """A box of 60 px in an image shown at twice its size has 30 px in the source: small."""
    images = one_image([[0, 0, 0, 60, 60]], [[0, 0, 60, 60, 0.9, 0]], ratio=2.0)
    sizes = size_scores(images, match(images), 1)["sizes"]
    assert {name: entry["boxes"] for name, entry in sizes.items()} == {"small": 1, "medium": 0, "large": 0}
    assert sizes["small"]["map50"] == pytest.approx(0.995)
    assert sizes["medium"] == {"boxes": 0, "map50": None, "map50_95": None}


def test_what_is_of_another_size_is_set_aside() -> None:
    small, large = [0.0, 0, 20, 20], [100.0, 100, 300, 300]
    invented = [400.0, 400, 410, 410]
    images = one_image([[0, *small], [0, *large]], [[*large, 0.9, 0], [*invented, 0.8, 0], [*small, 0.7, 0]])
    sizes = size_scores(images, match(images), 1)["sizes"]
    assert sizes["large"]["map50"] == pytest.approx(0.995)
    # the invented box is small, and comes before the right one: precision 1/2
    assert sizes["small"]["map50"] == pytest.approx(0.4975)


def test_confusions_with_the_background() -> None:
    box, far = [0.0, 0, 50, 50], [200.0, 200, 260, 260]
    images = one_image([[0, *box], [1, *far]], [[*box, 0.9, 1], [400, 400, 450, 450, 0.9, 0], [*box, 0.1, 0]])
    found = confusion(images, ("a", "b"))
    assert found["labels"] == ["a", "b", "background"]
    assert (found["conf"], found["iou"]) == (0.25, 0.45)
    # a taken for b; b missed; one a where nothing is
    assert found["matrix"] == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
