"""The words of reports, one catalogue a language: ethos/reporting/texts/LANGUAGE.yaml."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ethos.errors import unknown

FOLDER = Path(__file__).with_name("texts")
ENGLISH = "en"
# stands around the names of parts while they are put in their places; no text holds it
MARK = "\0"


class Texts:
    """The texts of one language; call it with a key and what its placeholders stand for.

    Args:
        language: Name of a catalogue.

    Raises:
        SpecError: There is no such catalogue.
    """

    def __init__(self, language: str = ENGLISH) -> None:
        if language not in languages():
            raise unknown("language", language, languages())
        self.language = language
        self._texts = catalogue(language)

    def __call__(self, key: str, **values: object) -> str:
        """Return a text; KeyError if the catalogue lacks it."""
        return self._texts[key].format(**values)

    def sentence(self, key: str, **parts: Any) -> tuple[Any, ...]:
        """Return a text as the pieces of a cell, in which figures and facts stand for its placeholders."""
        pieces = self(key, **{name: f"{MARK}{name}{MARK}" for name in parts}).split(MARK)
        return tuple(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def either(self, key: str, otherwise: str) -> str:
        """Return a text, or `otherwise` where the catalogue has no word for something that a user may name."""
        return self._texts.get(key, otherwise)


def languages() -> list[str]:
    """Return the names of all catalogues."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def catalogue(language: str) -> dict[str, str]:
    """Return a catalogue with its sections flattened: `section.key`."""
    return dict(_flat(yaml.safe_load((FOLDER / f"{language}.yaml").read_text(encoding="utf-8"))))


def _flat(node: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in node.items():
        name = f"{prefix}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, dict) else [(name, str(value).strip())]
    return found
