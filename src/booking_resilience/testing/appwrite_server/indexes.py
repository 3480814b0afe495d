"""Indexes: what can be indexed, with the errors of what can't."""

from __future__ import annotations

from typing import Any

from booking_resilience.testing.appwrite_server import parameters
from booking_resilience.testing.appwrite_server.dialect import ID_RULE, ApiError, Dialect, argument, is_id
from booking_resilience.testing.appwrite_server.kinds import Column
from booking_resilience.testing.appwrite_server.store import Database, Index, Table

_KINDS = ("key", "fulltext", "unique", "spatial")
_ORDERS = ("asc", "desc")
_SYSTEM = {"$id": "varchar", "$createdat": "datetime", "$updatedat": "datetime", "$sequence": "integer"}
_LONGEST = 768  # characters that an index holds
_LIST_RULE = "Value must a valid array no longer than 100 items and "


def make_index(dialect: Dialect, database: Database, table: Table, body: dict[str, Any], now: str) -> Index:
    """Return the index that a request asks for.

    Raises:
        ApiError: If a parameter is missing or wrong, or there can't be such an index.
    """
    listed = f"{dialect.column}s"
    key = parameters.required(body, "key")
    kind, names, orders, lengths = read_parameters(body, listed)
    if not is_id(key):
        raise argument("key", ID_RULE)
    columns = [_column(dialect, table, name) for name in names]
    _check(dialect, kind, names, columns, lengths)
    if key in table.indexes:
        type_ = "column_index_already_exists" if dialect.is_tables else "index_already_exists"
        again = "Try again with a different key."
        raise ApiError(409, type_, f"Index with the requested key '{key}' already exists. {again}")
    sizes = [(lengths[place] if place < len(lengths) else None) or 0 for place in range(len(columns))]
    return Index(f"{database.number}_{table.number}_{key}", key, kind, names, orders, sizes, now, now)


def read_parameters(body: dict[str, Any], listed: str) -> tuple[str, list[str], list[str], list[int]]:
    """Return kind, columns, orders and lengths that a request names."""
    kind = parameters.required(body, "type")
    if kind not in _KINDS:
        raise argument("type", f"Value must be one of ({', '.join(_KINDS)})")
    names = parameters.required(body, listed)
    if not isinstance(names, list) or len(names) > 100 or not all(map(_is_key, names)):
        raise argument(listed, _LIST_RULE + ID_RULE)
    orders = body.get("orders", [])
    if not isinstance(orders, list) or not all(isinstance(one, str) and one.lower() in _ORDERS for one in orders):
        raise argument("orders", f"{_LIST_RULE}Value must be one of ({', '.join(_ORDERS)})")
    lengths = body.get("lengths", [])
    if not isinstance(lengths, list) or not all(one is None or type(one) is int for one in lengths):
        raise argument("lengths", f"{_LIST_RULE}Value must be a valid integer or null")
    return kind, names, orders, lengths


def _is_key(name: Any) -> bool:
    return isinstance(name, str) and (is_id(name) or name.lower() in _SYSTEM)


def _column(dialect: Dialect, table: Table, name: str) -> Column:
    if name.lower() in _SYSTEM:
        return Column(name, _SYSTEM[name.lower()], True, False, None, "", "", size=255, status="available")
    column = table.columns.get(name)
    if column is None:
        required = f"The {dialect.column} '{name}' required for the index could not be found."
        again = f"Please confirm all your {dialect.column}s are in the available state."
        raise dialect.column_error("unknown", f"{required} {again}")
    if column.relation:
        text = f"Cannot create an index for a relationship {dialect.column}: {name}"
        raise dialect.column_error("type_invalid", text)
    if column.status != "available":
        text = f"The requested {dialect.column} '{name}' is not yet available. Please try again later."
        raise dialect.column_error("not_available", text)
    return column


def _check(dialect: Dialect, kind: str, names: list[str], columns: list[Column], lengths: list[int]) -> None:
    """Check in the order of the real server's validator."""
    if not names:
        raise dialect.index_invalid("No attributes provided for index")
    if len({name.lower() for name in names}) < len(names):
        raise dialect.index_invalid("Duplicate attributes provided")
    for column in columns:
        if kind == "fulltext" and column.kind.family != "text":
            text = f'Attribute "{column.key}" cannot be part of a fulltext index, must be of type string'
            raise dialect.index_invalid(text)
    for place, column in enumerate(columns):
        length = lengths[place] if place < len(lengths) else None
        if column.array and kind != "key":
            raise dialect.index_invalid(f'"{kind.capitalize()}" index is forbidden on array attributes')
        if column.array:  # MariaDB has no such index
            raise dialect.index_invalid("Indexing an array attribute is not supported")
        if column.kind.family != "text" and length:
            raise dialect.index_invalid(f'Cannot set a length on "{column.kind.shown}" attributes')
    if kind != "fulltext":
        _check_length(dialect, columns, lengths)
    if kind == "spatial":
        column = columns[0]
        only = "Spatial index can only be created on spatial attributes (point, linestring, polygon)."
        raise dialect.index_invalid(f'{only} Attribute "{column.key}" is of type "{column.kind.shown}"')


def _check_length(dialect: Dialect, columns: list[Column], lengths: list[int]) -> None:
    if len(lengths) > len(columns):
        text = "Invalid index lengths. Count of lengths must be equal or less than the number of attributes."
        raise dialect.index_invalid(text)
    total = 0
    for place, column in enumerate(columns):
        size = {"text": column.kind.size or column.size, "float": 2}.get(column.kind.family, 1)
        length = (lengths[place] if place < len(lengths) else None) or size
        if length < 0:
            raise dialect.index_invalid(f"Negative index length provided for {column.key}")
        if length > size:
            raise dialect.index_invalid(f'Index length {length} is larger than the size for {column.key}: {size}"')
        total += length
    if total > _LONGEST:
        raise dialect.index_invalid(f"Index length is longer than the maximum: {_LONGEST}")


def index_body(dialect: Dialect, index: Index) -> dict[str, Any]:
    """Return an index as an answer holds it."""
    return {
        "$id": index.id,
        "$createdAt": index.created,
        "$updatedAt": index.updated,
        "key": index.key,
        "type": index.kind,
        "status": index.status,
        "error": index.error,
        f"{dialect.column}s": index.columns,
        "lengths": index.lengths,
        "orders": index.orders,
    }


def not_found(dialect: Dialect, key: str) -> ApiError:
    """Return the error for an index that isn't there."""
    type_ = "column_index_not_found" if dialect.is_tables else "index_not_found"
    return ApiError(404, type_, f"Index with the requested key '{key}' could not be found.")
