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

_ROW: Final = "$row"
_DICT: Final = "$dict"
_KEY: Final = "$key"
_MARKS: Final = (_ROW, _DICT, _KEY)
_ROWS: Final = "booking_resilience.appwrite.rows"
_KEYS: Final = "booking_resilience.web.keys"
_DEPTH: Final = 100
_BITS: Final = 14_000  # of a whole number: Python writes no more than 4,300 digits


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
    if value is None or value is True or value is False or (type(value) is int and value.bit_length() <= _BITS):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, str) and not isinstance(value, enum.Enum):
        text = str.__str__(value)
        return {_KEY: text} if _is_a(value, _KEYS, "IdempotentId") else text
    if isinstance(value, (list, tuple)):
        return [encode(f"{name}[{at}]", item, depth + 1) for at, item in enumerate(value)]
    if type(value) is dict:
        return _dict(name, value, depth)
    if is_row(value):
        row: Any = value
        return {_ROW: {field.name: _field(name, row, field.name, depth) for field in dataclasses.fields(row)}}
    raise TypeError(
        f"{name} must be JSON-like data (dict with string keys, list, str, int, finite float, bool, None, or a Row), "
        f"not {_shown(value)}"
    )


def decode(value: Any) -> Any:
    """Return what was encoded."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_DICT}:
        return {key: decode(item) for key, item in value[_DICT].items()}
    if value.keys() == {_KEY}:
        return importlib.import_module(_KEYS).IdempotentId(value[_KEY])
    if value.keys() == {_ROW}:
        return _row(value[_ROW])
    return {key: decode(item) for key, item in value.items()}


def canonical(value: Any) -> str:
    """Return encoded data as text that is equal for equal data."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two pieces of encoded data are equal, whatever marks their IDs carry."""
    return canonical(_unmarked(one)) == canonical(_unmarked(other))


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_KEY}:
        return value[_KEY]
    if value.keys() == {_DICT}:  # a dict of the user's own that only looks like a mark
        return {_DICT: {key: _unmarked(item) for key, item in value[_DICT].items()}}
    return {key: _unmarked(item) for key, item in value.items()}


def is_row(value: object) -> bool:
    """Tell whether the value is a stored row, without importing what makes them."""
    return _is_a(value, _ROWS, "Row")


def _is_a(value: object, module: str, name: str) -> bool:
    kind = type(value)
    return kind.__module__ == module and kind.__name__ == name


def _dict(name: str, value: dict[Any, Any], depth: int) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for key, item in value.items():
        if not isinstance(key, str) or isinstance(key, enum.Enum):
            raise TypeError(f"{name} must be JSON-like data, whose keys are strings, not {_shown(key)}")
        written[str.__str__(key)] = encode(f"{name}[{key!r}]", item, depth + 1)
    return {_DICT: written} if len(written) == 1 and next(iter(written)) in _MARKS else written


def _field(name: str, row: Any, field: str, depth: int) -> Any:
    value = getattr(row, field)
    if isinstance(value, datetime.datetime):
        return {"at": value.isoformat()}
    return {"is": encode(f"{name}.{field}", dict(value) if field == "data" else value, depth + 1)}


def _row(fields: dict[str, Any]) -> Any:
    row: Any = importlib.import_module(_ROWS).Row
    known = {field.name for field in dataclasses.fields(row)}
    values = {
        field: datetime.datetime.fromisoformat(value["at"]) if "at" in value else decode(value["is"])
        for field, value in fields.items()
        if field in known  # a row that a newer version has written
    }
    return row(**values)


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - any object may come here
        text = f"a {type(value).__qualname__}"
    return text if len(text) <= 200 else f"{text[:200]}…"
