"""The query language of the lists: parsing, checking against the columns, and carrying out."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from booking_resilience.testing.appwrite_server.dialect import ApiError, Dialect, argument, bad_query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from booking_resilience.testing.appwrite_server.store import Row, Table

SYSTEM = {"$id": "id", "$sequence": "sequence", "$createdAt": "created", "$updatedAt": "updated"}
_DEFAULT_LIMIT = 25
_MOST = 2**63 - 1
_MOST_VALUES = 500


def _text(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


def _any(test: Callable[[Any, Any], bool]) -> Callable[[Any, Sequence[Any]], bool]:
    return lambda value, wanted: value is not None and any(test(value, item) for item in wanted)


def _all_not(test: Callable[[Any, Any], bool]) -> Callable[[Any, Sequence[Any]], bool]:
    return lambda value, wanted: value is not None and not any(test(value, item) for item in wanted)


def _holds(value: Any, item: Any) -> bool:
    return item in map(_text, value) if isinstance(value, list) else str(item) in str(value)


# Of a value and what it is compared with, both without regard to letter case.
_TESTS: dict[str, Callable[[Any, Sequence[Any]], bool]] = {
    "equal": lambda value, wanted: value is not None and value in wanted,
    "notEqual": lambda value, wanted: value not in wanted,
    "lessThan": _any(operator.lt),
    "lessThanEqual": _any(operator.le),
    "greaterThan": _any(operator.gt),
    "greaterThanEqual": _any(operator.ge),
    "between": lambda value, wanted: value is not None and wanted[0] <= value <= wanted[1],
    "notBetween": lambda value, wanted: value is not None and not wanted[0] <= value <= wanted[1],
    "startsWith": _any(lambda a, b: str(a).startswith(str(b))),
    "notStartsWith": _all_not(lambda a, b: str(a).startswith(str(b))),
    "endsWith": _any(lambda a, b: str(a).endswith(str(b))),
    "notEndsWith": _all_not(lambda a, b: str(a).endswith(str(b))),
    "contains": _any(_holds),
    "containsAny": _any(_holds),
    "containsAll": lambda value, wanted: value is not None and all(_holds(value, item) for item in wanted),
    "notContains": _all_not(_holds),
    "search": _any(lambda a, b: all(word in str(a).split() for word in str(b).split())),
    "isNull": lambda value, _: value is None,
    "isNotNull": lambda value, _: value is not None,
}
_LOGICAL = {"and": all, "or": any}
_OTHERS = ("limit", "offset", "cursorAfter", "cursorBefore", "select", "orderAsc", "orderDesc", "orderRandom")
_NEEDS_VALUES = set(_TESTS) - {"isNull", "isNotNull"}


@dataclass(slots=True)
class Listing:
    """What a list request asks for; of limit, offset and cursor the first one counts."""

    filters: list[dict[str, Any]] = field(default_factory=list)
    orders: list[tuple[str, bool]] = field(default_factory=list)
    limit: int | None = None
    offset: int | None = None
    cursor: tuple[str, bool] | None = None
    select: list[str] | None = None


def parse(queries: list[str], table: Table) -> Listing:
    """Return what the queries ask for.

    Raises:
        ApiError: If one of them is wrong.
    """
    if len(queries) > 100 or any(not 1 <= len(query) <= 4096 for query in queries):
        text = "Value must be a valid string and at least 1 chars and no longer than 4096 chars"
        raise argument("queries", f"Value must a valid array no longer than 100 items and {text}")
    listing = Listing()
    for text in queries:
        _take(listing, _checked(_read(text)), table)
    return listing


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise bad_query("Syntax error") from None


def _checked(query: Any) -> dict[str, Any]:
    if not isinstance(query, dict):
        raise bad_query(f"Invalid query. Must be an array, got {_php_type(query)}")
    method, attribute, values = query.get("method"), query.get("attribute", ""), query.get("values", [])
    if not isinstance(method, str):
        raise bad_query("Invalid query method. Must be a string, got " + _php_type(method))
    if method not in _TESTS and method not in _LOGICAL and method not in _OTHERS:
        raise ApiError(400, "general_query_invalid", f"Invalid query method: {method}")
    if not isinstance(attribute, str) or not isinstance(values, list):
        raise bad_query("Invalid query values. Must be an array")
    return {"method": method, "attribute": attribute, "values": values}


def _php_type(value: Any) -> str:
    names = {str: "string", int: "integer", float: "double", bool: "boolean", list: "array", type(None): "NULL"}
    return names.get(type(value), "array")


def _take(listing: Listing, query: dict[str, Any], table: Table) -> None:
    method, values = query["method"], query["values"]
    if method in ("limit", "offset"):
        value = values[0] if len(values) == 1 else None
        least = 1 if method == "limit" else 0
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
            raise bad_query(f"Invalid {method}: Value must be a valid range between {least} and {_MOST:,}")
        if getattr(listing, method) is None:
            setattr(listing, method, value)
    elif method in ("cursorAfter", "cursorBefore"):
        if len(values) != 1 or not isinstance(values[0], str) or not values[0]:
            raise bad_query("Invalid cursor: Value must be a valid ID")
        if listing.cursor is None:
            listing.cursor = (values[0], method == "cursorAfter")
    elif method == "select":
        for name in values:
            _known(str(name), table)
        listing.select = [*(listing.select or ()), *map(str, values)]
    elif method in ("orderAsc", "orderDesc"):
        _known(query["attribute"], table)
        listing.orders.append((query["attribute"], method == "orderAsc"))
    elif method != "orderRandom":
        listing.filters.append(_filter(query, table))


def _known(name: str, table: Table) -> None:
    known = name in SYSTEM or name in ("*", "$permissions", "$databaseId", "$tableId", "$collectionId")
    if not known and not (name in table.columns and table.columns[name].status == "available"):
        raise bad_query(f"Attribute not found in schema: {name}")


def _filter(query: dict[str, Any], table: Table) -> dict[str, Any]:
    method, attribute, values = query["method"], query["attribute"], query["values"]
    if method in _LOGICAL:
        queries = [_checked(_read(item) if isinstance(item, str) else item) for item in values]
        if any(inner["method"] in _OTHERS for inner in queries):
            raise bad_query(f"{method.capitalize()} queries can only contain filter queries")
        inner = [_filter(inner, table) for inner in queries]
        return {"method": method, "inner": inner}
    _known(attribute, table)
    if method in _NEEDS_VALUES and not values:
        raise bad_query(f"{method[0].upper()}{method[1:]} queries require at least one value.")
    if len(values) > _MOST_VALUES:
        raise bad_query(f"Query on attribute has greater than {_MOST_VALUES} values: {attribute}")
    if method in ("between", "notBetween") and len(values) != 2:
        raise bad_query(f"{method[0].upper()}{method[1:]} queries require exactly two values.")
    column = table.columns.get(attribute)
    if column is not None and method in _NEEDS_VALUES:
        kinds = {"integer": (int, float), "float": (int, float), "boolean": (bool,)}.get(column.kind, (str,))
        for value in values:
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise bad_query(f'Query value is invalid for attribute "{attribute}"')
    return query


def carry_out(listing: Listing, table: Table, dialect: Dialect) -> tuple[int, list[Row]]:
    """Return how many rows match, and the page of them that was asked for.

    Raises:
        ApiError: If the cursor's row is not there, or has no value to order by.
    """
    rows = _matching(listing, table)
    total, orders = len(rows), [*listing.orders, ("$sequence", _tie_of(listing.orders))]
    _sort(rows, orders)
    offset, limit = listing.offset or 0, _DEFAULT_LIMIT if listing.limit is None else listing.limit
    if listing.cursor is None:
        return total, rows[offset : offset + limit]
    row_id, after = listing.cursor
    anchor = table.find(row_id)
    if anchor is None:
        message = f"{dialect.row.capitalize()} '{row_id}' for the 'cursor' value not found."
        raise ApiError(400, "general_cursor_not_found", message)
    for name, _ in listing.orders:
        if value_of(anchor, name) is None:
            message = f"Order attribute '{name}' has a null value; a cursor cannot begin there."
            raise ApiError(400, "database_query_order_null", message)
    ends, begins = _place(anchor, rows, orders)
    if after:
        return total, rows[begins + offset :][:limit]
    return total, rows[: max(0, ends - offset)][-limit:]


def _tie_of(orders: list[tuple[str, bool]]) -> bool:
    """Tell whether equal rows come in ascending order of their sequence."""
    return orders[0][1] if len(orders) == 1 and orders[0][0] in ("$createdAt", "$updatedAt") else True


def _sort(rows: list[Row], orders: list[tuple[str, bool]]) -> None:
    """Sort rows that are in ascending order of their sequence, which is the last of the orders."""
    *orders, (_, ascending) = orders
    if not ascending:
        rows.reverse()
    for name, ascending in reversed(orders):
        rows.sort(key=_key_by(name), reverse=not ascending)


def _place(anchor: Row, rows: list[Row], orders: list[tuple[str, bool]]) -> tuple[int, int]:
    """Return where the rows before the anchor end, and where those after it begin; it need not be among them."""
    keys = [(_key_by(name), ascending) for name, ascending in orders]

    def comes_before(row: Row) -> bool:
        for key, ascending in keys:
            mine, its = key(row), key(anchor)
            if mine != its:
                return bool(mine < its) == ascending
        return False

    low, high = 0, len(rows)
    while low < high:
        middle = (low + high) // 2
        if comes_before(rows[middle]):
            low = middle + 1
        else:
            high = middle
    return low, low + (low < len(rows) and rows[low] is anchor)


def _matching(listing: Listing, table: Table) -> list[Row]:
    """Return the rows that all filters let through, in the order of their sequence."""
    rows = list(table.rows.values())
    for query in listing.filters:  # the ID is what rows are found by; no need to look at them all
        if query["method"] == "equal" and query["attribute"] == "$id":
            found = {row.id: row for value in query["values"] if (row := table.find(str(value)))}
            rows = sorted(found.values(), key=lambda row: row.sequence)
            break
    for query in listing.filters:
        rows = list(filter(_test_of(query), rows))
    return rows


def _test_of(query: dict[str, Any]) -> Callable[[Row], bool]:
    """Return what tells whether a row fits a query; what does not change from row to row is made once."""
    if "inner" in query:
        together, tests = _LOGICAL[query["method"]], [_test_of(inner) for inner in query["inner"]]
        return lambda row: together(test(row) for test in tests)
    name, compare, wanted = query["attribute"], _TESTS[query["method"]], [_text(value) for value in query["values"]]
    field = SYSTEM.get(name)
    exact = query["values"] if query["method"] == "equal" and field is None else ()

    def fits(row: Row) -> bool:
        value = row.data.get(name) if field is None else getattr(row, field)
        if value in exact:  # by far the most frequent filter, and its cheapest answer
            return value is not None
        try:
            return compare(value.casefold() if isinstance(value, str) else value, wanted)
        except TypeError:
            return False

    return fits


def value_of(row: Row, name: str) -> Any:
    """Return a row's value of a column or a system field."""
    return getattr(row, SYSTEM[name]) if name in SYSTEM else row.data.get(name)


def _key_by(name: str) -> Callable[[Row], Any]:
    """Return what rows are sorted by; null comes before all values."""
    if name in SYSTEM and name != "$id":  # never null, and no letter case to be left out
        return operator.attrgetter(SYSTEM[name])

    def key(row: Row) -> tuple[bool, Any]:
        value = value_of(row, name)
        return value is not None, 0 if value is None else _text(value)

    return key
