"""The split: related images stay together, and classes stay close to the wanted share."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ethos.data import split as split_module
from ethos.data.split import Item, counterparts, divide, group
from ethos.specs import Split

SPLIT = Split(track=r"^(?P<class>\d{5})_(?P<track>\d{5})_\d{5}")


def item(name: str, sha256: str | None = None, classes: tuple[int, ...] = ()) -> Item:
    return Item(name, sha256 or f"bytes of {name}", classes)


def random_items(seed: int, images: int, classes: int) -> list[Item]:
    """Return images in tracks of uneven length, with classes of uneven frequency."""
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, classes + 1)
    tracks = rng.integers(0, images // 2, images)
    return [
        item(
            f"00000_{track:05d}_{number:05d}.jpg",
            classes=tuple(int(kind) for kind in rng.choice(classes, rng.integers(0, 3), p=weights / weights.sum())),
        )
        for number, track in enumerate(tracks)
    ]


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (item("a.jpg", "same"), item("b.jpg", "same"), True),
        (item("a.jpg"), item("b.jpg"), False),
        (item("a_jpg.rf.111.jpg"), item("a_jpg.rf.222.jpg"), True),
        (item("a_jpg.rf.111.jpg"), item("b_jpg.rf.222.jpg"), False),
        (item("a_jpg.rf.111.jpg"), item("a_jpg.rf.111-2.jpg"), True),
        (item("1.jpg"), item("1.png"), False),
        (item("00001_00002_00003_png.rf.1.jpg"), item("00001_00002_00004_png.rf.2.jpg"), True),
        (item("00001_00002_00003_png.rf.1.jpg"), item("00001_00009_00003_png.rf.2.jpg"), False),
        (item("00001_00002_00003_png.rf.1.jpg"), item("00007_00002_00003_png.rf.2.jpg"), False),
    ],
    ids=[
        "same bytes",
        "other bytes",
        "same original",
        "other original",
        "renamed on a clash",
        "plain names are no key",
        "same track",
        "other track",
        "other class",
    ],
)
def test_related_images_form_a_group(first: Item, second: Item, together: bool) -> None:
    groups = group([first, second], SPLIT)
    assert (groups[0] == groups[1]) is together


def test_groups_join_through_a_common_third() -> None:
    chain = [
        item("x.rf.1.jpg"),
        item("x.rf.2.jpg", "same"),
        item("00000_00000_00001.rf.3.jpg", "same"),
        item("00000_00000_00002.rf.4.jpg"),
        item("other.jpg"),
    ]
    assert group(chain, SPLIT) == ["00000_00000_00001.rf.3.jpg"] * 4 + ["other.jpg"]


def test_without_a_track_expression_tracks_are_not_grouped() -> None:
    assert len(set(group([item("00000_00000_00001.jpg"), item("00000_00000_00002.jpg")], Split()))) == 2


def test_a_new_key_is_one_function_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(split_module.KEYS, "first_letter", lambda items, _: [each.name[0] for each in items])
    items = [item("apple.jpg"), item("avocado.jpg"), item("banana.jpg")]
    assert group(items, Split()) == ["apple.jpg", "apple.jpg", "banana.jpg"]
    assert counterparts(items, ["train", "val", "val"], "first_letter", Split()) == [None, 0, None]


def test_leak_counts_validation_images_only() -> None:
    items = [item("a.rf.1.jpg"), item("a.rf.2.jpg"), item("a.rf.3.jpg"), item("b.rf.1.jpg"), item("plain.jpg")]
    assert counterparts(items, ["train", "val", "val", "val", "val"], "name", SPLIT) == [None, 0, 0, None, None]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("images", "classes"), [(60, 3), (400, 8), (2000, 15)], ids=["60", "400", "2000"])
def test_division_is_grouped_exact_and_stratified(images: int, classes: int, seed: int) -> None:
    items = random_items(seed, images, classes)
    groups = group(items, SPLIT)
    sides = divide(items, groups, classes, SPLIT)
    side_of = dict(zip(groups, sides, strict=True))
    assert all(side_of[name] == side for name, side in zip(groups, sides, strict=True))
    assert sides.count("val") / images == pytest.approx(0.2, abs=0.02)
    total = Counter(kind for each in items for kind in each.classes)
    val = Counter(kind for each, side in zip(items, sides, strict=True) for kind in each.classes if side == "val")
    for kind, count in total.items():
        homes = {name for each, name in zip(items, groups, strict=True) if kind in each.classes}
        assert val[kind] == pytest.approx(0.2 * count, abs=max(2.0, 0.05 * count))
        assert len(homes) < 2 or 0 < val[kind] < count


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_fraction_is_that_of_the_spec(fraction: float) -> None:
    items = random_items(0, 400, 4)
    sides = divide(items, group(items, SPLIT), 4, Split(val_fraction=fraction))
    assert sides.count("val") / 400 == pytest.approx(fraction, abs=0.01)


def test_division_depends_on_the_seed_alone() -> None:
    items = random_items(1, 200, 4)
    groups = group(items, SPLIT)
    sides = divide(items, groups, 4, SPLIT)
    assert divide(items, groups, 4, SPLIT) == sides
    assert divide(items, groups, 4, Split(seed=1)) != sides
    back = divide(items[::-1], groups[::-1], 4, SPLIT)
    assert back[::-1] == sides


def test_two_groups_of_a_rare_class_part() -> None:
    items = [item(f"{number}.jpg", classes=(0,)) for number in range(98)]
    items += [item("rare1.jpg", classes=(1,)), item("rare2.jpg", classes=(1,))]
    sides = divide(items, group(items, SPLIT), 2, SPLIT)
    assert set(sides[-2:]) == {"train", "val"}
    assert sides.count("val") == 20


def test_classes_out_of_range_do_not_stop_the_split() -> None:
    items = [item(f"{number}.jpg", classes=(99, -1)) for number in range(10)]
    assert divide(items, group(items, SPLIT), 2, SPLIT).count("val") == 2


# --- looks -----------------------------------------------------------------------------------------------------------


def look(flipped: int = 0, start: int = 0) -> str:
    """Return a difference hash in hex: a fixed one with some bits flipped, from `start` on."""
    bits = np.random.default_rng(0).integers(0, 2, 256, dtype=np.uint8)
    bits[start : start + flipped] ^= 1
    return np.packbits(bits).tobytes().hex()


def shown(name: str, hexed: str) -> Item:
    return Item(name, f"bytes of {name}", (), hexed)


@pytest.mark.parametrize(
    ("flipped", "near", "together"),
    [(0, 10, True), (10, 10, True), (11, 10, False), (0, 0, True), (1, 0, False), (0, None, False)],
)
def test_images_that_look_alike_form_a_group(flipped: int, near: int | None, together: bool) -> None:
    groups = group([shown("a.jpg", look()), shown("b.jpg", look(flipped))], Split(near=near))
    assert (groups[0] == groups[1]) is together


def test_images_without_a_look_are_not_alike() -> None:
    assert len(set(group([shown("a.jpg", ""), shown("b.jpg", "")], Split()))) == 2


def test_looks_chain_into_groups_but_leak_only_directly() -> None:
    items = [shown("a.jpg", look()), shown("b.jpg", look(8)), shown("c.jpg", look(8, 8)), shown("d.jpg", look(16))]
    # a-b, b-d and c-d, a-c are 8 bits apart, b-c and a-d 16
    assert group(items, Split()) == ["a.jpg"] * 4
    assert counterparts(items, ["train", "val", "val", "val"], "near", Split()) == [None, 0, 0, None]


def test_the_nearest_training_image_is_the_counterpart() -> None:
    items = [shown("far.jpg", look(9)), shown("near.jpg", look(2)), shown("val.jpg", look()), shown("test.jpg", look())]
    sides = ["train", "train", "val", "test"]
    assert counterparts(items, sides, "near", Split()) == [None, None, 1, None]
    assert counterparts(items, sides, "near", Split(), held="test", against=("train", "val")) == [None, None, None, 2]


# --- groups that have a side already ---------------------------------------------------------------------------------


def test_fixed_groups_keep_their_side_and_the_others_make_up_for_it() -> None:
    items = random_items(3, 400, 4)
    groups = group(items, SPLIT)
    before = dict(zip(groups, divide(items, groups, 4, SPLIT), strict=True))
    more = [*items, *(item(f"new{number}.jpg", classes=(number % 4,)) for number in range(200))]
    grown = group(more, SPLIT)
    sides = divide(more, grown, 4, SPLIT, before)
    after = dict(zip(grown, sides, strict=True))
    assert all(after[name] == side for name, side in before.items())
    assert sides.count("val") / len(more) == pytest.approx(0.2, abs=0.005)
    val = Counter(kind for each, side in zip(more, sides, strict=True) for kind in each.classes if side == "val")
    total = Counter(kind for each in more for kind in each.classes)
    assert all(val[kind] == pytest.approx(0.2 * count, abs=2) for kind, count in total.items())


def test_all_groups_fixed() -> None:
    items = [item(f"{number}.jpg") for number in range(4)]
    groups = group(items, SPLIT)
    sides = ["val", "train", "train", "val"]
    assert divide(items, groups, 1, SPLIT, dict(zip(groups, sides, strict=True))) == sides
