"""Databases, tables and rows, in memory; found by ID in any letter case, as Appwrite's database compares."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from booking_resilience.testing.appwrite_server.collation import collated
from booking_resilience.testing.appwrite_server.dialect import Dialect
from booking_resilience.testing.appwrite_server.kinds import Column

BASE_WIDTH = 1067  # bytes of a row without columns, as recorded


class DuplicateError(Exception):
    """A row with this ID, or with a value that is unique, is there already."""

    def __init__(self, index: str | None) -> None:
        super().__init__(index)
        self.index = index


class Journal:
    """What undoes the changes so far; a context manager in which all changes are made, or none."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] | None = None

    def note(self, undo: Callable[[], None]) -> None:
        """Keep what undoes a change, if anybody may want to."""
        if self._undo is not None:
            self._undo.append(undo)

    def __enter__(self) -> None:
        self._undo = []

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        changes, self._undo = self._undo or [], None
        if kind is not None:
            for undo in reversed(changes):
                undo()


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
    lengths: list[int]
    created: str
    updated: str
    status: str = "processing"
    error: str = ""
    taken: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def value_of(self, data: dict[str, Any]) -> tuple[Any, ...] | None:
        """Return the values of a row's columns as they compare; None if one of them is null, which never clashes."""
        values = tuple(collated(data.get(column)) for column in self.columns)
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
    updated: str
    number: int
    journal: Journal
    columns: dict[str, Column] = field(default_factory=dict)
    indexes: dict[str, Index] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    sequence: int = 0

    def find(self, row_id: str) -> Row | None:
        """Return the row with this ID, in any letter case."""
        return self.rows.get(row_id.lower())

    def available(self) -> dict[str, Column]:
        """Return the columns that can be used."""
        return {key: column for key, column in self.columns.items() if column.status == "available"}

    def column_like(self, key: str) -> Column | None:
        """Return the column with this key, in any letter case."""
        return next((column for column in self.columns.values() if column.key.lower() == key.lower()), None)

    @property
    def width(self) -> int:
        """How many bytes a row takes, as Appwrite reckons."""
        return BASE_WIDTH + sum(column.width for column in self.columns.values())

    def insert(self, row: Row) -> None:
        """Add a row. A refused one uses up a sequence number, too, as in the real database.

        Raises:
            DuplicateError: If its ID or a unique value is taken.
        """
        self.sequence += 1
        if row.id.lower() in self.rows:
            raise DuplicateError(None)
        self._claim(row, row.data)
        row.sequence = self.sequence
        self.rows[row.id.lower()] = row
        self.journal.note(lambda: self._remove(row))

    def change(self, row: Row, **facts: Any) -> None:
        """Change a row's data (all of them), permissions or moments.

        Raises:
            DuplicateError: If a unique value is taken by another row.
        """
        if "data" in facts:
            self._claim(row, facts["data"])
        before = replace(row)
        for name, value in facts.items():
            setattr(row, name, value)
        self.journal.note(lambda: self._restore(row, before))

    def delete(self, row: Row) -> None:
        """Remove a row."""
        self._remove(row)
        self.journal.note(lambda: self._put_back(row))

    def owners(self, data: dict[str, Any]) -> Iterator[Row]:
        """Yield the rows that have the unique values of some data."""
        for index in self._unique():
            value = index.value_of(data)
            if value is not None and (owner := index.taken.get(value)) is not None:
                yield self.rows[owner]

    def add_index(self, index: Index) -> bool:
        """Add an index over the rows that are there; tell whether none of them clash."""
        self.indexes[index.key] = index
        if index.kind != "unique":
            return True
        for row in self.rows.values():
            if (value := index.value_of(row.data)) is not None:
                if value in index.taken:
                    index.taken.clear()
                    return False
                index.taken[value] = row.id.lower()
        return True

    def _unique(self) -> list[Index]:
        return [index for index in self.indexes.values() if index.kind == "unique" and index.status != "failed"]

    def _claim(self, row: Row, data: dict[str, Any]) -> None:
        mine = row.id.lower()
        claims = [(index, index.value_of(data)) for index in self._unique()]
        for index, value in claims:
            if value is not None and index.taken.get(value, mine) != mine:
                raise DuplicateError(index.key)
        for index, value in claims:
            self._release(index, row)
            if value is not None:
                index.taken[value] = mine

    @staticmethod
    def _release(index: Index, row: Row) -> None:
        old = index.value_of(row.data)
        if old is not None and index.taken.get(old) == row.id.lower():
            del index.taken[old]

    def _remove(self, row: Row) -> None:
        for index in self._unique():
            self._release(index, row)
        del self.rows[row.id.lower()]

    def _restore(self, row: Row, before: Row) -> None:
        for index in self._unique():
            self._release(index, row)
        row.data, row.permissions = before.data, before.permissions
        row.created, row.updated = before.created, before.updated
        self._claim(row, row.data)

    def _put_back(self, row: Row) -> None:
        self._claim(row, row.data)
        rows = [*self.rows.values(), row]
        self.rows = {row.id.lower(): row for row in sorted(rows, key=lambda one: one.sequence)}


@dataclass(slots=True)
class Database:
    """One database; `kind` is the API through which it was made."""

    id: str
    name: str
    kind: str
    created: str
    updated: str
    number: int
    enabled: bool = True
    tables: dict[str, Table] = field(default_factory=dict)
    made: int = 0


class Store:
    """All databases of the project."""

    def __init__(self) -> None:
        self.databases: dict[str, Database] = {}
        self.journal: Journal = Journal()
        self._numbers = itertools.count(1)

    def add(self, id_: str, name: str, kind: str, now: str) -> Database:
        """Add a database."""
        database = Database(id_, name, kind, now, now, next(self._numbers))
        self.databases[id_.lower()] = database
        return database

    def database(self, dialect: Dialect, id_: str, *, for_guest: bool = False) -> Database:
        """Return the database with an ID; for guests it must be enabled.

        Raises:
            ApiError: If there is none.
        """
        database = self.databases.get(id_.lower())
        if database is None or (for_guest and not database.enabled):
            raise dialect.not_found("database", id_)
        return database

    def table(
        self, dialect: Dialect, database_id: str, table_id: str, *, for_guest: bool = False
    ) -> tuple[Database, Table]:
        """Return the table with an ID, and its database; for guests both must be enabled.

        Raises:
            ApiError: If there is none.
        """
        database = self.database(dialect, database_id, for_guest=for_guest)
        table = database.tables.get(table_id.lower())
        if table is None or (for_guest and not table.enabled):
            raise dialect.not_found(dialect.table, table_id)
        return database, table
