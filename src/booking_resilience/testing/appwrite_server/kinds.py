"""The kinds of columns: what each accepts, in which words it refuses, how its values are stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from booking_resilience.testing.appwrite_server import dates, formats
from booking_resilience.testing.appwrite_server.php import INT_MAX, INT_MIN, as_list, formatted

FLOAT_MAX = 1.7976931348623157e308
EARLIEST, LATEST = "1000-01-01", "9999-12-31"
DATE_RULE = f"Value must be valid date between {EARLIEST} 00:00:00 and {LATEST} 23:59:59."


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of column.

    Attributes:
        shown: What answers call it.
        family: What it holds: `text`, `integer`, `float`, `boolean`, `datetime`, `spatial` or `relationship`.
        size: How many characters at most, where that is the kind's and not the column's.
        format: The format that answers name; None where there is none.
        width: How many bytes of a row it takes; 0 where that follows from its size.
        has_range: Whether columns of it have a minimum and a maximum.
    """

    shown: str
    family: str
    size: int = 0
    format: str | None = None
    width: int = 0
    has_range: bool = False


KINDS: dict[str, Kind] = {
    "string": Kind("string", "text"),
    "varchar": Kind("varchar", "text"),
    "text": Kind("text", "text", 16_383, width=20),
    "mediumtext": Kind("mediumtext", "text", 4_194_303, width=20),
    "longtext": Kind("longtext", "text", 1_073_741_823, width=20),
    "enum": Kind("string", "text", 255, "enum"),
    "email": Kind("string", "text", 254, "email"),
    "url": Kind("string", "text", 2000, "url"),
    "ip": Kind("string", "text", 39, "ip"),
    "integer": Kind("integer", "integer", has_range=True),
    "bigint": Kind("bigint", "integer", width=8, has_range=True),
    "float": Kind("double", "float", width=8, has_range=True),
    "boolean": Kind("boolean", "boolean", width=1),
    "datetime": Kind("datetime", "datetime", width=7, format=""),
    "relationship": Kind("relationship", "relationship", width=1021),
    "point": Kind("point", "spatial", width=25),
    "line": Kind("linestring", "spatial", width=20),
    "polygon": Kind("polygon", "spatial", width=20),
}
SIZED = ("string", "varchar")
PLAIN_TEXT = ("string", "varchar", "text", "mediumtext", "longtext")


