"""`ethos data report`: one page that shows a data set and opens without a network."""

from __future__ import annotations

import base64
import re
import shutil
from html.parser import HTMLParser
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from typer.testing import CliRunner
from yolo_folder import SIGNS15, folder_dataset, write_folder, write_image, write_label

from ethos.cli import app
from ethos.data.pages import write_page
from ethos.data.source import materialise

if TYPE_CHECKING:
    from pathlib import Path


class Links(HTMLParser):
    """Collects what a page refers to, and checks that its elements close."""

    VOID = frozenset({"meta", "img", "br", "link", "use"})

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key in {"src", "href", "xlink:href"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def page(root: Path, method: str = "keep") -> str:
    dataset = folder_dataset(root, method)
    materialise(dataset, root.parent / "dataset")
    write_page(root.parent / "dataset", dataset, root.parent / "out" / "page.html")
    return (root.parent / "out" / "page.html").read_text(encoding="utf-8")


def related(root: Path) -> Path:
    """Return a small folder in which one validation image is a training image and one comes from its track."""
    write_folder(root)
    shutil.copy(root / "train/images/train000.jpg", root / "valid/images/valid000.jpg")
    for side, frame in (("train", 1), ("valid", 2)):
        write_image(root / side / "images" / f"track7_{frame}.jpg", 100 + frame)
        write_label(root / side / "labels" / f"track7_{frame}.txt", "1 0.5 0.5 0.5 0.5")
    return root


def test_page_holds_all_that_it_shows(tmp_path: Path) -> None:
    text = page(related(tmp_path / "source"))
    parser = Links()
    parser.feed(text)
    assert parser.open == []
    assert len(parser.links) > 20
    assert all(link.startswith(("data:image/", "#")) for link in parser.links)
    assert not re.search(r"<script|@import|url\((?!#)", text)
    assert str(tmp_path) not in text


def test_pictures_are_real_and_show_their_boxes(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source")
    Image.new("RGB", (64, 48), (128, 128, 128)).save(root / "train/images/train000.jpg")
    text = page(root)
    name = re.search(r'alt="train000.jpg" src="data:image/jpeg;base64,([^"]+)"', text)
    assert name is not None
    with Image.open(BytesIO(base64.b64decode(name[1]))) as image:
        red, _, blue = image.convert("RGB").getpixel((24, 24))  # type: ignore[misc]
    assert red > blue + 60


def test_leaks_are_counted_and_shown_side_by_side(tmp_path: Path) -> None:
    text = page(related(tmp_path / "source"))
    counts = re.findall(r"<h3>([^:<]+): <span class=\"(leaks|clean)\">(\d+)</span>", text)
    assert counts == [
        ("the same file, byte for byte", "leaks", "1"),
        ("the same original picture", "clean", "0"),
        ("the same track or sequence", "leaks", "1"),
        ("nearly the same look", "leaks", "1"),
    ]
    pairs = re.findall(r'<div class="pair">.*?</div>', text, re.DOTALL)
    assert [re.findall(r'alt="([^"]+)"', pair) for pair in pairs] == [
        ["valid000.jpg", "train000.jpg"],
        ["track7_2.jpg", "track7_1.jpg"],
        ["valid000.jpg", "train000.jpg"],
    ]


def test_figures_and_tables_tell_each_side(tmp_path: Path) -> None:
    text = page(write_folder(tmp_path / "source"))
    assert text.count("<svg") == 3
    assert "<td>16</td><td>16</td><td>0</td><td>16</td>" in text
    assert re.search(r"<tr><td>Yield</td><td>8</td><td>2</td></tr>", text)
    assert "train: 16 boxes" in text


def test_names_are_escaped(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source")
    (root / "train/images/train000.jpg").rename(root / "train/images/<b>&.jpg")
    assert "&lt;b&gt;&amp;.jpg" in page(root)


def test_broken_data_is_shown_too(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source", train=5, val=1)
    (root / "train/images/train000.jpg").write_text("no image")
    write_label(root / "train/labels/train001.txt", "9 0.5 0.5 0.5 0.5")
    write_label(root / "train/labels/train002.txt", "0 0.5 0.5 -0.5 0.5")
    (root / "valid/labels/valid000.txt").write_text("")
    text = page(root)
    assert "not readable" in text
    assert "unknown class 9" in text


def test_the_same_data_gives_the_same_page(tmp_path: Path) -> None:
    root = related(tmp_path / "source")
    assert page(root) == page(root)


def test_command_writes_the_page_of_a_folder_as_it_is(tmp_path: Path) -> None:
    root = related(tmp_path / "source")
    result = CliRunner().invoke(app, ["data", "report", "--source", str(root), "--out", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    assert "Related images on both sides" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.skipif(not SIGNS15.is_dir(), reason="the signs15 data set is not here")
def test_attribution_stands_on_the_page(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = CliRunner().invoke(app, ["data", "report", "--source", str(SIGNS15), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "CC BY 4.0" in out.read_text(encoding="utf-8")
