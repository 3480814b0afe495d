"""The query language: parsing, and checking against the columns, in the real server's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from booking_resilience.testing.appwrite_server import php
from booking_resilience.testing.appwrite_server.dialect import UID_RULE, ApiError, bad_query, is_id
from booking_resilience.testing.appwrite_server.kinds import Column, date_problem, is_float, is_integer, range_rule
from booking_resilience.testing.appwrite_server.store import Table

LOGICAL = ("and", "or")
SPATIAL = (
    "crosses", "notCrosses", "distanceEqual", "distanceNotEqual", "distanceGreaterThan", "distanceLessThan",
    "intersects", "notIntersects", "overlaps", "notOverlaps", "touches", "notTouches", "covers", "notCovers",
    "spatialEquals", "notSpatialEquals",
)  # fmt: skip
VECTOR = ("vectorDot", "vectorCosine", "vectorEuclidean")
CONTAINS = ("contains", "containsAny", "containsAll", "notContains")

# How many values each filter has: the words for it; None for any number.
COUNTS: dict[str, str | None] = {
    **dict.fromkeys(("equal", *CONTAINS, "exists", "notExists"), "at least one value"),
    **dict.fromkeys(
        ("notEqual", "lessThan", "lessThanEqual", "greaterThan", "greaterThanEqual", "search", "notSearch", "regex",
         "startsWith", "notStartsWith", "endsWith", "notEndsWith"),
        "exactly one value",
    ),
    "between": "exactly two values",
    "notBetween": "exactly two values",
    "isNull": None,
    "isNotNull": None,
    **dict.fromkeys((*SPATIAL, *VECTOR), None),
}  # fmt: skip
OTHERS = ("limit", "offset", "cursorAfter", "cursorBefore", "select", "orderAsc", "orderDesc", "orderRandom")
METHODS = frozenset((*COUNTS, *LOGICAL, *OTHERS, "elemMatch"))

_MOST_VALUES = 500
_ON_ARRAYS = (*CONTAINS, "isNull", "isNotNull", "exists", "notExists")
_SYSTEM = {"$id": "text", "$sequence": "sequence", "$createdAt": "datetime", "$updatedAt": "datetime"}
_SELECTABLE = ("*", "$id", "$sequence", "$collection", "$tenant", "$permissions", "$createdAt", "$updatedAt")


@dataclass(slots=True)
class Query:
    """One query; the values of a logical one are queries."""

    method: str
    attribute: str
    values: list[Any]


@dataclass(slots=True)
class Listing:
    """What a list request asks for; of limit, offset and cursor the first one counts."""

    filters: list[Query] = field(default_factory=list)
    orders: list[tuple[str, bool]] = field(default_factory=list)
    limit: int | None = None
    offset: int | None = None
    cursor: tuple[str, bool] | None = None
    select: list[str] | None = None
    is_random: bool = False


def parse(texts: Sequence[str]) -> list[Query]:
    """Return the queries that texts hold.

    Raises:
        ApiError: If one of them isn't a query.
    """
    return [_read(text) for text in texts]


def _read(text: str) -> Query:
    try:
        value = php.decode(text)
    except ValueError:
        raise bad_query("Syntax error") from None
    if not isinstance(value, (dict, list)):
        raise _invalid(f"Invalid query. Must be an array, got {php.type_of(value)}")
    return _from(value if isinstance(value, dict) else {})


def _from(fields: dict[str, Any]) -> Query:
    method, attribute, values = (
        default if fields.get(name) is None else fields[name]
        for name, default in (("method", ""), ("attribute", ""), ("values", []))
    )
    if not isinstance(method, str):
        raise _invalid(f"Invalid query method. Must be a string, got {php.type_of(method)}")
    if method not in METHODS:
        raise _invalid(f"Invalid query method: {method}")
    if not isinstance(attribute, str):
        raise _invalid(f"Invalid query attribute. Must be a string, got {php.type_of(attribute)}")
    if not isinstance(values, (list, dict)):
        raise _invalid(f"Invalid query values. Must be an array, got {php.type_of(values)}")
    listed = list(values.values()) if isinstance(values, dict) else values
    if isinstance(values, dict) and method in OTHERS and method != "select":
        listed = []  # PHP finds no value under 0
    return Query(method, attribute, [_nested(item) for item in listed] if method in LOGICAL else listed)


def _nested(item: Any) -> Query:
    if not isinstance(item, (dict, list)):  # 1.9.6 falls over queries that are nested as text
        raise ApiError(500, "general_unknown", "Server Error")
    return _from(item if isinstance(item, dict) else {})


def _invalid(message: str) -> ApiError:
    return ApiError(400, "general_query_invalid", message)


def check(queries: Sequence[Query], table: Table, *, only: tuple[str, ...] | None = None) -> Listing:
    """Return what queries ask for.

    Args:
        queries: The queries.
        table: The table whose columns they name.
        only: The only methods that are allowed; None for all.

    Raises:
        ApiError: If one of them is wrong.
    """
    listing = Listing()
    for query in queries:
        if query.method in ("cursorAfter", "cursorBefore") and listing.cursor is None and only is None:
            listing.cursor = (_cursor(query, _invalid), query.method == "cursorAfter")
    for query in queries:
        if only is not None and query.method not in only:
            raise _invalid(f"Invalid query method: {query.method}")
        if query.method in OTHERS:
            _take(listing, query, table)
        else:
            _check_filter(query, table)
            listing.filters.append(query)
    ready = [index for index in table.indexes.values() if index.status == "available"]
    searchable = [index.columns for index in ready if index.kind == "fulltext"]
    for query in _flat(listing.filters):
        if query.method in ("search", "notSearch") and [query.attribute] not in searchable:
            raise _invalid(f'Searching by attribute "{query.attribute}" requires a fulltext index.')
    return listing


def _cursor(query: Query, error: Callable[[str], ApiError]) -> str:
    value = query.values[0] if query.values else None
    if not isinstance(value, str) or not is_id(value):
        raise error(f"Invalid cursor: {UID_RULE}")
    return value


def _take(listing: Listing, query: Query, table: Table) -> None:
    method, values = query.method, query.values
    if method in ("limit", "offset"):
        found = _number(method, values[0] if values else None)
        if getattr(listing, method) is None:
            setattr(listing, method, found)
    elif method == "select":
        _check_selection(values, table)
        listing.select = [*(listing.select or ()), *map(php.string, values)]
    elif method in ("orderAsc", "orderDesc"):
        _check_order(query.attribute, table)
        listing.orders.append((query.attribute, method == "orderAsc"))
    elif method == "orderRandom":
        listing.is_random = True
    else:
        _cursor(query, bad_query)


def _number(method: str, value: Any) -> int:
    least = 1 if method == "limit" else 0
    if not php.is_numeric(value):
        raise bad_query(f"Invalid {method}: Value must be a valid number")
    number = php.number(value)
    if not isinstance(number, int) or not least <= number <= php.INT_MAX:
        raise bad_query(f"Invalid {method}: {range_rule(least, php.INT_MAX)}")
    return number


def _check_selection(values: list[Any], table: Table) -> None:
    if not values:
        raise bad_query("No attributes selected")
    names = [php.string(value) for value in values]
    if len(set(names)) < len(names):
        raise bad_query("Duplicate attributes selected")
    for name in names:
        if name not in _SELECTABLE and name not in table.available():
            _check_known(name.partition(".")[0], table)


def _check_order(name: str, table: Table) -> None:
    top, dot, _ = name.partition(".")
    if dot and name not in table.available() and top in table.available():
        raise bad_query(f"Cannot order by nested attribute: {top}")
    _check_known(name if name in table.available() else top, table)


def _check_known(name: str, table: Table) -> None:
    if name not in _SYSTEM and name not in table.available():
        raise bad_query(f"Attribute not found in schema: {name}")


def _flat(queries: Sequence[Query]) -> list[Query]:
    return [one for query in queries for one in (_flat(query.values) if query.method in LOGICAL else [query])]


def _check_filter(query: Query, table: Table) -> None:
    if query.method in LOGICAL:
        for inner in query.values:
            if inner.method in OTHERS:
                _take(Listing(), inner, table)
            else:
                _check_filter(inner, table)
        name = query.method.capitalize()
        if any(inner.method in OTHERS for inner in query.values):
            raise bad_query(f"{name} queries can only contain filter queries")
        if len(query.values) < 2:
            raise bad_query(f"{name} queries require at least two queries")
        return
    if query.method == "elemMatch":
        raise bad_query("elemMatch is not supported by the database")
    _check_count(query)
    column = _column_of(query, table)
    if len(query.values) > _MOST_VALUES:
        raise bad_query(f"Query on attribute has greater than {_MOST_VALUES} values: {query.attribute}")
    is_spatial = column is not None and column.kind.family == "spatial"
    if column is not None and is_spatial and query.method not in ("isNull", "isNotNull"):
        text = f"The embedded Appwrite server does not emulate queries on {column.kind.shown} columns."
        raise ApiError(501, "general_not_implemented", text)
    if query.method in SPATIAL:
        raise bad_query(f'Spatial query "{query.method}" cannot be applied on non-spatial attribute: {query.attribute}')
    if query.method in VECTOR:
        raise bad_query("Vector queries can only be used on vector attributes")
    if query.method in ("exists", "notExists"):  # MariaDB has no such thing, which the real server finds out too late
        raise ApiError(500, "general_unknown", "Server Error")
    if not is_spatial:
        _check_values(query, column)


def _check_count(query: Query) -> None:
    words, values = COUNTS[query.method], query.values
    wrong = {
        None: False,
        "at least one value": not values or values[0] == [],
        "exactly one value": len(values) != 1,
        "exactly two values": len(values) != 2,
    }[words]
    if wrong:
        raise bad_query(f"{query.method[0].upper()}{query.method[1:]} queries require {words}.")
    is_pair = len(values) == 1 and isinstance(values[0], list) and len(values[0]) == 3
    if query.method.startswith("distance") and not is_pair:
        raise bad_query("Distance query requires [[geometry, distance]] parameters")


def _column_of(query: Query, table: Table) -> Column | None:
    """Return the column that a filter is about; None for what the system keeps."""
    name = query.attribute
    if name in _SYSTEM:
        return None
    column = table.available().get(name)
    if column is None and "." in name and (top := table.available().get(name.partition(".")[0])) is not None:
        raise bad_query(f"Cannot query nested attribute on: {top.key}")
    if column is None:
        raise bad_query(f"Attribute not found in schema: {name.partition('.')[0]}")
    if column.encrypt:
        raise bad_query(f"Cannot query encrypted attribute: {name}")
    return column


def _is_sequence(value: Any, _: Column | None) -> bool:
    number = php.number(value) if php.is_numeric(value) else 0
    return isinstance(number, int) and 1 <= number <= php.INT_MAX


_FITS: dict[str, Callable[[Any, Column | None], bool]] = {
    "text": lambda value, _: isinstance(value, str),
    "relationship": lambda value, _: isinstance(value, str) and len(value) <= 255,
    "integer": lambda value, column: is_integer(value, column.bits if column else 64),
    "float": lambda value, _: is_float(value),
    "boolean": lambda value, _: isinstance(value, bool),
    "datetime": lambda value, _: date_problem(value) is None,
    "sequence": _is_sequence,
}


def _check_values(query: Query, column: Column | None) -> None:
    name, method = query.attribute, query.method
    family = _SYSTEM[name] if column is None else column.kind.family
    if not all(_FITS[family](value, column) for value in query.values):
        raise bad_query(f'Query value is invalid for attribute "{name}"')
    if column is not None and column.relation and column.relation["relationType"] in ("oneToMany", "manyToMany"):
        raise bad_query("Cannot query on virtual relationship attribute")
    is_array = column is not None and column.array
    if not is_array and method in CONTAINS and family != "text":
        word = "notContains" if method == "notContains" else "contains"
        raise bad_query(f'Cannot query {word} on attribute "{name}" because it is not an array, string, or object.')
    if is_array and method not in _ON_ARRAYS:
        raise bad_query(f'Cannot query {method} on attribute "{name}" because it is an array.')
