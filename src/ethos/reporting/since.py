"""What changed since a commit or a date: versions, scores, selections; as Markdown, fit for a pull request."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ethos.errors import SpecError
from ethos.registry import ledger
from ethos.reporting.blocks import Block, Digest, Heading, Page, Text
from ethos.reporting.figure import ABSENT
from ethos.reporting.pages.common import attribution, candidate_name, require_one_protocol, table
from ethos.reporting.render import markdown_page

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.registry.records import VersionRecord
    from ethos.reporting.blocks import Cell
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts

# tag of a figure, its text, its format, and what is shown as its change
FIGURES = (
    ("int8.map50", "figure.int8_map50", "score", "points", "difference"),
    ("int8.map50_95", "score.map50_95", "score", "points", "difference"),
    ("fp32.map50", "figure.fp32_map50", "score", "points", "difference"),
    ("size.int8_kib", "figure.int8_kib", "kib", "change", "change"),
    ("parameters", "figure.parameters", "count", "change", "change"),
)


@dataclass(frozen=True)
class Moment:
    """A point in time, as it was named."""

    name: str
    at: datetime


def moment(root: Path, text: str) -> Moment:
    """Return the time of a commit, or of a date in ISO 8601 (UTC unless it says otherwise).

    Raises:
        SpecError: It is neither.
    """
    found = subprocess.run(
        ["git", "show", "--no-patch", "--format=%h %cI", "--end-of-options", f"{text}^{{commit}}"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode == 0:
        short, _, when = found.stdout.strip().partition(" ")
        return Moment(f"{short} ({when})", datetime.fromisoformat(when))
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SpecError(
            f"--since: '{text}' is neither a commit nor a date",
            "name a commit, or write 2026-01-31 or 2026-01-31T12:00",
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return Moment(at.isoformat(timespec="minutes"), at)


def changes(evidence: Evidence, texts: Texts, since: Moment) -> str:
    """Return what changed since then, as Markdown."""
    blocks: list[Block] = [Heading(texts("since.versions")), _versions(evidence, texts, since)]
    blocks += [Heading(texts("since.scores")), *_scores(evidence, texts, since)]
    blocks += [Heading(texts("since.selections")), _selections(evidence, texts, since)]
    blocks += attribution(evidence, texts)
    return markdown_page(Page("since", texts("since.title", since=since.name), blocks), [], texts)


def _versions(evidence: Evidence, texts: Texts, since: Moment) -> Block:
    rows: list[list[Cell]] = [
        [
            f"v{record.version}",
            candidate_name(record),
            evidence.created[record.version].isoformat(timespec="minutes"),
            Digest(record.tags.get("git.commit", ABSENT)),
            texts("history.is_ready") if record.ready else texts("history.not_ready"),
        ]
        for record in evidence.records
        if evidence.created[record.version] > since.at
    ]
    if not rows:
        return Text(texts("since.no_versions"))
    columns = [texts(f"history.{key}") for key in ("version", "variant", "at", "commit", "ready")]
    return table(evidence, columns, rows, texts("since.versions"))


def _scores(evidence: Evidence, texts: Texts, since: Moment) -> list[Block]:
    """Return for each candidate its newest version beside the one that was newest then."""
    ready = [record for record in evidence.records if record.ready]
    now = {(record.variant, record.form): record for record in ready}
    then = {(r.variant, r.form): r for r in ready if evidence.created[r.version] <= since.at}
    blocks: list[Block] = []
    for key, new in now.items():
        old = then.get(key)
        if old and old.version != new.version:
            title = f"{candidate_name(new)}: v{old.version} -> v{new.version}"
            blocks += [Heading(title, 3), *_compared(evidence, texts, old, new)]
    return blocks or [Text(texts("since.no_scores"))]


def _compared(evidence: Evidence, texts: Texts, old: VersionRecord, new: VersionRecord) -> list[Block]:
    columns = [texts("since.figure"), texts("since.then"), texts("since.now"), texts("since.change")]
    figures = [*FIGURES, *_latencies(texts, old, new)]
    notes: list[Block] = []
    if difference := _unlike(evidence, old, new):
        notes = [Text(texts("since.unlike", difference=difference), "note")]
        figures = [each for each in figures if not each[0].startswith(("int8.", "fp32."))]
    rows: list[list[Cell]] = []
    for tag, name, style, change, operation in figures:
        before, after = (f"version/{record.version}#{tag}" for record in (old, new))
        text = texts(name) if name in texts else name
        unit = " points" if change == "points" else " %"
        moved = evidence.figure(after, change, before, operation=operation, optional=True)
        cells = [evidence.figure(place, style, optional=True) for place in (before, after)]
        rows.append([text, *cells, (moved, unit) if moved.value is not None else ABSENT])
    return [*notes, table(evidence, columns, rows, candidate_name(new))]


def _latencies(texts: Texts, old: VersionRecord, new: VersionRecord) -> list[tuple[str, str, str, str, str]]:
    targets = [target for target in new.targets if target in old.targets]
    return [
        (f"npu.{target}.latency_ms", texts("figure.ms_on", target=target), "ms", "change", "change")
        for target in targets
    ]


def _unlike(evidence: Evidence, old: VersionRecord, new: VersionRecord) -> str:
    """Return how the protocols of two versions differ; empty if they do not."""
    figures = [evidence.figure(f"version/{each.version}#int8.map50", "score", optional=True) for each in (old, new)]
    try:
        require_one_protocol(evidence, figures, candidate_name(new))
    except SpecError as error:
        return error.message
    return ""


def _selections(evidence: Evidence, texts: Texts, since: Moment) -> Block:
    rows: list[list[Cell]] = []
    for name in evidence.policy["scenarios"]:
        events = [event for event in evidence.events if event.get("scenario") == name]
        before = [event for event in events if datetime.fromisoformat(event["at"]) <= since.at]
        after = [event for event in events if datetime.fromisoformat(event["at"]) > since.at]
        then = before[-1].get("to") if before else None
        now = evidence.live.get(name)
        if then != now or after:
            reason = ledger.reason(after[-1]) if after else ""
            rows.append([name, _named(evidence, then), _named(evidence, now), reason or ABSENT])
    if not rows:
        return Text(texts("since.no_selections"))
    columns = [texts("history.scenario"), texts("since.then"), texts("since.now"), texts("history.reason")]
    return table(evidence, columns, rows, texts("since.selections"))


def _named(evidence: Evidence, number: int | None) -> str:
    record = evidence.by_number.get(number) if number is not None else None
    if record is None:
        return ABSENT if number is None else f"v{number}"
    return f"v{record.version} {candidate_name(record)}"
