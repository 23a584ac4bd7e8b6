"""Errors of the tracking store, turned into one line with what helps."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ethos.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

URI_VARIABLE = "MLFLOW_TRACKING_URI"
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
    ("Max retries exceeded", f"start the server, or unset {URI_VARIABLE} to use the embedded store"),
    ("No module named 'psycopg'", "pip install psycopg2-binary, and begin the address with postgresql+psycopg2://"),
    ("No module named", "install that driver, or use an address of another one"),
    ("connection to server", f"start the server, or unset {URI_VARIABLE} to use the embedded store"),
    ("Connection", f"start the server, or unset {URI_VARIABLE} to use the embedded store"),
)

SECRET_ARGUMENT = re.compile(
    r"([?&][^=&#\s]*(?:key|token|password|secret|signature|credential)[^=&#\s]*=)[^&#\s]+", re.I
)


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
