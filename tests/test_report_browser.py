"""The site in a real browser: Debian's Chromium, headless, from disk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")
NARROW, WIDE = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        # a container has no kernel sandbox for root
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def site(reported: Path) -> Path:
    return reported / "outputs" / "report"


class Visitor:
    """A page in the browser; what went wrong on it is collected."""

    def __init__(self, browser: Any, site: Path, **context: Any) -> None:
        self._site = site
        self._context = browser.new_context(**{"viewport": WIDE, **context})
        self.page = self._context.new_page()
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("requestfailed", lambda request: self.problems.append(request.url))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def go(self, name: str) -> Any:
        self.page.goto((self._site / f"{name}.html").as_uri())
        return self.page

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def visitor(browser: Any, site: Path) -> Iterator[Visitor]:
    found = Visitor(browser, site)
    yield found
    assert found.problems == []
    assert [url for url in found.requests if not url.startswith(("file:", "data:"))] == []
    found.close()


def column(page: Any, section: int, place: int) -> list[str]:
    """Return the visible cells of a column of a table."""
    rows = page.locator("section.table").nth(section).locator("tbody tr:visible")
    return [cell.strip() for cell in rows.locator(f"td:nth-child({place})").all_inner_texts()]


def test_every_page_opens_from_disk_without_an_error(visitor: Visitor, site: Path) -> None:
    for path in sorted(site.rglob("*.html")):
        page = visitor.go(path.relative_to(site).with_suffix("").as_posix())
        page.evaluate("document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
        page.wait_for_function("[...document.images].every((image) => image.complete)")
        assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
        assert page.locator("h1").count() == 1
        assert page.locator("main").count() == 1


def test_links_lead_to_the_other_pages_and_back(visitor: Visitor) -> None:
    page = visitor.go("index")
    page.locator("nav").get_by_role("link", name="Accuracy").click()
    assert page.title() == "Accuracy"
    page.locator("main").get_by_role("link", name="level2_relu").first.click()
    assert page.title() == "Version 1: level2_relu"
    page.locator("nav").get_by_role("link", name="Overview").click()
    assert page.title() == "Overview"
    assert page.locator("nav [aria-current=page]").inner_text() == "Overview"


def test_tables_sort_by_number_up_down_and_back(visitor: Visitor) -> None:
    page = visitor.go("training")
    original = column(page, 1, 5)
    head = page.locator("section.table").nth(1).locator("th").nth(4)
    head.locator("button").click()
    numbers = [float(each.replace(",", "")) for each in column(page, 1, 5)]
    assert numbers == sorted(numbers)
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert [float(each.replace(",", "")) for each in column(page, 1, 5)] == sorted(numbers, reverse=True)
    head.locator("button").click()
    assert column(page, 1, 5) == original
    assert head.get_attribute("aria-sort") is None


def test_tables_sort_by_text(visitor: Visitor) -> None:
    page = visitor.go("pruning")
    # V3's study, after the tables of our own
    place = page.locator("section.table").count() - 2
    first = page.locator("section.table").nth(place).locator("th button").first
    first.click()
    assert [each[0] for each in column(page, place, 1)] == ["0", "1", "2", "3", "4"]
    first.click()
    assert [each[0] for each in column(page, place, 1)] == ["4", "3", "2", "1", "0"]


def test_tables_filter_by_all_words(visitor: Visitor) -> None:
    page = visitor.go("accuracy")
    section = page.locator("section.table", has=page.locator("text=Accuracy as V3's reports have it"))
    rows = section.locator("tbody tr:visible")
    assert rows.count() == 6
    section.get_by_role("searchbox").fill("LEVEL4 0.759")
    assert rows.count() == 1
    section.get_by_role("searchbox").fill("nothing such")
    assert rows.count() == 0
    section.get_by_role("searchbox").fill("")
    assert rows.count() == 6


def test_pointing_at_a_figure_shows_its_evidence(visitor: Visitor) -> None:
    page = visitor.go("accuracy")
    title = page.locator("data.figure").first.get_attribute("title") or ""
    assert title.startswith("measured · v1 · SHA-256 ")
    assert "version/1/metrics/fp32.json#map50" in title
    evidence = page.locator("details.evidence").first
    assert not evidence.locator("li").first.is_visible()
    evidence.locator("summary").click()
    assert evidence.locator("li").first.is_visible()


def test_everything_is_reached_by_keyboard(visitor: Visitor) -> None:
    page = visitor.go("training")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#content'")
    head = page.locator("section.table").first.locator("th button").first
    head.focus()
    page.keyboard.press("Enter")
    assert head.locator("xpath=..").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Tab")
    # the next heading, and it is seen to be focused
    style = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate("document.activeElement.tagName") == "BUTTON"
    assert page.evaluate(style) != "none"
    region = page.locator("div.wide").first
    assert region.get_attribute("tabindex") == "0"
    assert region.get_attribute("aria-label")


@pytest.mark.parametrize("name", ["index", "accuracy", "npu", "training", "history", "versions/v1"])
def test_a_narrow_screen_scrolls_tables_and_not_the_page(browser: Any, site: Path, name: str) -> None:
    visitor = Visitor(browser, site, viewport=NARROW)
    page = visitor.go(name)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    assert page.evaluate("[...document.images].every((image) => image.clientWidth <= innerWidth)")
    assert visitor.problems == []
    visitor.close()


def test_dark_mode_has_light_text_on_a_dark_page(browser: Any, site: Path) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        visitor = Visitor(browser, site, color_scheme=scheme)
        page = visitor.go("index")
        for what in ("color", "backgroundColor"):
            rgb = page.evaluate(f"getComputedStyle(document.body).{what}")
            shades[scheme, what] = sum(int(each) for each in rgb[4:-1].split(",")) / 3
        # pictures are drawn for a light ground and keep one
        assert page.evaluate("getComputedStyle(document.images[0]).backgroundColor") == "rgb(255, 255, 255)"
        visitor.close()
    assert shades["light", "backgroundColor"] - shades["light", "color"] > 150
    assert shades["dark", "color"] - shades["dark", "backgroundColor"] > 150


def test_korean_is_declared_for_screen_readers(browser: Any, tmp_path: Path) -> None:
    from ethos.reporting.blocks import Page
    from ethos.reporting.render import html_page
    from ethos.reporting.text_catalog import Texts

    texts = Texts("ko")
    (tmp_path / "index.html").write_text(
        html_page(Page("index", texts("index.title"), []), [], texts), encoding="utf-8"
    )
    visitor = Visitor(browser, tmp_path)
    page = visitor.go("index")
    assert page.evaluate("document.documentElement.lang") == "ko"
    assert page.title() == "개요"
    assert visitor.problems == []
    visitor.close()
