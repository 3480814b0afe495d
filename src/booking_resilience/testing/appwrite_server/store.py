"""Databases, tables and rows, in memory. Found by ID in any letter case, as Appwrite's database compares."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from booking_resilience.testing.appwrite_server.dialect import Dialect
    from booking_resilience.testing.appwrite_server.schema import Column


class DuplicateError(Exception):
    """A row with this ID, or with a value that is unique, is there already."""

    def __init__(self, index: str | None) -> None:
        super().__init__(index)
        self.index = index


@dataclass(slots=True)
class Row:
    """One row."""

    id: str
    sequence: int
    created: str
    updated: str
    permissions: list[str]
    data: dict[str, Any]


@dataclass(slots=True)
class Index:
    """One index; a unique one knows which row has which values."""

    id: str
    key: str
    kind: str
    columns: list[str]
    orders: list[str]
    created: str
    status: str = "processing"
    taken: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def value_of(self, data: dict[str, Any]) -> tuple[Any, ...] | None:
        """Return the values of a row's columns; None if one of them is null, which never clashes."""
        values = tuple(_comparable(data.get(column)) for column in self.columns)
        return None if None in values else values


@dataclass(slots=True)
class Table:
    """One table with its rows, which are in order of their sequence."""

    id: str
    name: str
    permissions: list[str]
    row_security: bool
    enabled: bool
    created: str
    columns: dict[str, Column] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    sequence: int = 0

    def find(self, row_id: str) -> Row | None:
        """Return the row with this ID, in any letter case."""
        return self.rows.get(row_id.casefold())

    def insert(self, row: Row) -> None:
        """Add a row. A refused one uses up a sequence number, too, as in the real database.

        Raises:
            DuplicateError: If its ID or a unique value is taken.
        """
        self.sequence += 1
        if row.id.casefold() in self.rows:
            raise DuplicateError(None)
        self._claim(row, row.data)
        row.sequence = self.sequence
        self.rows[row.id.casefold()] = row

    def update(self, row: Row, data: dict[str, Any]) -> None:
        """Change a row's data.

        Raises:
            DuplicateError: If a unique value is taken by another row.
        """
        changed = {**row.data, **data}
        self._claim(row, changed)
        row.data = changed

    def delete(self, row: Row) -> None:
        """Remove a row."""
        for index in self._unique():
            index.taken.pop(index.value_of(row.data) or (), None)
        del self.rows[row.id.casefold()]

    def add_index(self, index: Index) -> None:
        """Add an index over the rows that are there."""
        for row in self.rows.values():
            if index.kind == "unique" and (value := index.value_of(row.data)) is not None:
                index.taken[value] = row.id
        self.indexes[index.key] = index

    def _unique(self) -> list[Index]:
        return [index for index in self.indexes.values() if index.kind == "unique"]

    def _claim(self, row: Row, data: dict[str, Any]) -> None:
        claims = [(index, index.value_of(data)) for index in self._unique()]
        for index, value in claims:
            if value is not None and index.taken.get(value, row.id) != row.id:
                raise DuplicateError(index.key)
        for index, value in claims:
            old = index.value_of(row.data)
            if old is not None and index.taken.get(old) == row.id:
                del index.taken[old]
            if value is not None:
                index.taken[value] = row.id


@dataclass(slots=True)
class Database:
    """One database; `kind` is the API through which it was made."""

    id: str
    name: str
    kind: str
    created: str
    number: int
    tables: dict[str, Table] = field(default_factory=dict)


class Store:
    """All databases of the project."""

    def __init__(self) -> None:
        self.databases: dict[str, Database] = {}
        self._numbers = itertools.count(1)

    def add(self, id_: str, name: str, kind: str, now: str) -> Database:
        """Add a database."""
        database = Database(id_, name, kind, now, next(self._numbers))
        self.databases[id_.casefold()] = database
        return database

    def database(self, dialect: Dialect, rest: list[str]) -> Database:
        """Return the database that a path names.

        Raises:
            ApiError: If there is none.
        """
        database = self.databases.get(rest[0].casefold())
        if database is None:
            raise dialect.not_found("database", rest[0])
        return database

    def table(self, dialect: Dialect, rest: list[str]) -> tuple[Database, Table]:
        """Return the table that a path names, and its database.

        Raises:
            ApiError: If there is none.
        """
        database = self.database(dialect, rest)
        table = database.tables.get(rest[2].casefold())
        if table is None:
            raise dialect.not_found(dialect.table, rest[2])
        return database, table


def _comparable(value: Any) -> Any:
    if isinstance(value, str):
        return value.casefold()
    return tuple(map(_comparable, value)) if isinstance(value, list) else value
