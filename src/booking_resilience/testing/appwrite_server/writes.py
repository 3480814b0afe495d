"""What changes rows: create, update, upsert, delete, increment. It knows nothing of HTTP; transactions use it, too."""

from __future__ import annotations

from typing import Any

from booking_resilience.testing.appwrite_server import dates, php
from booking_resilience.testing.appwrite_server.kinds import date_problem, is_integer
from booking_resilience.testing.appwrite_server.store import DuplicateError, Row, Table

_READ_ONLY = ("$id", "$sequence", "$databaseId", "$tableId", "$collectionId", "$permissions", "$collection", "$tenant")
_MOMENTS = ("$createdAt", "$updatedAt")


class StructureError(Exception):
    """Data that don't fit the columns; the message says why."""


class ConflictError(Exception):
    """The row has been changed after the moment that the caller knows of."""


class GoneError(Exception):
    """There is no such row, or no such column."""


class NotANumberError(Exception):
    """The column holds no numbers."""


class BoundError(Exception):
    """The number would pass its bound."""


class RelationError(Exception):
    """What is given for a relationship can't be one; the message says why."""


def written(data: dict[str, Any], *, may_date: bool = True) -> dict[str, Any]:
    """Return what a caller may write of some data: not what the system keeps; the moments only for keys."""
    return {key: value for key, value in data.items() if key not in _READ_ONLY and (may_date or key not in _MOMENTS)}


def check(table: Table, values: dict[str, Any], *, is_whole: bool) -> None:
    """Check data against the columns, in Appwrite's order: what is missing, what is unknown, what is wrong.

    Raises:
        StructureError: If they don't fit.
    """
    columns = table.available()
    for key, column in columns.items():
        if column.required and values.get(key) is None and (is_whole or key in values):
            raise StructureError(f'Invalid document structure: Missing required attribute "{key}"')
    for key in values:
        if key not in columns and key not in _MOMENTS:
            raise StructureError(f'Invalid document structure: Unknown attribute: "{key}"')
    for key, value in values.items():
        if key in _MOMENTS:
            rule = None if value is None else date_problem(value)
            problem = rule and f'Attribute "{key}" has invalid type. {rule}'
        else:
            problem = columns[key].problem(value)
        if problem:
            raise StructureError(f"Invalid document structure: {problem}")


def create(table: Table, row_id: str, data: dict[str, Any], permissions: list[str], moment: str) -> Row:
    """Add a row.

    Raises:
        StructureError: If the data don't fit the columns.
        DuplicateError: If its ID or a unique value is taken.
    """
    row = _made(table, row_id, data, permissions, moment)
    table.insert(row)
    return row


def _made(
    table: Table, row_id: str, data: dict[str, Any], permissions: list[str], moment: str, *, has_defaults: bool = True
) -> Row:
    check(table, data, is_whole=True)
    stored = {}
    for key, column in table.available().items():
        value = column.default if has_defaults and data.get(key) is None else data.get(key)
        stored[key] = _related(value) if column.relation else column.kept(value)
    created, updated = (dates.stored(data[key]) if data.get(key) is not None else moment for key in _MOMENTS)
    return Row(row_id, 0, created, updated, permissions, stored)


def _related(value: Any) -> Any:
    """Return what is stored for a relationship: the related row's ID, or a list of IDs."""
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise RelationError("Invalid relationship value. Must be either a document ID or an array of document IDs.")


def update(
    table: Table,
    row: Row,
    data: dict[str, Any],
    permissions: list[str] | None,
    moment: str,
    *,
    known: str | None = None,
    always_moves: bool = False,
) -> None:
    """Change some of a row's data.

    Args:
        table: Its table.
        row: The row.
        data: What changes.
        permissions: Its permissions; None leaves them.
        moment: When.
        known: The moment up to which the caller knows its changes; None for no check.
        always_moves: Whether `$updatedAt` moves though nothing changes.

    Raises:
        StructureError: If the data don't fit the columns.
        DuplicateError: If a unique value is taken.
        ConflictError: If the row was changed later.
    """
    if known is not None and row.updated > known:
        raise ConflictError
    check(table, data, is_whole=False)
    columns = table.columns
    changes = {
        key: _related(value) if columns[key].relation else columns[key].kept(value)
        for key, value in data.items()
        if key not in _MOMENTS
    }
    facts: dict[str, Any] = {}
    if any(key not in row.data or _differs(row.data[key], value) for key, value in changes.items()):
        facts["data"] = {**row.data, **changes}
    if permissions is not None and permissions != row.permissions:
        facts["permissions"] = permissions
    for name, key in (("created", "$createdAt"), ("updated", "$updatedAt")):
        if data.get(key) is not None:
            facts[name] = dates.stored(data[key])
    if facts or always_moves:
        table.change(row, **{"updated": moment, **facts})


