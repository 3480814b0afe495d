"""Making and changing columns: which parameters each kind has, and what they may be."""

from __future__ import annotations

from typing import Any

from booking_resilience.testing.appwrite_server import parameters, php
from booking_resilience.testing.appwrite_server.dialect import (
    DIALECTS,
    ID_RULE,
    ApiError,
    Dialect,
    argument,
    bad_request,
    is_id,
)
from booking_resilience.testing.appwrite_server.kinds import (
    DATE_RULE,
    FLOAT_MAX,
    PLAIN_TEXT,
    SIZED,
    Column,
    date_problem,
    integer_rule,
    is_float,
    is_integer,
    range_rule,
)

_LONGEST = {"varchar": 16_381, "string": 1_073_741_824}
_SHORTEST_SECRET = 150  # characters of a column that is encrypted
_RELATIONS = ("oneToOne", "manyToOne", "manyToMany", "oneToMany")
_ON_DELETE = ("cascade", "restrict", "setNull")

# Of each family: what a default or a bound may be, and the rule that says so.
_DEFAULTS = {
    "integer": (lambda value: is_integer(value, 64), integer_rule(64)),
    "float": (is_float, "Value must be a valid float"),
    "boolean": (lambda value: isinstance(value, bool), "Value must be a valid boolean"),
    "datetime": (lambda value: date_problem(value) is None, DATE_RULE),
}


def make_column(name: str, body: dict[str, Any], now: str, dialect: Dialect = DIALECTS["tablesdb"]) -> Column:
    """Return the column that a request asks for.

    Raises:
        ApiError: If a parameter is missing or wrong.
    """
    if name == "relationship":
        return _make_relationship(dialect, body, now)
    key = _key(parameters.required(body, "key"), "key")
    column = Column(key, name, False, False, None, now, now)
    if name in SIZED:
        column.size = parameters.whole(body, "size", 1, _LONGEST[name])
    if name == "enum":
        column.elements = _elements(body)
    column.required = parameters.boolean(body, "required", None)
    low, high = _bounds(column, body)
    default = _default(column, body)
    column.array = parameters.boolean(body, "array", False)
    column.encrypt = parameters.boolean(body, "encrypt", False)
    if column.encrypt and name in SIZED and column.size < _SHORTEST_SECRET:
        rule = f"Encrypted strings require a minimum size of {_SHORTEST_SECRET} characters."
        raise bad_request(f"Size too small. {rule}")
    _finish(dialect, column, low, high, default)
    return column


def change_column(dialect: Dialect, column: Column, body: dict[str, Any], now: str, longest: int = 0) -> str:
    """Change a column as a request asks; return its key from now on.

    Args:
        dialect: The vocabulary.
        column: The column.
        body: What is asked for.
        now: The moment.
        longest: The length of the longest text that is stored in it.

    Raises:
        ApiError: If a parameter is missing or wrong.
    """
    new_key = body.get("newKey")
    if column.relation:
        on_delete = body.get("onDelete")
        if on_delete is not None and on_delete not in _ON_DELETE:
            raise argument("onDelete", f"Value must be one of ({', '.join(_ON_DELETE)}) or null")
        column.relation = {**column.relation, "onDelete": on_delete or column.relation["onDelete"]}
        column.updated = now
        return _key(new_key, "newKey") if new_key is not None else column.key
    changed = Column(column.key, column.name, False, column.array, None, column.created, now, column.size)
    changed.status = column.status
    changed.elements = _elements(body) if column.name == "enum" else []
    if column.name == "enum" and not changed.elements:
        raise dialect.column_error("value_invalid", "Enum elements must not be empty")
    changed.required = parameters.boolean(body, "required", None)
    low, high = _bounds(column, body)
    default = _default(changed, body)
    if column.name in SIZED and body.get("size") is not None:
        changed.size = parameters.whole(body, "size", 1, _LONGEST[column.name])
    if longest > changed.size:
        text = "Existing data is too large for new size, truncate your existing data then try again."
        raise dialect.column_error("invalid_resize", text)
    bounds = (column.limits[0] if low is None else low, column.limits[1] if high is None else high)
    _finish(dialect, changed, *bounds, default)
    key = _key(new_key, "newKey") if new_key is not None else column.key
    for name in ("required", "default", "size", "limits", "elements", "updated"):
        setattr(column, name, getattr(changed, name))
    return key


def _key(key: Any, name: str) -> str:
    if not is_id(key):
        raise argument(name, ID_RULE)
    return key  # type: ignore[no-any-return]  # checked above


