"""Fetch a file over HTTP: a download that stopped goes on where it stopped, and one that is done is not repeated.

Downloads are kept in `$ETHOS_CACHE/downloads`, by default under `~/.cache/ethos-vision-optimizer`; files there may be
removed at any time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ethos.data.archive import verify
from ethos.errors import DataError
from ethos.files import read_json, write_json

if TYPE_CHECKING:
    from requests import Response, Session

log = logging.getLogger(__name__)

ATTEMPTS = 5  # in a row without a single byte
PAUSE_SECONDS = 1.0  # before the second attempt; it doubles
PIECE_BYTES = 1 << 16  # what a broken connection loses at most
TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, and between two pieces
WHOLE, PARTIAL, UNCHANGED, BEYOND, SERVER_FAILS = 200, 206, 304, 416, 500


def fetch(url: str, sha256: str | None = None) -> Path:
    """Return the file at an address, from the cache if it is there and unchanged.

    With `sha256` a file in the cache that has this hash is taken without asking the server.

    Raises:
        DataError: The server cannot be reached or refuses, or the file has another hash.
    """
    folder = cache() / hashlib.sha256(url.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / (PurePosixPath(unquote(urlsplit(url).path)).name or "download")
    download = _Download(url, target, verified=sha256 is not None)
    if not (sha256 and target.is_file() and _has(target, sha256)):
        download.run()
    try:
        verify(target, sha256)
    except DataError:
        download.forget()
        raise
    return target


def cache() -> Path:
    """Return the folder of downloads."""
    base = os.environ.get("ETHOS_CACHE") or Path.home() / ".cache" / "ethos-vision-optimizer"
    return Path(base) / "downloads"


def _has(path: Path, sha256: str) -> bool:
    try:
        verify(path, sha256)
    except DataError:
        return False
    return True


class _Download:
    """One file on its way: `NAME.part` grows beside its place, `NAME.json` says which version of the file it is.

    `verified` says that the whole is compared with a hash, so that a server that names no versions can be resumed too.
    """

    def __init__(self, url: str, target: Path, *, verified: bool) -> None:
        self.url = url
        self.verified = verified
        self.target = target
        self.part = target.with_name(f"{target.name}.part")
        self.record = target.with_name(f"{target.name}.json")

    def run(self) -> None:
        """Fetch the file, with several attempts."""
        import requests

        failures = 0
        with requests.Session() as session:
            while True:
                before = self._size()
                try:
                    self._attempt(session)
                except (requests.RequestException, OSError) as error:
                    failures = 1 if self._size() > before else failures + 1
                    if failures == ATTEMPTS:
                        raise DataError(
                            f"{self.url}: {_plain(error)}", "run it again: it goes on where it was"
                        ) from None
                    log.warning("%s: %s, trying again", self.url, _plain(error))
                    time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))
                else:
                    return

    def forget(self) -> None:
        """Remove what was fetched."""
        for path in (self.target, self.part, self.record):
            path.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _attempt(self, session: Session) -> None:
        known = self._known()
        with session.get(self.url, headers=self._headers(known), stream=True, timeout=TIMEOUT_SECONDS) as answer:
            if answer.status_code == UNCHANGED:
                return
            if answer.status_code == BEYOND:
                # the file on the server is shorter than what is here
                self.forget()
                raise OSError("the file has changed on the server")
            if answer.status_code >= SERVER_FAILS:
                raise OSError(f"the server answers {answer.status_code} {answer.reason}")
            if answer.status_code not in (WHOLE, PARTIAL):
                fix = "correct the address, or wait until it can be reached"
                raise DataError(f"{self.url}: the server answers {answer.status_code} {answer.reason}", fix)
            self._receive(answer)
        self.part.replace(self.target)

    def _known(self) -> dict[str, Any]:
        return dict(read_json(self.record)) if self.record.is_file() else {}

    def _headers(self, known: dict[str, Any]) -> dict[str, str]:
        """Ask for the rest of a partial file, or for a whole one only if it has changed; each if it can be told."""
        # a compressed transfer would have other bytes than the file
        headers = {"Accept-Encoding": "identity"}
        validator = known.get("etag") or known.get("modified")
        if self._size() and (validator or self.verified):
            headers |= {"Range": f"bytes={self._size()}-"} | ({"If-Range": validator} if validator else {})
        elif validator and self.target.is_file():
            headers |= {"If-None-Match": known["etag"]} if known.get("etag") else {"If-Modified-Since": validator}
        return headers

    def _receive(self, answer: Response) -> None:
        """Append a partial answer, or begin anew with a whole one."""
        goes_on = answer.status_code == PARTIAL
        if not goes_on:
            self.target.unlink(missing_ok=True)
        # a weak validator does not promise the same bytes
        etag = answer.headers.get("ETag", "")
        strong = etag if not etag.startswith("W/") else ""
        write_json(self.record, {"url": self.url, "etag": strong, "modified": answer.headers.get("Last-Modified", "")})
        expected = int(answer.headers.get("Content-Length", -1))
        received = 0
        with self.part.open("ab" if goes_on else "wb") as stream:
            for chunk in answer.iter_content(PIECE_BYTES):
                received += len(chunk)
                stream.write(chunk)
        if expected >= 0 and received < expected:
            raise OSError(f"the connection ended after {received} of {expected} bytes")


def _plain(error: Exception) -> str:
    """Return the innermost reason of an error in one line."""
    while isinstance(error.__cause__ or error.__context__, Exception):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(error).split())
