"""Blocks written as Markdown and as HTML, from one set of templates."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.reporting.blocks import SHORT_HASH, Digest, Link, figures_of, parts_of
from ethos.reporting.figure import Fact, Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jinja2

    from ethos.reporting.blocks import Block, Cell, Page
    from ethos.reporting.figure import Origin
    from ethos.reporting.text_catalog import Texts

TEMPLATES = Path(__file__).with_name("templates")
SPECIAL = "\\`*_[]<>|#~$"


def html_page(page: Page, menu: Sequence[tuple[str, str]], texts: Texts) -> str:
    """Return a page as HTML; the menu holds names and titles of the main pages."""
    return _render("page.html.j2", page, menu, texts)


def markdown_page(page: Page, menu: Sequence[tuple[str, str]], texts: Texts) -> str:
    """Return a page as Markdown that GitHub shows."""
    return _render("page.md.j2", page, menu, texts)


def _render(template: str, page: Page, menu: Sequence[tuple[str, str]], texts: Texts) -> str:
    up = "../" * page.name.count("/")
    suffix = template.split(".")[1]
    return (
        _environment()
        .get_template(template)
        .render(page=page, menu=menu, t=texts, up=up, suffix=suffix, language=texts.language)
    )


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "parts": parts_of,
        "kind": _kind,
        "tip": tip,
        "sources": lambda figure: json.dumps(figure.sources),
        "md": escape,
        "md_cell": _markdown_cell,
        "evidence": evidence_lines,
        "sort_key": _sort_key,
        "href": _href,
    }
    return environment


def tip(part: Figure | Fact) -> str:
    """Return what hovering over a figure shows: provenance, exact value, where it was read, file, protocol, run."""
    exact = [repr(part.value)] if isinstance(part, Figure) else []
    return " · ".join([*_bound(part.origin), *exact, *part.sources[:3], *(["..."] if len(part.sources) > 3 else [])])


def _bound(origin: Origin) -> list[str]:
    """Return what a figure is bound to, in words."""
    found = [origin.provenance] if origin.provenance else []
    if origin.version is not None:
        found.append(f"v{origin.version}")
    if origin.run_id:
        found.append(f"run {origin.run_id[:SHORT_HASH]}")
    if origin.sha256:
        found.append(f"SHA-256 {origin.sha256[:SHORT_HASH]}")
    if origin.protocol:
        found.append(f"protocol {origin.protocol[:SHORT_HASH]}")
    return found


def evidence_lines(block: Block) -> list[str]:
    """Return what the figures of a block are bound to, and the documents they were read from, each once."""
    found: dict[str, dict[str, None]] = {}
    for figure in figures_of(block):
        if figure.value is not None:
            documents = found.setdefault(" · ".join(_bound(figure.origin)), {})
            documents |= dict.fromkeys(source.partition("#")[0] for source in figure.sources)
    return [f"{bound}: {', '.join(documents)}" for bound, documents in found.items()]


def escape(text: str) -> str:
    """Return text that Markdown shows as it is."""
    plain = "".join(each if each.isprintable() else " " for each in str(text))
    return "".join(f"\\{each}" if each in SPECIAL else each for each in plain)


def _markdown_cell(cell: Cell, up: str = "") -> str:
    written = []
    for part in parts_of(cell):
        if isinstance(part, Figure | Fact):
            written.append(escape(part.text))
        elif isinstance(part, Link):
            written.append(f"[{escape(part.text)}]({_href(part, up, 'md')})")
        elif isinstance(part, Digest):
            written.append(f"[{escape(part.text)}]({part.address})" if part.address else escape(part.text))
        else:
            written.append(escape(part))
    return "".join(written)


def _href(link: Link, up: str, suffix: str) -> str:
    return link.address or f"{up}{link.page}.{suffix}"


def _kind(part: Any) -> str:
    return {Figure: "figure", Fact: "fact", Link: "link", Digest: "digest"}.get(type(part), "text")


def _sort_key(cell: Cell) -> str:
    """Return what a cell sorts by: its first figure, else nothing, and then its text counts."""
    first = next((part for part in parts_of(cell) if isinstance(part, Figure)), None)
    return "" if first is None or first.value is None else repr(first.value)
