"""Carrying out a list: filter, order, and the page that is asked for."""

from __future__ import annotations

import json
import operator
import random
from collections.abc import Callable, Iterable
from typing import Any

from booking_resilience.testing.appwrite_server.collation import collated
from booking_resilience.testing.appwrite_server.dialect import ApiError, Dialect
from booking_resilience.testing.appwrite_server.filters import SYSTEM, test_of
from booking_resilience.testing.appwrite_server.queries import Listing
from booking_resilience.testing.appwrite_server.store import Row, Table

DEFAULT_LIMIT = 25
MOST_COUNTED = 5000


def carry_out(
    listing: Listing,
    table: Table,
    dialect: Dialect,
    may_see: Callable[[Row], bool] | None = None,
    *,
    default: int | None,
) -> tuple[int, list[Row]]:
    """Return how many rows match, and the page of them that was asked for.

    Args:
        listing: What is asked for.
        table: The table.
        dialect: The vocabulary of errors.
        may_see: Which rows the caller may see; None for all.
        default: How many rows there are at most where no limit is asked for; None for all.

    Raises:
        ApiError: If the cursor's row is not there, or has no value to order by.
    """
    anchor = None if listing.cursor is None else _anchor(listing.cursor[0], listing, table, dialect)
    rows = matching(listing, table)
    if may_see is not None:
        rows = list(filter(may_see, rows))
    total, orders = len(rows), [*listing.orders, ("$sequence", _tie_of(listing.orders))]
    if listing.is_random:
        random.shuffle(rows)
    else:
        _sort(rows, orders)
    offset, limit = listing.offset or 0, default if listing.limit is None else listing.limit
    if anchor is None or listing.cursor is None:
        return total, rows[offset:][:limit]
    ends, begins = _place(anchor, rows, orders)
    if listing.cursor[1]:
        return total, rows[begins + offset :][:limit]
    before = rows[: max(0, ends - offset)]
    return total, before if limit is None else before[-limit:]


def _anchor(row_id: str, listing: Listing, table: Table, dialect: Dialect) -> Row:
    anchor = table.find(row_id)
    if anchor is None:
        message = f"{dialect.row.capitalize()} '{row_id}' for the 'cursor' value not found."
        raise ApiError(400, "general_cursor_not_found", message)
    for name, _ in listing.orders:
        if value_of(anchor, name) is None:
            rule = f"Cursor pagination requires all {dialect.row}s order {dialect.column} values are non-null."
            message = f"The order {dialect.column} '{name}' had a null value. {rule}"
            raise ApiError(400, "database_query_order_null", message)
    return anchor


def matching(listing: Listing, table: Table) -> list[Row]:
    """Return the rows that all filters let through, in the order of their sequence."""
    rows: Iterable[Row] = table.rows.values()
    for query in listing.filters:  # the ID is what rows are found by; no need to look at them all
        if query.method == "equal" and query.attribute == "$id":
            found = {row.id: row for value in query.values if (row := table.find(value))}
            rows = sorted(found.values(), key=lambda row: row.sequence)
            break
    for query in listing.filters:
        rows = list(filter(test_of(query, table), rows))
    return list(rows)


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


def value_of(row: Row, name: str) -> Any:
    """Return a row's value of a column or a system field."""
    return getattr(row, SYSTEM[name]) if name in SYSTEM else row.data.get(name)


def _key_by(name: str) -> Callable[[Row], Any]:
    """Return what rows are sorted by; null comes before all values."""
    if name in SYSTEM and name != "$id":  # never null, and no letter case to be left out
        return operator.attrgetter(SYSTEM[name])

    def key(row: Row) -> tuple[bool, Any]:
        value = value_of(row, name)
        if isinstance(value, list):  # arrays are compared as the JSON that the database holds
            return True, json.dumps(value, separators=(",", ":"))
        return value is not None, 0 if value is None else collated(value)

    return key
