"""Great Expectations, behind one function: measured values with bounds go in, outcomes and Data Docs pages come out."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Severity = Literal["error", "warning"]
Subject = Literal["images", "labels", "boxes", "classes", "data set"]
GX_SEVERITY: dict[Severity, str] = {"error": "critical", "warning": "warning"}
EXAMPLES = 20
KEY = "of"  # the column that names what a row is about
RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "unexpected_index_column_names": [KEY],
    "return_unexpected_index_query": False,
    "partial_unexpected_count": EXAMPLES,
}
SITE = "check"
REMOTE_LOGO = re.compile(r"https://great-expectations-web-assets\.s3[^\"']*")
LOCAL_LOGO = "static/images/logo-long.png"
STATIC = re.compile(r"(?:\.\./)+static/")


@dataclass(frozen=True)
class Judged:
    """What a check measured.

    Attributes:
        subject: What was measured, one value for each.
        values: The measured numbers; None where there is nothing to judge.
        minimum: Lowest allowed value.
        maximum: Highest allowed value.
        details: For each value what else the list of offenders tells; empty tells nothing more.
    """

    subject: Subject
    values: Sequence[float | None]
    minimum: float | None = None
    maximum: float | None = None
    details: Sequence[str] = ()

    def failing(self) -> list[int]:
        """Return the places of the values outside the bounds."""
        low = -np.inf if self.minimum is None else self.minimum
        high = np.inf if self.maximum is None else self.maximum
        return [place for place, value in enumerate(self.values) if value is not None and not low <= value <= high]


@dataclass(frozen=True)
class Expected:
    """A check's measurement with the sentence that it is to hold."""

    name: str
    sentence: str
    severity: Severity
    judged: Judged


@dataclass(frozen=True)
class Outcome:
    """How a check ended: how many values failed, the names of the first of them, and the first failing value."""

    ok: bool
    count: int
    examples: list[str]
    value: float | None


def evaluate(
    expected: Sequence[Expected], names: Mapping[Subject, Sequence[str]], title: str, docs: Path | None
) -> dict[str, Outcome]:
    """Return each check's outcome, by name.

    Args:
        expected: The checks; names are unique.
        names: For each subject, what it is called, in the order of the measured values.
        title: What the pages call this run.
        docs: Folder for the Data Docs pages, which open from disk; None writes none.
    """
    import great_expectations

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = great_expectations.get_context(mode="ephemeral")
    context.enable_analytics(False)
    context.variables.progress_bars = {"globally": False}
    outcomes: dict[str, Outcome] = {}
    for site in list(context.list_data_docs_sites()):
        context.delete_data_docs_site(site)
    if docs is not None:
        context.add_data_docs_site(SITE, _site(docs))
    session = _Session(context, great_expectations.RunIdentifier(run_name=title))
    for subject in dict.fromkeys(each.judged.subject for each in expected):
        about = [each for each in expected if each.judged.subject == subject]
        outcomes |= session.validate(subject, names[subject], about)
    if docs is not None:
        context.build_data_docs()
        _stay_local(docs)
    return {each.name: outcomes[each.name] for each in expected}


def _site(docs: Path) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
    }


class _Session:
    """One run of Great Expectations over several frames."""

    def __init__(self, context: Any, run: Any) -> None:
        self.context = context
        self.run = run
        self.source = context.data_sources.add_pandas("materialised")

    def validate(self, subject: Subject, names: Sequence[str], expected: Sequence[Expected]) -> dict[str, Outcome]:
        """Validate one frame: a row for each image, box or class, and a column for each check."""
        import great_expectations as gx
        import pandas as pd

        columns = {each.name: np.array(each.judged.values, dtype=np.float64) for each in expected}
        frame = pd.DataFrame({KEY: np.array(names, dtype=object), **columns})
        name = subject.replace(" ", "_")  # it becomes a file's name
        batch = self.source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        suite = self.context.suites.add(gx.ExpectationSuite(name, expectations=list(map(_expectation, expected))))
        definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
        checkpoint = gx.Checkpoint(
            name=name,
            validation_definitions=[self.context.validation_definitions.add(definition)],
            result_format=RESULT_FORMAT,
        )
        done = self.context.checkpoints.add(checkpoint).run(batch_parameters={"dataframe": frame}, run_id=self.run)
        (validation,) = done.run_results.values()
        return dict(_outcomes(validation.results))


def _expectation(expected: Expected) -> Any:
    from great_expectations.expectations import ExpectColumnValuesToBeBetween

    return ExpectColumnValuesToBeBetween(
        column=expected.name,
        min_value=expected.judged.minimum,
        max_value=expected.judged.maximum,
        severity=GX_SEVERITY[expected.severity],
        description=f"{expected.name}: {expected.sentence}",
    )


def _outcomes(results: Iterable[Any]) -> Iterable[tuple[str, Outcome]]:
    for each in results:
        if each.exception_info.get("raised_exception"):
            raise RuntimeError(f"Great Expectations: {each.exception_info['exception_message']}")
        name = each.expectation_config.kwargs["column"]
        failing = each.result.get("unexpected_index_list") or []
        yield (
            name,
            Outcome(
                ok=bool(each.success),
                count=int(each.result.get("unexpected_count", 0)),
                examples=list(dict.fromkeys(str(row[KEY]) for row in failing))[:EXAMPLES],
                value=float(failing[0][name]) if failing else None,
            ),
        )


def _stay_local(docs: Path) -> None:
    """Make the pages work from disk and without a network.

    The remote logo, which tells a server when a page is read, becomes the one beside the pages; the path to static
    files, which is wrong in deep pages, is put right; and the index, whose table needs remote scripts, gets a list.
    """
    pages = sorted(docs.rglob("*.html"))
    for page in pages:
        up = Path(os.path.relpath(docs, page.parent)).as_posix()
        text = REMOTE_LOGO.sub(f"{up}/{LOCAL_LOGO}", page.read_text(encoding="utf-8"))
        page.write_text(STATIC.sub(f"{up}/static/", text), encoding="utf-8")
    index = docs / "index.html"
    links = [page.relative_to(docs).as_posix() for page in pages if page != index]
    rows = "".join(f'<li><a href="{quote(link)}">{escape(link)}</a></li>' for link in links)
    text = index.read_text(encoding="utf-8").replace("</body>", f"<h4>All pages</h4><ul>{rows}</ul></body>")
    index.write_text(text, encoding="utf-8")
    # tutorial pictures of several MB that no page needs
    for picture in (docs / "static" / "images").glob("*.gif"):
        picture.unlink()