@dataclass(slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: The name of its kind.
        size: How many characters a text may have.
        limits: Between which a number must be.
        elements: What an enum may be.
        relation: What answers say of a relationship.
    """

    key: str
    name: str
    required: bool
    array: bool
    default: Any
    created: str
    updated: str
    size: int = 0
    limits: tuple[float, float] = (0, 0)
    elements: list[str] = field(default_factory=list)
    relation: dict[str, Any] = field(default_factory=dict)
    encrypt: bool = False
    status: str = "processing"
    error: str = ""

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return KINDS[self.name]

    @property
    def bits(self) -> int:
        """How many bits its integers have: those whose maximum needs it are long."""
        return 64 if self.name == "bigint" or self.limits[1] > 2**31 - 1 else 32

    @property
    def width(self) -> int:
        """How many bytes of a row it takes."""
        if self.array:
            return 20
        if self.kind.width:
            return self.kind.width
        if self.kind.family == "integer":
            return self.bits // 8
        size = self.kind.size or self.size
        if self.name in SIZED and size > 16_383:
            return 20
        return 4 * size + (1 if size <= 255 else 2)

    def problem(self, value: Any) -> str | None:
        """Return what is wrong with a value, in Appwrite's words; None if nothing is."""
        if self.kind.family == "relationship" or (value is None and not self.required):
            return None
        if not self.array:
            wrong = self.refusal(value)
            return wrong and f'Attribute "{self.key}" has {wrong}'
        value = as_list(value)
        if not isinstance(value, list):
            return f'Attribute "{self.key}" must be an array'
        for place, item in enumerate(value):
            wrong = None if item is None and not self.required else self.refusal(item)
            if wrong:
                return f"Attribute \"{self.key}['{place}']\" has {wrong}"
        return None

    def refusal(self, value: Any) -> str | None:
        """Return what is wrong with one value, without the column's name."""
        rule = self.rule_against(value)
        has_format = bool(self.kind.format) or self.kind.has_range
        return rule and f"invalid {'format' if has_format else 'type'}. {rule}"

    def rule_against(self, value: Any) -> str | None:
        """Return the rule that a value breaks; None if none."""
        return _RULES[self.kind.family](self, value)

    def stored(self, value: Any) -> Any:
        """Return the value as it is stored and answered: an array that is null is answered as an empty one."""
        kept = self.kept(value)
        return [] if kept is None and self.array else kept

    def kept(self, value: Any) -> Any:
        """Return the value as the database keeps it."""
        convert = _STORED.get(self.kind.family)
        value = as_list(value) if self.array else value
        if value is None or convert is None:
            return value
        return [None if item is None else convert(item) for item in value] if self.array else convert(value)


def date_problem(value: Any) -> str | None:
    """Return the rule that a moment breaks; an empty text is now."""
    try:
        year = dates.parse(value).year
    except (ValueError, TypeError, AttributeError):
        return DATE_RULE
    return None if year >= 1000 else DATE_RULE


def _text(column: Column, value: Any) -> str | None:
    size = column.kind.size or column.size
    if not isinstance(value, str) or len(value) > size:
        return f"Value must be a valid string and no longer than {size} chars"
    check = _FORMATS.get(column.kind.format or "")
    return check(column, value) if check else None


def _enum(column: Column, value: str) -> str | None:
    return None if value in column.elements else f"Value must be one of ({', '.join(column.elements)})"


_FORMATS: dict[str, Callable[[Column, str], str | None]] = {
    "enum": _enum,
    "email": lambda _, value: None if formats.is_email(value) else "Value must be a valid email address",
    "url": lambda _, value: None if formats.is_url(value) else "Value must be a valid URL",
    "ip": lambda _, value: None if formats.is_ip(value) else "Value must be a valid IP address",
}


def integer_rule(bits: int) -> str:
    """Return the rule of integers; PHP's powers of two are floats, which shows in the maximum of long ones."""
    low, high = (-(2**31), 2**31 - 1) if bits == 32 else (-float(2**63), float(2**63))
    return f"Value must be a valid signed {bits}-bit integer between {formatted(low)} and {formatted(high)}"


def is_integer(value: Any, bits: int) -> bool:
    """Tell whether it is an integer of so many bits."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1)


def _integer(column: Column, value: Any) -> str | None:
    if is_integer(value, column.bits):
        return _range(column, value)
    if column.name == "bigint":
        return f"Value must be a valid signed 64-bit integer between {formatted(INT_MIN)} and {formatted(INT_MAX)}"
    return integer_rule(column.bits)


def _float(column: Column, value: Any) -> str | None:
    if not is_float(value):
        return "Value must be a valid float"
    if math.isinf(value):
        return range_rule(-FLOAT_MAX, FLOAT_MAX)
    return _range(column, value)


def is_float(value: Any) -> bool:
    """Tell whether it is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _range(column: Column, value: float) -> str | None:
    low, high = column.limits
    return None if low <= value <= high else range_rule(low, high)


def range_rule(low: float, high: float) -> str:
    """Return the rule of a range."""
    return f"Value must be a valid range between {formatted(low)} and {formatted(high)}"


def _boolean(_: Column, value: Any) -> str | None:
    return None if isinstance(value, bool) else "Value must be a valid boolean"


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_float, value))


def _spatial(column: Column, value: Any) -> str | None:
    if not isinstance(value, list):
        return "Value must be an array"
    if column.name == "point":
        return None if _is_point(value) else "Point must be an array of two numeric values"
    if column.name == "line":
        right = len(value) >= 2 and all(map(_is_point, value))
        return None if right else "LineString must contain at least two points"
    rings = value if value and isinstance(value[0], list) and not _is_point(value[0]) else [value]
    right = all(isinstance(ring, list) and len(ring) >= 4 and all(map(_is_point, ring)) for ring in rings)
    return None if right else "Each ring in Polygon must contain at least 4 points"


_RULES: dict[str, Callable[[Column, Any], str | None]] = {
    "text": _text,
    "integer": _integer,
    "float": _float,
    "boolean": _boolean,
    "datetime": lambda _, value: date_problem(value),
    "spatial": _spatial,
    "relationship": lambda *_: None,
}


def _plain(value: float) -> float:
    value = float(value)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


_STORED: dict[str, Callable[[Any], Any]] = {"datetime": dates.stored, "float": _plain}
