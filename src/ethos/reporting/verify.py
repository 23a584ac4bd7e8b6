"""Read the numbers back from the pages and compare each with the registry, at the precision it is shown at."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from ethos.errors import DataError, StoreError
from ethos.files import read_json, sha256_file
from ethos.reporting.evidence import fact_text
from ethos.reporting.figure import FORMATS, OPERATIONS, Figure, calculate
from ethos.reporting.numbers import METRICS
from ethos.reporting.site import MANIFEST, files_of

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.reporting.evidence import Evidence

# what a cell must not hold unless it is bound to evidence: a number and nothing else
BARE_NUMBER = re.compile(r"^[+-]?[\d,]*\.?\d+\s*(%|ms|KiB|MB|MiB|s)?$")
# what a cell may hold as code: the beginning of a hash, a commit or a run's id
DIGEST = re.compile(r"^[0-9a-f]{12}$")
MARKDOWN_ROW = re.compile(r"^\|(?P<cells>.*)\|$")
BOUND = ("provenance", "sha256", "protocol", "version", "run")


@dataclass(frozen=True)
class Finding:
    """A number that does not hold: where it stands, and what is wrong with it."""

    page: str
    shown: str
    problem: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.page, self.shown, self.problem)))


@dataclass
class Verified:
    """What was read back: how many pages and numbers, and what does not hold."""

    pages: int = 0
    numbers: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify_site(evidence: Evidence, folder: Path) -> Verified:
    """Read all pages of a site back.

    Raises:
        DataError: There is no site in the folder.
    """
    try:
        manifest = read_json(folder / MANIFEST, "pages", "pictures", "numbers")
    except (OSError, ValueError):
        raise DataError(f"{folder}: holds no report", "write it first: ethos report") from None
    result = Verified()
    for name, digest in files_of(manifest).items():
        path = folder / name
        if not path.is_file():
            result.findings.append(Finding(name, "", "the file is gone"))
        elif sha256_file(path) != digest:
            result.findings.append(Finding(name, "", "the file was altered after it was written"))
    _verify_metrics(evidence, folder, result)
    for name in manifest["pages"]:
        if (folder / f"{name}.html").is_file():
            result.pages += 1
            _verify_page(evidence, folder, name, result)
    return result


def problems(evidence: Evidence, outputs: Path) -> list[str]:
    """Return what does not hold in the reports that lie in `outputs`, one sentence each."""
    found = []
    for manifest in sorted(outputs.glob(f"report*/{MANIFEST}")):
        folder = manifest.parent
        try:
            result = verify_site(evidence, folder)
        except StoreError as error:
            found.append(f"{folder.name} cannot be read back: {error.message}")
            continue
        found += [f"{folder.name}/{each}" for each in result.findings]
    return found


def _verify_metrics(evidence: Evidence, folder: Path, result: Verified) -> None:
    """Compare what DVC shows with the registry."""
    if not (folder / METRICS).is_file():
        return
    for candidate, figures in read_json(folder / METRICS).items():
        for name, shown in figures.items():
            if name != "version":
                result.numbers += 1
                recorded = evidence.read(f"version/{figures['version']}#{name}", optional=True)
                if recorded is None or float(recorded) != shown:
                    problem = f"{candidate}: {name} is recorded as {recorded}"
                    result.findings.append(Finding(METRICS, str(shown), problem))


def _verify_page(evidence: Evidence, folder: Path, name: str, result: Verified) -> None:
    reader = _Reader()
    reader.feed((folder / f"{name}.html").read_text(encoding="utf-8"))
    for shown, attributes in reader.bound:
        result.numbers += 1
        problem = _problem(evidence, shown, attributes)
        if problem:
            result.findings.append(Finding(f"{name}.html", shown, problem))
    for bare in reader.bare:
        result.findings.append(Finding(f"{name}.html", bare, "a number without evidence"))
    markdown = folder / f"{name}.md"
    if markdown.is_file():
        differing = _differing(reader.cells, _markdown_cells(markdown.read_text(encoding="utf-8")))
        result.findings += [Finding(f"{name}.md", shown, "differs from the HTML page") for shown in differing]


def _problem(evidence: Evidence, shown: str, attributes: dict[str, str]) -> str:
    """Return what is wrong with a number or fact; empty if it holds."""
    sources = json.loads(attributes["data-sources"])
    values = [evidence.read(source, optional=True) for source in sources]
    absent = [source for source, value in zip(sources, values, strict=True) if value is None]
    if absent:
        return f"not recorded: {absent[0]}"
    if attributes["class"] == "fact":
        now = fact_text(values[0])
        return "" if now == shown else f"recorded as {now}"
    style, operation = attributes["data-style"], attributes["data-operation"]
    if style not in FORMATS or operation not in OPERATIONS:
        return f"unknown format {style} or operation {operation}"
    origin = evidence.origin(sources[0])
    figure = Figure(calculate(operation, [float(value) for value in values]), tuple(sources), style, operation, origin)
    if figure.text != shown:
        return f"recorded as {figure.text} ({figure.value!r})"
    return _unbound(figure, attributes)


def _unbound(figure: Figure, attributes: dict[str, str]) -> str:
    """Return what a figure claims to be bound to and is not; empty if all of it holds."""
    origin = figure.origin
    version = "" if origin.version is None else str(origin.version)
    now = (origin.provenance, origin.sha256, origin.protocol, version, origin.run_id)
    for name, bound in zip(BOUND, now, strict=True):
        if attributes[f"data-{name}"] != bound:
            return f"claims {name} {attributes[f'data-{name}'] or 'none'}, recorded is {bound or 'none'}"
    return ""


class _Reader(HTMLParser):
    """Collects numbers with their evidence, table cells, and numbers in cells that have none."""

    def __init__(self) -> None:
        super().__init__()
        self.bound: list[tuple[str, dict[str, str]]] = []
        self.bare: list[str] = []
        self.cells: list[str] = []
        self._data: dict[str, str] | None = None
        self._shown = ""
        self._cell: str | None = None
        self._unbound = ""
        self._code = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "data":
            self._data, self._shown = {key: value or "" for key, value in attrs}, ""
        elif tag in ("td", "dd"):
            self._cell, self._unbound = "", ""
        elif tag == "code":
            self._code = True

    def handle_data(self, data: str) -> None:
        if self._data is not None:
            self._shown += data
        elif self._cell is not None and not (self._code and DIGEST.match(data)):
            self._unbound += data
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "data" and self._data is not None:
            self.bound.append((self._shown, self._data))
            self._data = None
        elif tag == "code":
            self._code = False
        elif tag in ("td", "dd") and self._cell is not None:
            if BARE_NUMBER.match(self._unbound.strip()):
                self.bare.append(self._unbound.strip())
            if tag == "td":
                self.cells.append(_plain(self._cell))
            self._cell = None


def _markdown_cells(text: str) -> list[str]:
    """Return the cells of all tables of a Markdown page, headings left out."""
    cells: list[str] = []
    lines = text.splitlines()
    inside = False
    for place, line in enumerate(lines):
        row = MARKDOWN_ROW.match(line)
        if row is None:
            inside = False
        elif inside and not set(line) <= set("|-: "):
            cells += [_plain(re.sub(r"\[(.*?)\]\([^)]*\)", r"\1", each)) for each in _split(row["cells"])]
        elif place + 1 < len(lines) and set(lines[place + 1]) <= set("|-: "):
            inside = True
    return cells


def _split(row: str) -> list[str]:
    return [each.strip() for each in re.split(r"(?<!\\)\|", row)]


def _plain(text: str) -> str:
    return " ".join(re.sub(r"\\(.)", r"\1", text).split())


def _differing(html: list[str], markdown: list[str]) -> list[Any]:
    if len(html) != len(markdown):
        return [f"{len(markdown)} cells instead of {len(html)}"]
    return [there for here, there in zip(html, markdown, strict=True) if here != there]
