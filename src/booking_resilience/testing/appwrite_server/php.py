"""The parts of PHP that show in answers: its JSON, its query strings, its names of types and its numbers."""

from __future__ import annotations

import json
import math
import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NoReturn
from urllib.parse import unquote_plus

INT_MAX, INT_MIN = 2**63 - 1, -(2**63)
_DEEPEST = 512  # json_decode's default
_TYPES = {str: "string", int: "integer", float: "double", bool: "boolean", type(None): "NULL"}
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


def _whole(digits: str) -> int | float:
    if digits == "-0":
        return -0.0
    if len(digits) > 20:
        return float(digits)
    number = int(digits)
    return number if INT_MIN <= number <= INT_MAX else float(number)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} isn't JSON")


_DECODER = json.JSONDecoder(parse_int=_whole, parse_constant=_refuse)


def decode(raw: bytes | str) -> Any:
    """Return what JSON holds; integers beyond 64 bits become floats.

    Raises:
        ValueError: If it isn't JSON in PHP's eyes: a byte order mark, half a surrogate pair, more than 512 levels.
    """
    text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("too deep") from None
    if "\\u" in text:
        _utf8(value)
    if text.count("[") + text.count("{") > _DEEPEST and _depth(value) > _DEEPEST:
        raise ValueError("too deep")
    return value


def _utf8(value: Any) -> None:
    """Refuse half a surrogate pair, which can't be encoded."""
    json.dumps(value, ensure_ascii=False).encode()


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while containers := [one for one in level if isinstance(one, (list, dict))]:
        level = [item for one in containers for item in (one if isinstance(one, list) else one.values())]
        depth += 1
    return depth


def type_of(value: Any) -> str:
    """Return PHP's name for the type of a JSON value."""
    return _TYPES.get(type(value), "array")


def is_empty(value: Any) -> bool:
    """Tell whether PHP's `empty` holds."""
    return not value or value == "0"


def is_numeric(value: Any) -> bool:
    """Tell whether it is a number, or a string that is one."""
    if isinstance(value, str):
        return _NUMBER.fullmatch(value) is not None
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(value: Any) -> int | float:
    """Return what a numeric value stands for."""
    if not isinstance(value, str):
        return value  # type: ignore[no-any-return]  # the caller has asked is_numeric
    text = value.strip()
    return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else float(text)


def formatted(value: float) -> str:
    """Return a number as `number_format` writes it: no decimals, commas between thousands."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return "inf" if value > 0 else "-inf" if value < 0 else "nan"
        value = int(Decimal(value).quantize(Decimal(1), ROUND_HALF_UP)) if abs(value) < 1e15 else int(value)
    return f"{value:,}"


def string(value: Any) -> str:
    """Return a value as PHP turns it into text."""
    if isinstance(value, bool) or value is None:
        return "1" if value else ""
    return "Array" if isinstance(value, (list, dict)) else str(value)


def as_list(value: Any) -> Any:
    """Return a list where an object's keys are 0, 1, 2 and so on: PHP tells no difference; else the value itself."""
    if isinstance(value, dict) and list(value) == [str(place) for place in range(len(value))]:
        return list(value.values())
    return value


def text_of(value: float | None) -> str:
    """Return a number as PHP writes it in a text; nothing for null."""
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def parse_query(text: str) -> dict[str, Any]:
    """Return the parameters of a query string or a form; `a[]=1` and `a[k]=1` make dicts with PHP's keys."""
    found: dict[str, Any] = {}
    for pair in text.split("&"):
        name, _, value = pair.partition("=")
        name = unquote_plus(name, errors="replace").lstrip(" ")
        base, bracket, rest = name.partition("[")
        if not base:
            continue
        keys = re.findall(r"\[([^\]]*)\]", bracket + rest) if bracket else []
        place, key = found, base.replace(".", "_").replace(" ", "_")
        for inner in keys[:_DEEPEST]:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place, key = place[key], inner
            if key == "":
                key = str(max((int(one) for one in place if one.isdigit()), default=-1) + 1)
        place[key] = unquote_plus(value, errors="replace")
    return found
