"""JSON-like data: what arguments and results of workflows and calls may be, and how it is written.

Dicts with string keys, lists, tuples (which come back as lists), strings, whole numbers, finite floats, booleans, None,
rows of `booking_resilience.appwrite`, which come back as rows, and IDs of `booking_resilience.web.idempotent_id`, which
keep their mark.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import importlib
import json
import math
from typing import Any, Final

from typing_extensions import TypeIs

_ROW: Final = "$row"
_DICT: Final = "$dict"  # a dict of the user's own that looks like a mark
_KEY: Final = "$key"
_ROWS: Final = "booking_resilience.appwrite.rows"
_KEYS: Final = "booking_resilience.web.keys"
_MOMENTS: Final = ("created_at", "updated_at")
_DEPTH: Final = 100
_BITS: Final = 14_000  # of a whole number: Python writes no more than 4,300 digits
_ALLOWED: Final = "JSON-like data (dict with string keys, list, str, int, finite float, bool, None, or a Row)"


def encode(name: str, value: object, depth: int = 0) -> Any:
    """Return the value as JSON has it.

    Args:
        name: What it is, for the error.
        value: The value.
        depth: How deep in another value it lies.

    Raises:
        TypeError: If it isn't JSON-like data.
    """
    if depth > _DEPTH:
        raise TypeError(f"{name} must be JSON-like data, not nested more than {_DEPTH} levels deep")
    if value is None or isinstance(value, bool) or (type(value) is int and value.bit_length() <= _BITS):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if _is_string(value):
        text = str.__str__(value)
        return {_KEY: text} if _is_a(value, _KEYS, "IdempotentId") else text
    if isinstance(value, (list, tuple)):
        return [encode(f"{name}[{at}]", item, depth + 1) for at, item in enumerate(value)]
    if type(value) is dict:
        written = {_key(name, key): encode(f"{name}[{key!r}]", item, depth + 1) for key, item in value.items()}
        return {_DICT: written} if len(written) == 1 and not written.keys().isdisjoint((_ROW, _DICT, _KEY)) else written
    if _is_a(value, _ROWS, "Row"):
        return {_ROW: _row(name, value, depth + 1)}
    raise TypeError(f"{name} must be {_ALLOWED}, not {_shown(value)}")


def decode(value: Any) -> Any:
    """Return what was encoded."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_KEY}:
        return importlib.import_module(_KEYS).IdempotentId(value[_KEY])
    if value.keys() == {_ROW}:
        fields = {field: decode(item) for field, item in value[_ROW].items()}
        for field in _MOMENTS:
            fields[field] = fields[field] and datetime.datetime.fromisoformat(fields[field])
        return importlib.import_module(_ROWS).Row(**fields)
    if value.keys() == {_DICT}:
        value = value[_DICT]
    return {key: decode(item) for key, item in value.items()}


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two pieces of encoded data are equal, whatever marks their IDs carry."""
    return _plain(one) == _plain(other)


def _plain(value: Any) -> str:
    return json.dumps(decode(value), sort_keys=True, default=lambda item: {_ROW: _row("", item, 0)})


def _row(name: str, row: Any, depth: int) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if field.name in _MOMENTS:
            written[field.name] = value and value.isoformat()
        else:
            written[field.name] = encode(f"{name}.{field.name}", dict(value) if field.name == "data" else value, depth)
    return written


def _key(name: str, key: object) -> str:
    if not _is_string(key):
        raise TypeError(f"{name} must be JSON-like data, whose keys are strings, not {_shown(key)}")
    return str.__str__(key)


def _is_string(value: object) -> TypeIs[str]:
    return isinstance(value, str) and not isinstance(value, enum.Enum)


def _is_a(value: object, module: str, name: str) -> bool:
    """Tell whether the value's class is this one, without importing its module."""
    return (type(value).__module__, type(value).__name__) == (module, name)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - any object may come here
        text = f"a {type(value).__qualname__}"
    return text if len(text) <= 200 else f"{text[:200]}…"
