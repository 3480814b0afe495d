"""Full-text search as MariaDB's boolean mode does it: words, a prefix for the last one, a phrase in quotes."""

from __future__ import annotations

import re
from collections.abc import Callable

from booking_resilience.testing.appwrite_server.collation import folded

_SHORTEST, _LONGEST = 3, 84  # characters of an indexed word
_STOP_WORDS = frozenset((
    "A", "ABOUT", "AN", "ARE", "AS", "AT", "BE", "BY", "COM", "DE", "EN", "FOR", "FROM", "HOW", "I", "IN", "IS", "IT",
    "LA", "OF", "ON", "OR", "THAT", "THE", "THIS", "TO", "WAS", "WHAT", "WHEN", "WHERE", "WHO", "WILL", "WITH", "UND",
    "WWW",
))  # fmt: skip
_WORD = re.compile(r"\w+(?:'\w+)*")


def _words(text: str) -> list[str]:
    return _WORD.findall(folded(text))


def _is_indexed(word: str) -> bool:
    return _SHORTEST <= len(word) <= _LONGEST and word not in _STOP_WORDS


def finder(wanted: str) -> Callable[[str], bool]:
    """Return what tells whether a text has what is wanted: the phrase, or any of the words; nothing finds nothing."""
    is_phrase = wanted.startswith('"') and wanted.endswith('"')
    words = _words(re.sub(r'[@+\-*)(<>~"]', " ", wanted))
    if not words:
        return lambda _: False
    if is_phrase:
        return lambda text: _has_phrase(_words(text), words)
    whole, prefix = {word for word in words[:-1] if _is_indexed(word)}, words[-1]

    def finds(text: str) -> bool:
        indexed = {word for word in _words(text) if _is_indexed(word)}
        return not whole.isdisjoint(indexed) or any(word.startswith(prefix) for word in indexed)

    return finds


def _has_phrase(words: list[str], phrase: list[str]) -> bool:
    if not any(map(_is_indexed, phrase)):
        return False
    return any(words[place : place + len(phrase)] == phrase for place in range(len(words) - len(phrase) + 1))
