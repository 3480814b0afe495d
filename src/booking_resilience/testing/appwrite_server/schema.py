"""Columns: their types, what they accept, and how values are stored."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from booking_resilience import clock
from booking_resilience.testing.appwrite_server.dialect import argument, not_optional

if TYPE_CHECKING:
    from collections.abc import Callable

INT32 = (-(2**31), 2**31 - 1)
FLOAT = (-1.7976931348623157e308, 1.7976931348623157e308)
_LONG = {"text": 16_383, "mediumtext": 4_194_303, "longtext": 1_073_741_823}
_TEXTS = ("string", "varchar", *_LONG)
_DAYS = {"yesterday": -1, "today": 0, "midnight": 0, "tomorrow": 1}
TYPES = (*_TEXTS, "integer", "float", "boolean", "datetime", "enum", "email", "url", "ip")
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")


def timestamp(moment: datetime.datetime) -> str:
    """Return a moment as Appwrite writes it: UTC, milliseconds."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}+00:00"


def now() -> str:
    """Return this moment as Appwrite writes it."""
    return timestamp(clock.utc_now())


@dataclass(slots=True)
class Column:
    """One column of a table.

    Attributes:
        kind: The type by which it is created: the last part of the route.
        facts: What an answer says of it beside what all columns have.
    """

    key: str
    kind: str
    required: bool
    array: bool
    default: Any
    facts: dict[str, Any]
    created: str
    status: str = "processing"
    limits: tuple[float, float] = field(default=(0, 0))

    def body(self) -> dict[str, Any]:
        """Return the column as an answer holds it."""
        shown = {"float": "double", "enum": "string", "email": "string", "url": "string", "ip": "string"}
        return {
            "key": self.key,
            "type": shown.get(self.kind, self.kind),
            "status": self.status,
            "error": "",
            "required": self.required,
            "array": self.array,
            "$createdAt": self.created,
            "$updatedAt": self.created,
            **self.facts,
            "default": self.default,
            **(
                {"encrypt": False if self.status == "processing" or self.kind == "string" else None}
                if self.kind in _TEXTS
                else {}
            ),
        }

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value that is not None, in Appwrite's words; None if nothing is."""
        if not self.array:
            wrong = self._wrong(value)
            return wrong and f'Attribute "{self.key}" has {wrong}'
        if not isinstance(value, list):
            return f'Attribute "{self.key}" must be an array'
        for place, item in enumerate(value):
            if wrong := self._wrong(item):
                return f"Attribute \"{self.key}['{place}']\" has {wrong}"
        return None

    def _wrong(self, value: Any) -> str | None:
        return _CHECKS[self.kind](self, value)

    def stored(self, value: Any) -> Any:
        """Return the value as it is stored and answered."""
        if value is None:
            return [] if self.array else None
        if self.kind == "datetime":
            return [timestamp(parse(item)) for item in value] if self.array else timestamp(parse(value))
        if self.kind == "float":
            return [_plain(item) for item in value] if self.array else _plain(value)
        return value


def parse(text: str) -> datetime.datetime:
    """Return the moment that a text names; UTC where it names no zone. Some English words do, as in PHP."""
    if text in _DAYS:
        midnight = clock.utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + datetime.timedelta(days=_DAYS[text])
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _plain(value: float) -> float:
    return int(value) if float(value).is_integer() and abs(value) < 2**53 else value


def _text(column: Column, value: Any) -> str | None:
    size = int(column.limits[1])
    if isinstance(value, str) and len(value) <= size:
        return None
    return f"invalid type. Value must be a valid string and no longer than {size} chars"


def _integer(column: Column, value: Any) -> str | None:
    low, high = INT32
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        return f"invalid format. Value must be a valid signed 32-bit integer between {low:,} and {high:,}"
    return _range(column, value)


def _float(column: Column, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "invalid type. Value must be a valid float"
    return _range(column, value)


def _range(column: Column, value: float) -> str | None:
    low, high = column.limits
    if low <= value <= high:
        return None
    return f"invalid format. Value must be a valid range between {low:,} and {high:,}"


def _boolean(_: Column, value: Any) -> str | None:
    return None if isinstance(value, bool) else "invalid type. Value must be a valid boolean"


def _datetime(_: Column, value: Any) -> str | None:
    try:
        parse(value)
    except (ValueError, TypeError):
        return "invalid type. Value must be valid date between 0000-01-01 00:00:00 and 9999-12-31 23:59:59."
    return None


def _enum(column: Column, value: Any) -> str | None:
    elements = column.facts["elements"]
    return None if value in elements else f"invalid format. Value must be one of ({', '.join(elements)})"


def _email(_: Column, value: Any) -> str | None:
    fits = isinstance(value, str) and _EMAIL.fullmatch(value)
    return None if fits else "invalid format. Value must be a valid email address"


def _url(_: Column, value: Any) -> str | None:
    fits = isinstance(value, str) and re.fullmatch(r"https?://[^\s/]+\S*", value)
    return None if fits else "invalid format. Value must be a valid URL"


def _ip(_: Column, value: Any) -> str | None:
    fits = isinstance(value, str) and re.fullmatch(r"[0-9a-fA-F:.]{2,45}", value)
    return None if fits else "invalid format. Value must be a valid IP address"


_CHECKS: dict[str, Callable[[Column, Any], str | None]] = {
    **dict.fromkeys(_TEXTS, _text),
    "integer": _integer,
    "float": _float,
    "boolean": _boolean,
    "datetime": _datetime,
    "enum": _enum,
    "email": _email,
    "url": _url,
    "ip": _ip,
}


def make_column(kind: str, body: dict[str, Any], now: str) -> Column:
    """Return the column that a request asks for.

    Raises:
        ApiError: If a parameter is missing or wrong.
    """
    key = body.get("key")
    if key is None:
        raise not_optional("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise argument("key", "Parameter must contain at most 36 chars and start with a letter or a digit")
    if not isinstance(body.get("required"), bool):
        raise (
            not_optional("required")
            if body.get("required") is None
            else argument("required", "Value must be a valid boolean")
        )
    facts: dict[str, Any] = {}
    limits: tuple[float, float] = (0, 0)
    if kind in ("string", "varchar"):
        size = body.get("size")
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not 1 <= size <= 1_073_741_824:
            raise argument("size", "Value must be a valid range between 1 and 1,073,741,824")
        facts["size"], limits = int(size), (0, int(size))
    elif kind in _LONG:
        limits = (0, _LONG[kind])
    elif kind in ("integer", "float"):
        low, high = INT32 if kind == "integer" else FLOAT
        limits = (low if body.get("min") is None else body["min"], high if body.get("max") is None else body["max"])
        facts = {"min": limits[0], "max": limits[1]}
    elif kind == "enum":
        elements = body.get("elements")
        if not isinstance(elements, list) or not elements or not all(isinstance(item, str) for item in elements):
            raise argument("elements", "Value must a valid array and Value must be a valid string")
        facts = {"elements": elements, "format": "enum"}
    elif kind in ("email", "url", "ip"):
        facts = {"format": kind}
    elif kind == "datetime":
        facts = {"format": ""}
    array = body.get("array") is True
    return Column(key, kind, body["required"], array, body.get("default"), facts, now, limits=limits)
