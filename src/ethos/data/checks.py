"""The data checks: each is one function whose docstring is the sentence that the user reads.

A check turns the facts into one number for each thing it judges and gives the bounds; `ethos.data.expectations` has
Great Expectations compare them. A new check is one function and one line in `CHECKS`; `warn_only` in the data set's
spec makes any of them a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethos.data.expectations import Judged, Severity
from ethos.data.image import PLAIN_MODES, is_named_right
from ethos.data.manifest import SIDES
from ethos.data.repairs import SAME_DECIMALS, canonical
from ethos.data.split import NEAR, RELATIONS, counterparts

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ethos.data.facts import Facts
    from ethos.data.findings import Kind

BOX_ROUNDING = 0.001  # share of the image by which a box may reach out; label files are rounded


@dataclass(frozen=True)
class Check:
    """A check's function and how severe its failure is."""

    judge: Callable[[Facts], Judged]
    severity: Severity = "error"


# --- the split -------------------------------------------------------------------------------------------------------


def split_ratio(facts: Facts) -> Judged:
    """The share of validation images is the declared one, within the tolerance."""
    split = facts.dataset.split
    divided = [side for side in facts.sides() if side in SIDES]
    share = divided.count("val") / max(len(divided), 1)
    low, high = split.val_fraction - split.tolerance, split.val_fraction + split.tolerance
    return Judged("data set", [round(share, 6)], round(low, 6), round(high, 6))


def leak_bytes(facts: Facts) -> Judged:
    """No validation image is byte for byte a training image."""
    return _leak("bytes", facts)


def leak_name(facts: Facts) -> Judged:
    """No validation image comes from the same original picture as a training image."""
    return _leak("name", facts)


def leak_track(facts: Facts) -> Judged:
    """No validation image is from the same track or sequence as a training image."""
    return _leak("track", facts)


def leak_near(facts: Facts) -> Judged:
    """No validation image looks nearly like a training image."""
    return _leak(NEAR, facts)


def leak_test(facts: Facts) -> Judged:
    """No test image is related to a training or validation image, by bytes, name, track or look."""
    found: list[int | None] = [None] * len(facts.rows)
    for relation in RELATIONS:
        other = counterparts(facts.items, facts.sides(), relation, facts.dataset.split, "test", SIDES)
        found = [new if old is None else old for old, new in zip(found, other, strict=True)]
    return _leaks(found, facts)


def _leak(relation: str, facts: Facts) -> Judged:
    return _leaks(counterparts(facts.items, facts.sides(), relation, facts.dataset.split), facts)


def _leaks(found: list[int | None], facts: Facts) -> Judged:
    details = ["" if place is None else facts.name(facts.rows[place].path) for place in found]
    return Judged("images", [int(place is not None) for place in found], maximum=0, details=details)


# --- classes ---------------------------------------------------------------------------------------------------------


def class_present(facts: Facts) -> Judged:
    """Every declared class has boxes."""
    return Judged("classes", facts.class_counts().sum(axis=0).tolist(), minimum=1)


def class_both_sides(facts: Facts) -> Judged:
    """Every class that has boxes has enough of them in train and in val."""
    counts = facts.class_counts()
    fewest = [
        int(least) if total else None for least, total in zip(counts.min(axis=0), counts.sum(axis=0), strict=True)
    ]
    return Judged("classes", fewest, minimum=facts.dataset.checks.min_boxes_per_class)


def class_shares(facts: Facts) -> Judged:
    """Every class has about the same share of the boxes in train and in val."""
    counts = facts.class_counts()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    differences = np.abs(shares[0] - shares[1]).round(6).tolist()
    return Judged("classes", differences, maximum=facts.dataset.checks.max_class_share_difference)


def class_ids(facts: Facts) -> Judged:
    """Every box's class is one of the declared classes."""
    return Judged("boxes", facts.boxes[:, 0].tolist(), minimum=0, maximum=len(facts.dataset.classes) - 1)


