"""Run the data checks over a materialised data set, and report them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from ethos.data.checks import CHECKS, sentence
from ethos.data.expectations import Expected, Outcome, Subject, evaluate
from ethos.data.facts import Facts, gather
from ethos.data.manifest import DATASET_FILE
from ethos.errors import DataError, unknown
from ethos.files import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.specs import Dataset


def run_checks(
    folder: Path, dataset: Dataset, docs: Path | None = None, offenders: Path | None = None
) -> dict[str, Any]:
    """Check a materialised data set and return the report.

    The report holds schema, dataset, sha256, ok, and for each check its name, ok, severity, count (of what fails),
    limit (a number, or lowest and highest), message and examples (the first 20).

    Args:
        folder: The materialised data set.
        dataset: Its spec, which holds the limits.
        docs: Folder for the Data Docs pages; None writes none.
        offenders: Folder for CHECK.csv, which lists all that fails a check; None writes none.

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
    if offenders is not None:
        _list_offenders(expected, outcomes, names, offenders)
    return {
        "schema": 1,
        "dataset": dataset.name,
        "sha256": read_json(folder / DATASET_FILE, "sha256")["sha256"],
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


def _list_offenders(
    expected: list[Expected], outcomes: dict[str, Outcome], names: dict[Subject, list[str]], folder: Path
) -> None:
    """Write a table of all that fails, for each check that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in expected:
        if outcomes[each.name].ok:
            continue
        with (folder / f"{each.name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("of", "value", "detail"))
            for place in each.judged.failing():
                detail = each.judged.details[place] if each.judged.details else ""
                writer.writerow((names[each.judged.subject][place], each.judged.values[place], detail))