def _elements(body: dict[str, Any]) -> list[str]:
    parameters.required(body, "elements")
    return parameters.texts(body, "elements", longest=255)


def _bounds(column: Column, body: dict[str, Any]) -> tuple[Any, Any]:
    if not column.kind.has_range:
        return None, None
    is_right, rule = _DEFAULTS[column.kind.family]
    low, high = (parameters.nullable(body, name, is_right, rule) for name in ("min", "max"))
    return low, high


def _default(column: Column, body: dict[str, Any]) -> Any:
    if column.kind.family in _DEFAULTS:
        return parameters.nullable(body, "default", *_DEFAULTS[column.kind.family])
    rule = _OWN_RULES.get(column.name)
    if rule is not None:
        return parameters.nullable(body, "default", lambda value: column.rule_against(value) is None, rule)
    return parameters.nullable(body, "default", lambda value: isinstance(value, str), "Value must be a valid string")


_OWN_RULES = {
    **dict.fromkeys(("point", "line", "polygon"), "Value must be an array"),
    "email": "Value must be a valid email address",
    "url": "Value must be a valid URL",
    "ip": "Value must be a valid IP address",
}


def _finish(dialect: Dialect, column: Column, low: Any, high: Any, default: Any) -> None:
    """Check what goes together, and set it."""
    if column.kind.has_range:
        least, most = (-FLOAT_MAX, FLOAT_MAX) if column.name == "float" else (php.INT_MIN, php.INT_MAX)
        column.limits = (least if low is None else low, most if high is None else high)
        if column.limits[0] > column.limits[1]:
            raise dialect.column_error("value_invalid", "Minimum value must be lesser than maximum value")
        if default is not None and not column.limits[0] <= default <= column.limits[1]:
            raise dialect.column_error("value_invalid", range_rule(*column.limits))
    if default is not None and column.name == "enum" and default not in column.elements:
        raise dialect.column_error("value_invalid", "Default value not found in elements")
    if default is not None and column.name in PLAIN_TEXT and (rule := column.rule_against(default)):
        raise dialect.column_error("value_invalid", rule)
    if column.required and default is not None:
        raise dialect.column_error("default_unsupported", f"Cannot set default value for required {dialect.column}")
    if column.array and default is not None:
        raise dialect.column_error("default_unsupported", f"Cannot set default value for array {dialect.column}s")
    column.default = column.kept(default) if not column.array else None


def _make_relationship(dialect: Dialect, body: dict[str, Any], now: str) -> Column:
    related_name = f"related{dialect.table.capitalize()}Id"
    related = parameters.uid(parameters.required(body, related_name), related_name)
    kind = parameters.one_of(body, "type", _RELATIONS)
    two_way = parameters.boolean(body, "twoWay", False)
    key = related if body.get("key") is None else _key(body["key"], "key")
    two_way_key = body.get("twoWayKey")
    on_delete = parameters.one_of({"onDelete": body.get("onDelete", "restrict")}, "onDelete", _ON_DELETE)
    column = Column(key, "relationship", False, False, None, now, now)
    column.relation = {
        f"related{dialect.table.capitalize()}": related,
        "relationType": kind,
        "twoWay": two_way,
        "twoWayKey": _key(two_way_key, "twoWayKey") if two_way_key is not None else "",
        "onDelete": on_delete,
        "side": "parent",
    }
    return column


def column_body(column: Column, *, is_in_table: bool = False) -> dict[str, Any]:
    """Return a column as an answer holds it.

    Args:
        column: The column.
        is_in_table: Whether it is part of a table's answer, where `encrypt` is never null.
    """
    kind = column.kind
    body: dict[str, Any] = {
        "key": column.key,
        "type": kind.shown,
        "status": column.status,
        "error": column.error,
        "required": column.required,
        "array": column.array,
        "$createdAt": column.created,
        "$updatedAt": column.updated,
    }
    if column.relation:
        return {**body, **column.relation}
    if column.name in SIZED:
        body["size"] = column.size
    if kind.has_range:
        body["min"], body["max"] = column.limits
    if column.name == "enum":
        body["elements"] = column.elements
    if kind.format is not None:
        body["format"] = kind.format
    body["default"] = column.default
    if column.name in PLAIN_TEXT:
        knows = is_in_table or column.status == "processing" or column.name == "string"
        body["encrypt"] = column.encrypt if knows else None
    return body


def not_available(dialect: Dialect) -> ApiError:
    """Return the error for a column that can't be used yet."""
    what = f"The requested {dialect.column} '%s' is not yet available."  # the real one forgets the key
    return dialect.column_error("not_available", f"{what} Please try again later.")
