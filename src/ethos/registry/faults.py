"""The tracking store's address as the user gives it, and its errors, turned into one line with what helps."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ethos.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

URI_VARIABLE = "MLFLOW_TRACKING_URI"
START_SERVER = f"start the server, or unset {URI_VARIABLE} to use the embedded store"
ADDRESS_FIX = f"write it as http://HOST:PORT or sqlite:////FILE, or unset {URI_VARIABLE} to use the embedded store"
DEFAULT_PORTS = {"http": 80, "https": 443}
DATABASES = ("postgresql", "mysql", "mssql")
POSTGRESQL = "postgresql://"
# top modules of the errors that come out of a store
SOURCES = ("mlflow", "sqlalchemy", "alembic", "requests", "urllib3", "sqlite3")
# words in MLflow's errors, and what helps
FIXES = (
    ("readonly database", "make the store's file and folder writable for you"),
    ("database is locked", "another program is writing to the store: wait, then try again"),
    ("out-of-date database schema", "it is of another MLflow version; if of an earlier one: mlflow db upgrade ADDRESS"),
    ("Can't locate revision", "the store is of a newer MLflow version: install that version, or use another store"),
    ("no such table", "the store is not whole: restore it, or move it away and fill a new one: dvc repro"),
    ("does not exist", "the store is not whole: restore it, or move it away and fill a new one: dvc repro"),
    ("malformed", "the store's file is damaged: restore it, or move it away and fill a new one: dvc repro"),
    ("Max retries exceeded", START_SERVER),
    ("No module named 'psycopg'", "pip install psycopg2-binary, and begin the address with postgresql+psycopg2://"),
    ("No module named", "install that driver, or use an address of another one"),
    ("connection to server", START_SERVER),
    ("Connection", START_SERVER),
)

SECRET_ARGUMENT = re.compile(
    r"([?&][^=&#\s]*(?:key|token|password|secret|signature|credential)[^=&#\s]*=)[^&#\s]+", re.I
)


def given_uri() -> str:
    """Return the address that MLFLOW_TRACKING_URI names, empty if it names none.

    A PostgreSQL address without a driver gets psycopg2 where SQLAlchemy's own choice, psycopg, is not installed.

    Raises:
        StoreError: It is no address.
    """
    uri = os.environ.get(URI_VARIABLE, "")
    try:
        endpoint(uri)
    except ValueError:
        # what stands before an @ may be a password with any characters
        shown = hide_password(re.sub(r"://.*@", "://***@", uri))
        raise StoreError(f"{URI_VARIABLE}: not an address: {shown}", ADDRESS_FIX) from None
    if uri.startswith(POSTGRESQL) and find_spec("psycopg") is None and find_spec("psycopg2") is not None:
        return uri.replace(POSTGRESQL, "postgresql+psycopg2://", 1)
    return uri


def endpoint(uri: str) -> tuple[str, int] | None:
    """Return the host and port that the address of a server names, None if it names no port or is not of a server.

    Raises:
        ValueError: It is malformed.
    """
    parts = urlsplit(uri)
    if uri.startswith(DATABASES):
        host, port = _database_endpoint(uri)
    elif parts.scheme in DEFAULT_PORTS:
        host, port = parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]
    else:
        return None
    return (host, port) if host and port else None


def _database_endpoint(uri: str) -> tuple[str | None, int | None]:
    """Return host and port as SQLAlchemy reads them: other than in a web address, a password may hold a slash."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except ArgumentError as error:
        raise ValueError(str(error)) from None
    return url.host, url.port


@contextmanager
def speaking(where: str = "") -> Iterator[None]:
    """Turn the errors of MLflow and what lies below it into a StoreError of one line."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if not isinstance(error, OSError | ModuleNotFoundError) and not type(error).__module__.startswith(SOURCES):
            raise
        text = hide_password(" ".join(str(error).split()))
        fix = next((fix for words, fix in FIXES if words in text), f"check the store and {URI_VARIABLE}")
        fix = fix.replace("ADDRESS", hide_password(where) or f"${URI_VARIABLE}")
        shown = text if len(text) < 200 else f"{text[:200]} ..."
        raise StoreError(f"{hide_password(where)}: {shown}" if where else shown, fix) from error


def hide_password(uri: str) -> str:
    """Return a URI, or a text with some, without the passwords, keys and tokens in it."""
    hidden = re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", uri)
    return SECRET_ARGUMENT.sub(r"\1***", hidden)
