"""The drawn data set: deterministic, varied, and boxed where its signs are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ethos.catalog import load
from ethos.data.draw import Picture, draw_picture
from ethos.data.glyphs import GLYPHS, text_mask
from ethos.data.signs import SIGNS, draw_sign
from ethos.errors import SpecError
from ethos.specs import DrawnSource

CLASSES = load("dataset", "demo").classes
SIZE = 160


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [draw_picture(index, SIZE, 0, CLASSES) for index in range(96)]


def pixels(picture: Picture) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)


def colours_at(pictures: list[Picture], names: set[str], across: float, down: float) -> np.ndarray:
    """Return BGR [n, 3] at a place inside each box of the named classes, in shares of the box."""
    found = []
    for picture in pictures:
        image = pixels(picture).astype(float)
        for kind, cx, cy, w, h in picture.labels:
            if CLASSES[int(kind)] in names:
                x, y = (np.array([cx + (across - 0.5) * w, cy + (down - 0.5) * h]) * SIZE).astype(int)
                found.append(image[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].mean(axis=(0, 1)))
    return np.array(found)


def test_demo_has_eight_classes_that_can_all_be_drawn() -> None:
    dataset = load("dataset", "demo")
    assert isinstance(dataset.source, DrawnSource)
    assert len(CLASSES) == len(set(CLASSES)) == 8
    assert {"Red Light", "Green Light", "Stop"} <= set(CLASSES) <= set(SIGNS)
    assert sum(name.startswith("Speed Limit") for name in CLASSES) == 4


def test_same_seed_draws_the_same_bytes() -> None:
    first, again = (draw_picture(7, SIZE, 3, CLASSES) for _ in range(2))
    assert first.jpeg == again.jpeg
    assert np.array_equal(first.labels, again.labels)


def test_another_seed_draws_another_picture() -> None:
    assert draw_picture(7, SIZE, 3, CLASSES).jpeg != draw_picture(7, SIZE, 4, CLASSES).jpeg


def test_size_is_that_of_the_spec(pictures: list[Picture]) -> None:
    assert pixels(pictures[0]).shape == (SIZE, SIZE, 3)
    assert pixels(draw_picture(0, 96, 0, CLASSES)).shape == (96, 96, 3)


def test_every_third_picture_is_a_second_view(pictures: list[Picture]) -> None:
    assert [picture.name for picture in pictures[:6]] == [
        "scene_00000.jpg",
        "scene_00001.jpg",
        "scene_00001_f1.jpg",
        "scene_00002.jpg",
        "scene_00003.jpg",
        "scene_00003_f1.jpg",
    ]
    assert pictures[1].labels[:, 0].tolist() == pictures[2].labels[:, 0].tolist()
    assert pictures[1].jpeg != pictures[2].jpeg


def test_boxes_lie_inside_and_are_large_enough_to_read(pictures: list[Picture]) -> None:
    boxes = np.concatenate([picture.labels for picture in pictures])[:, 1:]
    corners = np.hstack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2])
    assert corners.min() >= -1e-6
    assert corners.max() <= 1 + 1e-6
    longer = boxes[:, 2:].max(axis=1)
    assert longer.min() > 0.15
    assert np.median(longer) > 0.28
    assert longer.max() < 0.85


def test_classes_are_balanced_and_few_pictures_are_empty(pictures: list[Picture]) -> None:
    counts = np.bincount(np.concatenate([picture.labels[:, 0] for picture in pictures]).astype(int), minlength=8)
    assert counts.min() >= 0.5 * counts.mean()
    assert counts.max() <= 1.6 * counts.mean()
    assert sum(len(picture.labels) == 0 for picture in pictures) <= 0.1 * len(pictures)
    assert max(len(picture.labels) for picture in pictures) in (2, 3)


@pytest.mark.parametrize(
    ("name", "down", "channel"), [("Green Light", 0.79, 1), ("Red Light", 0.21, 2)], ids=["green", "red"]
)
def test_lit_lamp_is_where_the_box_says(pictures: list[Picture], name: str, down: float, channel: int) -> None:
    found = colours_at(pictures, {name}, 0.5, down)
    other = 3 - channel  # red for green, green for red
    assert len(found) >= 8
    assert np.mean(found[:, channel] > found[:, other] + 20) > 0.8


def test_rings_are_red_just_inside_the_box(pictures: list[Picture]) -> None:
    found = colours_at(pictures, {name for name in CLASSES if name.startswith("Speed")}, 0.06, 0.5)
    assert len(found) >= 40
    assert np.mean(found[:, 2] > found[:, 0] + 20) > 0.8


def test_speed_limits_differ_in_their_digits() -> None:
    drawn = [draw_sign(name, np.random.default_rng(0)).colour.astype(int) for name in SIGNS if name.startswith("Speed")]
    differences = [np.abs(a - b).mean() for place, a in enumerate(drawn) for b in drawn[:place]]
    assert min(differences) > 1.0


@pytest.mark.parametrize("name", sorted(SIGNS))
def test_sign_fills_its_sprite(name: str) -> None:
    alpha = draw_sign(name, np.random.default_rng(1)).alpha
    _, _, width, height = cv2.boundingRect((alpha > 127).astype(np.uint8))
    assert 0.85 * len(alpha) <= max(width, height) <= len(alpha)


@pytest.mark.parametrize("character", sorted(GLYPHS))
def test_glyph_fills_its_frame(character: str) -> None:
    mask = text_mask(character, 60, 90, 0.2)
    assert mask.shape == (90, 60)
    *_, height = cv2.boundingRect((mask > 127).astype(np.uint8))
    assert height >= 84
    assert 0.05 < (mask > 127).mean() < 0.7


def test_unknown_sign_names_the_nearest() -> None:
    with pytest.raises(SpecError) as caught:
        draw_picture(0, SIZE, 0, ("Speed Limit 35",))
    assert caught.value.message == "unknown drawn sign 'Speed Limit 35'"
    assert caught.value.fix.startswith("did you mean Speed Limit ")


def test_one_new_line_in_the_table_is_a_new_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIGNS, "No Sign Yet", SIGNS["Stop"])
    labels = [draw_picture(index, SIZE, 0, ("No Sign Yet",)).labels for index in range(3)]
    assert set(np.concatenate(labels)[:, 0]) == {0.0}
