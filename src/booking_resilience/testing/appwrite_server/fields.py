"""The routes of columns and indexes."""

from __future__ import annotations

from booking_resilience.testing.appwrite_server import indexes, parameters
from booking_resilience.testing.appwrite_server.dates import now
from booking_resilience.testing.appwrite_server.dialect import ApiError
from booking_resilience.testing.appwrite_server.exchange import Answer, Call, deleted
from booking_resilience.testing.appwrite_server.kinds import KINDS, Column
from booking_resilience.testing.appwrite_server.schema import change_column, column_body, make_column, not_available
from booking_resilience.testing.appwrite_server.store import Database, Index, Store, Table
from booking_resilience.testing.appwrite_server.tables import TableRoutes, listed

_MOST_COLUMNS = 1017
_WIDEST = 65_535  # bytes of a row, MariaDB's limit
_TAKEN = "Failed to create index: rows that are there have equal values"


class FieldRoutes:
    """What can be done with columns and indexes.

    Args:
        store: Where they are.
        tables: What knows whether the worker runs that makes them available.
    """

    def __init__(self, store: Store, tables: TableRoutes) -> None:
        self._store, self._tables = store, tables

    def create_column(self, call: Call) -> Answer:
        """Make a column."""
        if call.ids[4] not in KINDS:
            raise parameters.not_emulated(call.request)
        _ids(call)
        column = make_column(call.ids[4], call.body, now(), call.dialect)
        database, table = self._table(call)
        if column.relation:
            self._relate(call, database, table, column)
        if len(table.columns) >= _MOST_COLUMNS or table.width + column.width >= _WIDEST:
            what = f"The maximum number or size of {call.dialect.column}s for {call.dialect.table} '{table.id}'"
            raise call.dialect.limit_exceeded(f"{what} has been reached.")
        if table.column_like(column.key) is not None:
            raise call.dialect.keys_unique(column.key)
        table.columns[column.key] = column
        answer = Answer(202, column_body(column))
        if self._tables.worker_runs:
            column.status = "available"
            self._fill(table, column)
        return answer

    def _relate(self, call: Call, database: Database, table: Table, column: Column) -> None:
        name = f"related{call.dialect.table.capitalize()}"
        related = database.tables.get(column.relation[name].lower())
        if related is None:
            text = f"The related {call.dialect.table} was not found."
            raise ApiError(404, f"{call.dialect.table}_not_found", text)
        column.relation["twoWayKey"] = column.relation["twoWayKey"] or table.id

    @staticmethod
    def _fill(table: Table, column: Column) -> None:
        """Give the rows that are there the column's default."""
        if column.default is not None:
            for row in table.rows.values():
                row.data[column.key] = column.default

    def list_columns(self, call: Call) -> Answer:
        """List a table's columns."""
        kept = [(column.created, column.updated, column) for column in self._table(call)[1].columns.values()]
        return listed(call, f"{call.dialect.column}s", kept, column_body)

    def get_column(self, call: Call) -> Answer:
        """Get a column."""
        return Answer(200, column_body(self._column(call, call.ids[4])[1]))

    def update_column(self, call: Call) -> Answer:
        """Change a column: whether it is required, its default, size, range, elements, key."""
        is_relation = call.ids[5:] == ["relationship"]
        name, key = ("relationship", call.ids[4]) if is_relation else (call.ids[4], call.ids[5])
        if name not in KINDS:
            raise parameters.not_emulated(call.request)
        table, column = self._column(call, key)
        if column.status != "available":
            raise not_available(call.dialect)
        if column.name != name:
            text = f"The {call.dialect.column} '%s' type is invalid."  # the real one forgets the key
            raise call.dialect.column_error("type_invalid", text)
        has_sizes = column.size and not column.array
        longest = max((len(row.data.get(key) or "") for row in table.rows.values()), default=0) if has_sizes else 0
        new_key = change_column(call.dialect, column, call.body, now(), longest)
        if new_key != key:
            self._rename(call, table, column, new_key)
        return Answer(200, column_body(column))

    def _rename(self, call: Call, table: Table, column: Column, key: str) -> None:
        if (other := table.column_like(key)) is not None and other is not column:
            raise call.dialect.keys_unique(key)
        old, column.key = column.key, key
        table.columns = {one.key: one for one in table.columns.values()}
        for index in table.indexes.values():
            index.columns = [key if name == old else name for name in index.columns]
        for row in table.rows.values():
            if old in row.data:
                row.data[key] = row.data.pop(old)

    def delete_column(self, call: Call) -> Answer:
        """Remove a column; indexes go on without it, and go with it if they have no other."""
        table, column = self._column(call, call.ids[4])
        for index in [one for one in table.indexes.values() if column.key in one.columns]:
            del table.indexes[index.key]
            index.columns = [name for name in index.columns if name != column.key]
            index.taken.clear()
            if index.columns and not table.add_index(index):
                index.status, index.error = "failed", _TAKEN
        del table.columns[column.key]
        for row in table.rows.values():
            row.data.pop(column.key, None)
        return deleted()

    def create_index(self, call: Call) -> Answer:
        """Make an index; a unique one over rows that clash fails."""
        _ids(call)
        indexes.read_parameters(call.body, f"{call.dialect.column}s")
        database, table = self._table(call)
        index = indexes.make_index(call.dialect, database, table, call.body, now())
        fits = table.add_index(index)
        answer = Answer(202, indexes.index_body(call.dialect, index))
        if self._tables.worker_runs:
            index.status = "available" if fits else "failed"
            index.error = "" if fits else _TAKEN
        return answer

    def list_indexes(self, call: Call) -> Answer:
        """List a table's indexes."""
        kept = [(index.created, index.updated, index) for index in self._table(call)[1].indexes.values()]
        return listed(call, "indexes", kept, lambda index: indexes.index_body(call.dialect, index))

    def get_index(self, call: Call) -> Answer:
        """Get an index."""
        return Answer(200, indexes.index_body(call.dialect, self._index(call)[1]))

    def delete_index(self, call: Call) -> Answer:
        """Remove an index."""
        table, index = self._index(call)
        del table.indexes[index.key]
        return deleted()

    def _table(self, call: Call) -> tuple[Database, Table]:
        _ids(call)
        return self._store.table(call.dialect, call.ids[0], call.ids[2])

    def _column(self, call: Call, key: str) -> tuple[Table, Column]:
        table = self._table(call)[1]
        if key not in table.columns:
            raise call.dialect.column_not_found(key)
        return table, table.columns[key]

    def _index(self, call: Call) -> tuple[Table, Index]:
        table = self._table(call)[1]
        if call.ids[4] not in table.indexes:
            raise indexes.not_found(call.dialect, call.ids[4])
        return table, table.indexes[call.ids[4]]


def _ids(call: Call) -> None:
    parameters.uid(call.ids[0], "databaseId")
    parameters.uid(call.ids[2], f"{call.dialect.table}Id")
