"""The search for pictures that look alike finds exactly the pairs that comparing all finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from ethos.data import near as near_module
from ethos.data.near import BYTES, codes_of, look_of, near_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray


def brute(codes: NDArray[np.uint8], distance: int) -> dict[tuple[int, int], int]:
    words = codes.view(np.uint64)
    found = {}
    for place, word in enumerate(words):
        apart = np.bitwise_count(word ^ words[place + 1 :]).sum(axis=1)
        for other in np.flatnonzero(apart <= distance).tolist():
            found[place, place + 1 + other] = int(apart[other])
    return found


def search(codes: NDArray[np.uint8], distance: int) -> dict[tuple[int, int], int]:
    found = [
        (tuple(pair), int(apart))
        for pairs, aparts in near_pairs(codes, distance)
        for pair, apart in zip(pairs.tolist(), aparts, strict=True)
    ]
    assert len(found) == len(dict(found)), "a pair came twice"
    return dict(found)


def spread(count: int, flips: int, seed: int, fixed_bytes: int = 0) -> NDArray[np.uint8]:
    """Return hashes, many of which are some flipped bits away from another; the first bytes of all are the same."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (count, BYTES), dtype=np.uint8)
    for place in range(count // 2, count):
        bits = np.unpackbits(codes[rng.integers(0, place)])
        bits[rng.choice(len(bits), rng.integers(1, flips), replace=False)] ^= 1
        codes[place] = np.packbits(bits)
    codes[:, :fixed_bytes] = 0
    return np.unique(codes, axis=0)


@pytest.mark.parametrize("distance", [0, 1, 3, 10, 24])
@pytest.mark.parametrize("seed", range(3))
def test_finds_what_comparing_all_finds(distance: int, seed: int) -> None:
    codes = spread(600, 30, seed)
    assert search(codes, distance) == brute(codes, distance)


@pytest.mark.parametrize("alike_share", [0.02, 1.0], ids=["compared", "divided"])
def test_crowds_are_searched_exactly(monkeypatch: pytest.MonkeyPatch, alike_share: float) -> None:
    monkeypatch.setattr(near_module, "CROWD", 32)
    monkeypatch.setattr(near_module, "ALIKE_SHARE", alike_share)
    codes = spread(700, 16, 5, fixed_bytes=24)
    expected = brute(codes, 10)
    assert len(expected) > 300
    assert search(codes, 10) == expected


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_hashes(count: int) -> None:
    codes = np.zeros((count, BYTES), dtype=np.uint8)
    codes[1:, 0] = 1
    assert search(codes, 10) == ({(0, 1): 1} if count == 2 else {})


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((160, 120), Image.Resampling.BICUBIC)


def distance(first: Image.Image, second: Image.Image) -> int:
    one, other = codes_of([look_of(first), look_of(second)])
    return int(np.bitwise_count(one ^ other).sum())


def test_a_changed_copy_is_near_and_another_picture_is_far() -> None:
    image = picture(0)
    brighter = image.point(lambda value: min(value + 6, 255))
    assert distance(image, brighter) <= 10
    assert distance(image, image.resize((80, 60))) <= 10
    assert distance(image, picture(1)) > 60


def test_a_picture_of_one_colour_has_no_look() -> None:
    assert look_of(Image.new("RGB", (64, 64), (10, 200, 30))) == ""
    assert len(look_of(picture(0))) == 2 * BYTES
