"""Pages of an analysis: what they say, their pictures, and names that would break them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from tflite_files import small_network

from ethos import catalog
from ethos.npu.analyze import analyze
from ethos.npu.blocks import PROVENANCE, Picture, Table
from ethos.npu.history import NOTE
from ethos.npu.pages import analysis_blocks, write_html, write_markdown
from ethos.specs import Target

ROOT = Path(__file__).parents[1]
MODELS = ROOT.parent / "shared" / "models"
ODD = 'a|b<script>alert(1)</script>"$x$`*\x01\u00e9,'
TARGETS = ("ethos-u55-256", "ethos-u65-512", "ethos-n78-4tops")


def _target(name: str) -> Target:
    return catalog.read_spec(ROOT / "specs" / "targets" / f"{name}.yaml", Target, name=name)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = small_network(between=("FLOOR",), prefix=ODD).write(tmp_path_factory.mktemp("pages") / "network.tflite")
    return analyze(file, [_target(name) for name in TARGETS])


class _Page(HTMLParser):
    """Collects what a browser would see, and checks that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in {"meta", "br", "link"}:
            self.open.append(tag)
        self.loads += [v or "" for k, v in attributes if k in {"src", "href"} and not (v or "").startswith("#")]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag in self.open[-1:]:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_html_page_holds_everything_and_loads_nothing(report: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    write_html(analysis_blocks(report), file)
    text = file.read_text(encoding="utf-8")
    page = _Page(text)
    assert page.open == []
    assert page.loads == []
    assert "script" not in page.seen
    assert page.seen.count("svg") == 4 + 4 + 2
    seen = " ".join(page.text)
    for wanted in (report["sha256"], PROVENANCE, NOTE, "ethos-n78-4tops", "rule, rules 25.03", "estimate, vela 5.2.0"):
        assert wanted in seen
    assert f"{report['targets']['ethos-u55-256']['cycles_total']:,}" in seen
    assert "historical: NPU functions" in seen


def test_the_markdown_page_links_its_pictures(report: dict[str, Any], tmp_path: Path) -> None:
    blocks = analysis_blocks(report)
    write_markdown(blocks, tmp_path / "npu.md")
    text = (tmp_path / "npu.md").read_text(encoding="utf-8")
    linked = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text)
    pictures = [block for block in blocks if isinstance(block, Picture)]
    assert len(linked) == len(pictures) == 10
    assert all((tmp_path / name).is_file() for name in linked)
    assert "<script>" not in text
    for table in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_pictures_are_sound_svg_that_differ_in_their_ids(report: dict[str, Any]) -> None:
    pictures = [block for block in analysis_blocks(report) if isinstance(block, Picture)]
    ids: list[set[str]] = []
    for picture in pictures:
        root = ET.fromstring(picture.svg)
        assert root.tag.endswith("svg")
        ids.append({each.attrib["id"] for each in root.iter() if re.fullmatch(r"[pm][0-9a-f]{10}", each.get("id", ""))})
    assert all(ids)
    assert len(set.union(*ids)) == sum(len(each) for each in ids)


def test_the_same_analysis_gives_the_same_page(report: dict[str, Any]) -> None:
    assert analysis_blocks(report) == analysis_blocks(report)


def test_pictures_state_units_and_provenance(report: dict[str, Any]) -> None:
    svgs = {block.caption: block.svg for block in analysis_blocks(report) if isinstance(block, Picture)}
    assert "operator, in running order" in svgs["Where the operators run on ethos-n78-4tops"]
    assert "(rule)" in svgs["Where the operators run on ethos-n78-4tops"]
    assert "cycles (estimate)" in svgs["Cycles per layer on ethos-u65-512"]
    assert "MACs for each byte moved" in svgs["Compute against bandwidth on ethos-u65-512"]
    memory = svgs["Memory over time on ethos-u55-256"]
    assert "KiB" in memory
    assert "SRAM of the target, 4,096 KiB" in memory


def test_operators_on_the_cpu_are_listed_with_their_reason(report: dict[str, Any]) -> None:
    tables = [block for block in analysis_blocks(report) if isinstance(block, Table)]
    rows = [row for table in tables for row in table.rows if row[1:2] == ["FLOOR"]]
    assert [row[3] for row in rows] == ["Unsupported opType", "Unsupported opType", "the driver has no such operator"]


def test_a_network_that_nothing_runs_has_a_page(tmp_path: Path) -> None:
    network = small_network(between=("FLOOR",))
    network.graph.operators = network.graph.operators[1:2]
    network.graph.inputs = list(network.graph.operators[0].inputs)
    network.graph.outputs = list(network.graph.operators[0].outputs)
    report = analyze(network.write(tmp_path / "cpu.tflite"), [_target(name) for name in TARGETS])
    write_html(analysis_blocks(report), tmp_path / "page.html")
    assert "Unsupported opType" in (tmp_path / "page.html").read_text(encoding="utf-8")