# --- files -----------------------------------------------------------------------------------------------------------


def image_readable(facts: Facts) -> Judged:
    """Every image decodes to its end."""
    return Judged("images", [int(seen.whole) for seen in facts.seen], minimum=1)


def image_side(facts: Facts) -> Judged:
    """Every image's shorter side has enough pixels."""
    sides = [min(row.width, row.height) or None for row in facts.rows]
    return Judged("images", sides, minimum=facts.dataset.checks.min_image_side)


def image_channels(facts: Facts) -> Judged:
    """Every image is grey or red, green and blue, with 8 bits each."""
    plain = [int(seen.mode in PLAIN_MODES) if seen.mode else None for seen in facts.seen]
    return Judged("images", plain, minimum=1, details=[seen.mode for seen in facts.seen])


def image_blank(facts: Facts) -> Judged:
    """No image is blank: its grey values span enough of the range from 0 to 255."""
    contrasts = [seen.contrast if seen.whole else None for seen in facts.seen]
    return Judged("images", contrasts, minimum=facts.dataset.checks.min_contrast)


def image_format(facts: Facts) -> Judged:
    """Every image's name ends as its content says."""
    right = [int(is_named_right(seen, row.path)) for seen, row in zip(facts.seen, facts.rows, strict=True)]
    return Judged("images", right, minimum=1, details=[seen.form for seen in facts.seen])


def image_upright(facts: Facts) -> Judged:
    """Every image is stored as it is shown; tools differ in whether they follow a turn in its EXIF data."""
    return Judged("images", [int(seen.upright) for seen in facts.seen], minimum=1)


def image_stem(facts: Facts) -> Judged:
    """No two images have their boxes from one label file."""
    return _count_findings("stem", facts)


def label_file(facts: Facts) -> Judged:
    """Every image has a label file, which is empty where there is nothing to detect."""
    present = set(facts.labels)
    return Judged("images", [int(row.label in present) for row in facts.rows], minimum=1)


def label_orphan(facts: Facts) -> Judged:
    """Every label file belongs to an image."""
    wanted = {row.label for row in facts.rows}
    return Judged("labels", [int(path in wanted) for path in facts.labels], minimum=1)


def label_lines(facts: Facts) -> Judged:
    """Every line of a label file is a box: a class and four finite numbers; others were left out."""
    return _count_findings("malformed", facts)


def label_polygons(facts: Facts) -> Judged:
    """No line of a label file is a polygon; the box around it was taken instead."""
    return _count_findings("polygon", facts)


def label_size(facts: Facts) -> Judged:
    """Every image is as large as its labels say."""
    return _count_findings("size", facts)


def label_conflict(facts: Facts) -> Judged:
    """Every image that is there twice, byte for byte, has the same boxes each time."""
    places = np.searchsorted(facts.owners, np.arange(len(facts.rows) + 1))
    first: dict[str, int] = {}
    differs: list[int | None] = [None] * len(facts.rows)
    for place, row in enumerate(facts.rows):
        other = first.setdefault(row.sha256, place)
        if other != place and _boxes(facts, places, other) != _boxes(facts, places, place):
            differs[place], differs[other] = other, place
    details = ["" if other is None else facts.name(facts.rows[other].path) for other in differs]
    return Judged("images", [int(other is not None) for other in differs], maximum=0, details=details)


def _boxes(facts: Facts, places: NDArray[np.intp], place: int) -> tuple[tuple[float, ...], ...]:
    return canonical(facts.boxes[places[place] : places[place + 1]])


def _count_findings(kind: Kind, facts: Facts) -> Judged:
    found = facts.found(kind)
    texts = [found.get(row.path.name, []) for row in facts.rows]
    return Judged("images", [len(each) for each in texts], maximum=0, details=["; ".join(each) for each in texts])


# --- boxes -----------------------------------------------------------------------------------------------------------


