"""The site: pages as HTML and Markdown and their pictures, in one folder that opens from disk.

`site.json` in the folder remembers what each page and picture was made from; what has not changed is left as it is.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.files import new_folder, read_json, sha256_file, sha256_json, write_json, write_text
from ethos.reporting.blocks import Page, pictures_of
from ethos.reporting.drawings import draw
from ethos.reporting.numbers import write_numbers
from ethos.reporting.plan import PAGES, plan_site
from ethos.reporting.render import html_page, markdown_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ethos.reporting.blocks import Picture
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.plan import PlannedPage
    from ethos.reporting.text_catalog import Texts

SCHEMA = 1
MANIFEST = "site.json"
PICTURES = "pictures"
SUFFIXES = (".svg", ".png")
MOST_WORKERS = 4
FEW = 4  # pictures below which starting processes takes longer than drawing


@dataclass
class Written:
    """What writing a site did.

    Attributes:
        pages: Names of the pages that were made anew.
        pictures: Names of the pictures that were drawn anew.
        missing: What is missing, by page; `required` are the pages that must be whole.
    """

    folder: Path
    pages: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)

    @property
    def lacking(self) -> dict[str, list[str]]:
        """What is missing on pages that must be whole."""
        return {page: found for page, found in self.missing.items() if found and page in self.required}


def write_site(evidence: Evidence, texts: Texts, folder: Path) -> Written:
    """Write or renew the site; files of pages that are not part of it any more are removed.

    Args:
        evidence: Where figures are read.
        texts: The language.
        folder: Where to write.

    Raises:
        SpecError: A table would hold scores of unlike protocols.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = _read_manifest(folder)
    planned = plan_site(evidence, texts)
    menu = [(page.name, page.title) for page in planned if page.name in PAGES]
    written = Written(folder, required=[page.name for page in planned if page.required])
    pages: dict[str, Any] = {}
    wanted: dict[str, Picture] = {}
    for plan in planned:
        key = sha256_json([plan.inputs, plan.title, menu, texts.language, code_sha256()])
        known = before["pages"].get(plan.name)
        if known and known["key"] == key and _whole(folder, known, before["pictures"]):
            pages[plan.name] = known
        else:
            page = _build(evidence, plan)
            pages[plan.name] = {
                "key": key,
                "files": _write_page(folder, page, menu, texts),
                "missing": list(page.missing),
                "pictures": [picture.name for picture in pictures_of(page.blocks)],
            }
            wanted |= {picture.name: picture for picture in pictures_of(page.blocks)}
            written.pages.append(plan.name)
        written.missing[plan.name] = pages[plan.name]["missing"]
    pictures, written.pictures = _write_pictures(folder, wanted, before["pictures"])
    kept = {name for page in pages.values() for name in page["pictures"]}
    pictures = {name: entry for name, entry in pictures.items() if name in kept}
    numbers = write_numbers(evidence, folder)
    manifest = {
        "schema": SCHEMA,
        "language": texts.language,
        "pages": pages,
        "pictures": pictures,
        "numbers": {"files": numbers},
    }
    write_json(folder / MANIFEST, manifest)
    _remove_others(folder, manifest)
    return written


@cache
def code_sha256() -> str:
    """Return a hash of all that turns evidence into pages and pictures: code, templates and texts."""
    root = Path(__file__).parent
    files = [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sha256_json([[path.relative_to(root).as_posix(), sha256_file(path)] for path in sorted(files)])


def files_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return all files of a site with their hashes."""
    entries = [*manifest["pages"].values(), *manifest["pictures"].values(), manifest["numbers"]]
    return {name: digest for entry in entries for name, digest in entry["files"].items()}


def _build(evidence: Evidence, plan: PlannedPage) -> Page:
    evidence.take_absent()
    blocks = plan.build()
    return Page(plan.name, plan.title, blocks, tuple(evidence.take_absent()))


def _write_page(folder: Path, page: Page, menu: list[tuple[str, str]], texts: Texts) -> dict[str, str]:
    written = {}
    for suffix, render in (("html", html_page), ("md", markdown_page)):
        path = folder / f"{page.name}.{suffix}"
        write_text(path, render(page, menu, texts))
        written[f"{page.name}.{suffix}"] = sha256_file(path)
    return written


# --- pictures --------------------------------------------------------------------------------------------------------


def _write_pictures(
    folder: Path, wanted: Mapping[str, Picture], before: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Draw the pictures that are new or show something else; return all entries, and the names of those drawn."""
    keys = {name: sha256_json([picture.drawing, picture.data, code_sha256()]) for name, picture in wanted.items()}
    stale = {
        name: picture
        for name, picture in wanted.items()
        if before.get(name, {}).get("key") != keys[name] or not _intact(folder, before[name]["files"])
    }
    with new_folder(folder / f"{PICTURES}.new") as fresh:
        _draw_all([(picture.drawing, picture.data, fresh / name) for name, picture in stale.items()])
        (folder / PICTURES).mkdir(exist_ok=True)
        entries = dict(before)
        for name in stale:
            files = {}
            for suffix in SUFFIXES:
                path = folder / PICTURES / f"{name}{suffix}"
                (fresh / f"{name}{suffix}").replace(path)
                files[f"{PICTURES}/{path.name}"] = sha256_file(path)
            entries[name] = {"key": keys[name], "files": files}
    (folder / f"{PICTURES}.new").rmdir()
    return entries, list(stale)


def _draw_all(tasks: list[tuple[str, Any, Path]]) -> None:
    workers = min(os.cpu_count() or 1, MOST_WORKERS)
    if len(tasks) < FEW or workers < 2:
        for task in tasks:
            draw(*task)
        return
    # forked children would inherit the threads and locks of whatever the parent imported
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for done in [pool.submit(draw, *task) for task in tasks]:
            done.result()


# --- what is there already -------------------------------------------------------------------------------------------


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Return what was written before; nothing if it cannot be read, and then all is made anew."""
    try:
        found: dict[str, Any] = read_json(folder / MANIFEST, "schema")
    except (OSError, ValueError):
        found = {}
    return found if found.get("schema") == SCHEMA else {"pages": {}, "pictures": {}}


def _whole(folder: Path, page: Mapping[str, Any], pictures: Mapping[str, Any]) -> bool:
    """Return whether a page's own files and its pictures are as they were written."""
    shown = [pictures.get(name, {}).get("files") for name in page["pictures"]]
    return _intact(folder, page["files"]) and all(files and _intact(folder, files) for files in shown)


def _intact(folder: Path, files: Mapping[str, str]) -> bool:
    return all((folder / name).is_file() and sha256_file(folder / name) == digest for name, digest in files.items())


def _remove_others(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Remove pages and pictures of earlier sites; nothing else is touched."""
    known = files_of(manifest)
    places: Iterable[Path] = [
        *folder.glob("*.html"),
        *folder.glob("*.md"),
        *folder.glob("versions/v*.*"),
        *(folder / PICTURES).glob("*.*"),
    ]
    for path in places:
        if path.is_file() and path.relative_to(folder).as_posix() not in known:
            path.unlink()
