"""The data checks: each is one function whose docstring is the sentence that the user reads.

A check turns the facts into one number for each thing it judges and gives the bounds; `ethos.data.expectations` has
Great Expectations compare them. A new check is one function and one line in `CHECKS`; `warn_only` in the data set's
spec makes any of them a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.data.expectations import Expected, Judged, Outcome, Severity, Subject, evaluate
from ethos.data.facts import Facts, gather
from ethos.data.source import DATASET_FILE
from ethos.data.split import related
from ethos.errors import DataError, unknown
from ethos.files import read_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ethos.specs import Dataset

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
    share = sum(row.split == "val" for row in facts.rows) / max(len(facts.rows), 1)
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


def _leak(key: str, facts: Facts) -> Judged:
    flags = related(facts.items, [row.split for row in facts.rows], key, facts.dataset.split)
    return Judged("images", [int(flag) for flag in flags], maximum=0)


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
    return Judged("images", [int(readable) for readable in facts.readable], minimum=1)


def image_side(facts: Facts) -> Judged:
    """Every image's shorter side has enough pixels."""
    return Judged(
        "images", [min(row.width, row.height) for row in facts.rows], minimum=facts.dataset.checks.min_image_side
    )


def label_file(facts: Facts) -> Judged:
    """Every image has a label file, which is empty where there is nothing to detect."""
    present = set(facts.labels)
    return Judged("images", [int(row.label in present) for row in facts.rows], minimum=1)


def label_orphan(facts: Facts) -> Judged:
    """Every label file belongs to an image."""
    wanted = {row.label for row in facts.rows}
    return Judged("labels", [int(path in wanted) for path in facts.labels], minimum=1)


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
    return Judged("boxes", shorter.round(3).tolist(), minimum=facts.dataset.checks.min_box_side)


def background_share(facts: Facts) -> Judged:
    """The share of images without any box stays small."""
    share = sum(row.boxes == 0 for row in facts.rows) / max(len(facts.rows), 1)
    return Judged("data set", [round(share, 6)], maximum=facts.dataset.checks.max_background_share)


# --- running them ----------------------------------------------------------------------------------------------------


def run_checks(folder: Path, dataset: Dataset, docs: Path | None = None) -> dict[str, Any]:
    """Check a materialised data set and return the report.

    The report holds schema, dataset, sha256, ok, and for each check its name, ok, severity, count (of what fails),
    limit (a number, or lowest and highest), message and examples (the first 20).

    Args:
        folder: The materialised data set.
        dataset: Its spec, which holds the limits.
        docs: Folder for the Data Docs pages; None writes none.

    Raises:
        SpecError: `warn_only` names an unknown check.
        DataError: The folder holds no materialised data set, or a label file is malformed.
    """
    for name in dataset.checks.warn_only:
        if name not in CHECKS:
            raise unknown("check", name, CHECKS, where=f"data set '{dataset.name}': warn_only")
    facts = gather(folder, dataset)
    expected = [
        Expected(
            name=name,
            sentence=sentence(name),
            severity="warning" if name in dataset.checks.warn_only else check.severity,
            judged=check.judge(facts),
        )
        for name, check in CHECKS.items()
    ]
    names = _names(facts)
    outcomes = evaluate(expected, names, dataset.name, docs)
    return {
        "schema": 1,
        "dataset": dataset.name,
        "sha256": read_json(folder / DATASET_FILE)["sha256"],
        "ok": all(outcomes[each.name].ok for each in expected if each.severity == "error"),
        "checks": [_entry(each, outcomes[each.name], len(names[each.judged.subject])) for each in expected],
    }


def refuse_failed(report: dict[str, Any]) -> None:
    """Raise if a check of severity `error` failed.

    Raises:
        DataError: It names the failed checks.
    """
    failed = [check for check in report["checks"] if not check["ok"] and check["severity"] == "error"]
    if failed:
        names = ", ".join(check["name"] for check in failed)
        raise DataError(
            f"data set '{report['dataset']}' fails {names}: {failed[0]['message']}",
            "correct the data, or its limits under 'checks:' in the spec; 'warn_only' turns a check into a warning",
        )


def sentence(name: str) -> str:
    """Return the sentence that a check holds the data to."""
    return (CHECKS[name].judge.__doc__ or "").strip()


def _names(facts: Facts) -> dict[Subject, list[str]]:
    images = [facts.name(row.path) for row in facts.rows]
    return {
        "images": images,
        "labels": [facts.name(path) for path in facts.labels],
        "boxes": [images[owner] for owner in facts.owners],
        "classes": list(facts.dataset.classes),
        "data set": [facts.dataset.name],
    }


def _entry(expected: Expected, outcome: Outcome, total: int) -> dict[str, Any]:
    low, high = expected.judged.minimum, expected.judged.maximum
    limit = high if low is None else low if high is None else [low, high]
    return {
        "name": expected.name,
        "ok": outcome.ok,
        "severity": expected.severity,
        "count": outcome.count,
        "limit": limit,
        "message": expected.sentence if outcome.ok else f"{expected.sentence} {_failure(expected, outcome, total)}",
        "examples": outcome.examples,
    }


def _failure(expected: Expected, outcome: Outcome, total: int) -> str:
    """Return what was found instead of what the sentence says."""
    subject = expected.judged.subject
    found = f"It is {outcome.value:g}"
    if subject != "data set":
        found = (
            f"Not so for {outcome.count} of {total} {subject}; the first, {outcome.examples[0]}, has {outcome.value:g}"
        )
    return f"{found}, allowed is {_allowed(expected.judged.minimum, expected.judged.maximum)}."


def _allowed(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


CHECKS: dict[str, Check] = {
    "split_ratio": Check(split_ratio),
    "leak_bytes": Check(leak_bytes),
    "leak_name": Check(leak_name),
    "leak_track": Check(leak_track),
    "class_present": Check(class_present, "warning"),
    "class_both_sides": Check(class_both_sides),
    "class_shares": Check(class_shares),
    "class_ids": Check(class_ids),
    "image_readable": Check(image_readable),
    "image_side": Check(image_side),
    "label_file": Check(label_file, "warning"),
    "label_orphan": Check(label_orphan, "warning"),
    "box_inside": Check(box_inside),
    "box_side": Check(box_side, "warning"),
    "background_share": Check(background_share, "warning"),
}