def box_inside(facts: Facts) -> Judged:
    """Every box lies inside its image."""
    middle, half = facts.boxes[:, 1:3], facts.boxes[:, 3:5] / 2
    outside = np.maximum(half - middle, middle + half - 1).max(axis=1, initial=0.0)
    return Judged("boxes", outside.round(6).tolist(), maximum=BOX_ROUNDING)


def box_side(facts: Facts) -> Judged:
    """Every box's shorter side has enough pixels to be a box."""
    sizes = np.array([(row.width, row.height) for row in facts.rows], dtype=np.float64).reshape(-1, 2)[facts.owners]
    shorter = (facts.boxes[:, 3:5] * sizes).min(axis=1, initial=np.inf)
    known = [None if not size else side for size, side in zip(sizes[:, 0], shorter.round(3).tolist(), strict=True)]
    return Judged("boxes", known, minimum=facts.dataset.checks.min_box_side)


def box_repeated(facts: Facts) -> Judged:
    """No box stands in an image twice."""
    rows = np.column_stack([facts.owners, facts.boxes.round(SAME_DECIMALS)])
    repeated = np.ones(len(rows), dtype=np.int64)
    repeated[np.unique(rows, axis=0, return_index=True)[1]] = 0
    return Judged("boxes", repeated.tolist(), maximum=0)


def box_sizes(facts: Facts) -> Judged:
    """The sizes of boxes are distributed in val as in train (Kolmogorov and Smirnov's largest difference)."""
    sizes = np.array([(row.width, row.height) for row in facts.rows], dtype=np.float64).reshape(-1, 2)[facts.owners]
    areas = (facts.boxes[:, 3:5] * sizes).prod(axis=1)
    owners = np.array(facts.sides(), dtype=object)[facts.owners]
    train, val = (np.sort(areas[owners == side]) for side in SIDES)
    difference = None
    if len(train) and len(val):
        at = np.concatenate([train, val])
        shares = (np.searchsorted(side, at, side="right") / len(side) for side in (train, val))
        difference = round(float(np.abs(np.subtract(*shares)).max()), 6)
    return Judged("data set", [difference], maximum=facts.dataset.checks.max_box_size_difference)


def background_share(facts: Facts) -> Judged:
    """The share of images without any box stays small."""
    share = sum(row.boxes == 0 for row in facts.rows) / max(len(facts.rows), 1)
    return Judged("data set", [round(share, 6)], maximum=facts.dataset.checks.max_background_share)


def sentence(name: str) -> str:
    """Return the sentence that a check holds the data to."""
    return (CHECKS[name].judge.__doc__ or "").strip()


CHECKS: dict[str, Check] = {
    "split_ratio": Check(split_ratio),
    "leak_bytes": Check(leak_bytes),
    "leak_name": Check(leak_name),
    "leak_track": Check(leak_track),
    "leak_near": Check(leak_near),
    "leak_test": Check(leak_test, "warning"),
    "class_present": Check(class_present, "warning"),
    "class_both_sides": Check(class_both_sides),
    "class_shares": Check(class_shares),
    "class_ids": Check(class_ids),
    "image_readable": Check(image_readable),
    "image_side": Check(image_side),
    "image_channels": Check(image_channels),
    "image_blank": Check(image_blank, "warning"),
    "image_format": Check(image_format, "warning"),
    "image_upright": Check(image_upright, "warning"),
    "image_stem": Check(image_stem, "warning"),
    "label_file": Check(label_file, "warning"),
    "label_orphan": Check(label_orphan, "warning"),
    "label_lines": Check(label_lines),
    "label_polygons": Check(label_polygons, "warning"),
    "label_size": Check(label_size, "warning"),
    "label_conflict": Check(label_conflict, "warning"),
    "box_inside": Check(box_inside),
    "box_side": Check(box_side, "warning"),
    "box_repeated": Check(box_repeated, "warning"),
    "box_sizes": Check(box_sizes, "warning"),
    "background_share": Check(background_share, "warning"),
}