def _differs(old: Any, new: Any) -> bool:
    return bool(old != new) or isinstance(old, bool) != isinstance(new, bool)


def upsert(
    table: Table,
    row_id: str,
    data: dict[str, Any],
    permissions: list[str] | None,
    moment: str,
    *,
    known: str | None = None,
) -> Row:
    """Make a row, or change the one with this ID; return it as it is answered.

    As in the real database: if a unique value belongs to another row, that one is overwritten, and what is answered is
    a row that is not there; its sequence is 0.

    Raises:
        StructureError: If the data, with what is there, don't fit the columns.
        DuplicateError: If the row is there, and a unique value belongs to another.
        ConflictError: If the row was changed later than `known`.
    """
    row = table.find(row_id)
    if row is None:
        made = _made(table, row_id, data, permissions or [], moment)
        try:
            table.insert(made)
        except DuplicateError:
            owner = next(table.owners(made.data))
            _overwrite(table, owner, made)
        return made
    if known is not None and row.updated > known:
        raise ConflictError
    kept = {key: value for key, value in row.data.items() if key in table.available()}
    rights = row.permissions if permissions is None else permissions
    whole = _made(table, row_id, {**kept, **data}, rights, moment, has_defaults=False)
    facts = {"data": whole.data, "permissions": rights, "updated": whole.updated}
    table.change(row, **facts, **({"created": whole.created} if data.get("$createdAt") else {}))
    return row


def _overwrite(table: Table, owner: Row, made: Row) -> None:
    """Give a row the data of another that can't be stored; what clashes with a third row is an error."""
    table.change(owner, data=made.data, permissions=made.permissions, updated=made.updated)


def delete(table: Table, row: Row, known: str | None = None) -> None:
    """Remove a row.

    Raises:
        ConflictError: If it was changed later than `known`.
    """
    if known is not None and row.updated > known:
        raise ConflictError
    table.delete(row)


def increase(
    table: Table,
    row_id: str,
    key: str,
    value: float,
    moment: str,
    *,
    low: float | None = None,
    high: float | None = None,
    known: str | None = None,
) -> Row:
    """Add to a number; return the row as it is answered: with the new number, and the old `$updatedAt`.

    A null stays null, though the answer tells a number; so an integer column keeps a whole number, though the answer
    tells a fraction. The column's own bounds aren't enforced, only those of its bits.

    Raises:
        GoneError: If there is no such row or column.
        NotANumberError: If the column holds no numbers.
        BoundError: If a bound would be passed.
        ConflictError: If the row was changed later than `known`.
    """
    column, row = table.available().get(key), table.find(row_id)
    if column is None:
        raise GoneError
    if column.kind.family not in ("integer", "float") or column.array:
        raise NotANumberError
    if row is None:
        raise GoneError
    if known is not None and row.updated > known:
        raise ConflictError
    old = row.data.get(key)
    new = column.kept((old or 0) + value)
    if high is not None and new > high:
        raise BoundError(f"Attribute value exceeds maximum limit: {php.text_of(high)}")
    if low is not None and new < low:
        raise BoundError(f"Attribute value exceeds minimum limit: {php.text_of(low)}")
    is_whole = column.kind.family == "integer"
    kept = round(new) if is_whole else new
    if is_whole and not is_integer(kept, column.bits):
        raise BoundError("Value out of range")
    before = row.updated
    table.change(row, data={**row.data, key: None if old is None else kept}, updated=moment)
    return Row(row.id, row.sequence, row.created, before, row.permissions, {**row.data, key: new})
