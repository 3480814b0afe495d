"""Copying a context: redacted, plain, and bounded in depth, breadth and number of values.

Nothing here raises, whatever it is given. Types are asked what they are, never objects, which may lie or raise.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Set
from typing import Any

from booking_resilience.monitor.redact import (
    CYCLE,
    REDACTED,
    TRUNCATED,
    Redaction,
    Redactor,
    clean_text,
    text_of,
)

_DEPTH, _BREADTH, _VALUES = 5, 32, 200
_FAILED = "<copy failed>"
_LENGTHS: dict[type, Any] = {kind: vars(kind)["__len__"] for kind in (bytes, bytearray, memoryview)}


class ContextCopy:
    """Copies one context.

    Args:
        redact: What takes the secrets out. A function is asked of each value of a mapping, by its key, and of texts in
            lists and texts that objects are turned into, by the key that leads there.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._left = _VALUES
        self._inside: set[int] = set()
        self._key = ""

    def of(self, context: object) -> dict[str, Any]:
        """Return the copy; never raises."""
        if context is None:
            return {}
        copy = self._copy(context, 0)
        return copy if isinstance(copy, dict) else {"context": copy}

    def _copy(self, value: Any, depth: int) -> Any:
        self._left -= 1
        try:
            return self._plain(value, type(value), depth)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - reading a value may do anything, such as exit
            return _FAILED

    def _plain(self, value: Any, kind: type, depth: int) -> Any:
        if value is None or kind is bool:
            return value
        if issubclass(kind, enum.Enum):
            value = value.value
            kind = type(value)
        if issubclass(kind, str):
            return clean_text(str.__str__(value), self._redact, self._key)
        if issubclass(kind, int):
            return self._whole(int.__int__(value))
        if issubclass(kind, float):
            number = float.__float__(value)
            if not math.isfinite(number):
                return repr(number)
            return REDACTED if number.is_integer() and self._whole(int(number)) == REDACTED else number
        for known, length in _LENGTHS.items():
            if issubclass(kind, known):
                return f"<{length(value)} bytes>"
        if issubclass(kind, (Mapping, list, tuple, Set)):
            return self._container(value, depth, is_mapping=issubclass(kind, Mapping))
        return clean_text(text_of(value), self._redact, self._key)

    def _whole(self, number: int) -> int | str:
        if abs(number) >= 2**63:
            return f"<int of {number.bit_length()} bits>"
        if isinstance(self._redact, Redaction) and self._redact.clean(str(number)) != str(number):  # a card's
            return REDACTED
        return number

    def _container(self, value: Any, depth: int, *, is_mapping: bool) -> Any:
        if id(value) in self._inside:
            return CYCLE
        if depth >= _DEPTH or self._left <= 0:
            return TRUNCATED
        self._inside.add(id(value))
        try:
            return self._mapping(value, depth) if is_mapping else self._sequence(value, depth)
        finally:
            self._inside.discard(id(value))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copy: dict[str, Any] = {}
        for number, key in enumerate(value):
            if number >= _BREADTH or self._left <= 0:
                copy[TRUNCATED] = len(value) - number
                break
            full = key if type(key) is str else text_of(key)
            texts = self._redact if isinstance(self._redact, Redaction) else None  # a function is asked of values only
            outer, self._key = self._key, full
            try:
                copy[clean_text(full, texts, "", 128)] = self._value(full, value[key], depth)
            finally:
                self._key = outer
        return copy

    def _sequence(self, value: Any, depth: int) -> list[Any]:
        copy = []
        for number, item in enumerate(value):
            if number >= _BREADTH or self._left <= 0:
                copy.append(TRUNCATED)
                break
            copy.append(self._copy(item, depth + 1))
        return copy

    def _value(self, key: str, value: Any, depth: int) -> Any:
        if isinstance(self._redact, Redaction):
            return REDACTED if self._redact.hides(key) else self._copy(value, depth + 1)
        if self._redact is not None:
            try:
                value = self._redact(key, value)
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - a redactor that fails redacts all
                return REDACTED
            if issubclass(type(value), str):  # the answer; it is not asked again
                self._left -= 1
                return clean_text(str.__str__(value), None)
        return self._copy(value, depth + 1)
