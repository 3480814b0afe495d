"""The routes of columns and indexes."""

from __future__ import annotations

from booking_resilience.testing.appwrite_server import indexes, parameters
from booking_resilience.testing.appwrite_server.dates import now
from booking_resilience.testing.appwrite_server.dialect import ApiError
from booking_resilience.testing.appwrite_server.exchange import Answer, Call, deleted
from booking_resilience.testing.appwrite_server.kinds import KINDS, Column
from booking_resilience.testing.appwrite_server.schema import change_column, column_body, make_column, not_available
from booking_resilience.testing.appwrite_server.store import Database, Index, Store, Table
from booking_resilience.testing.appwrite_server.tables import listed

_TAKEN = "Failed to create index: rows that are there have equal values"


class FieldRoutes:
    """What can be done with columns and indexes.

    Args:
        store: Where they are.

    Attributes:
        worker_runs: Whether what is made becomes available; the real server leaves that to a worker.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.worker_runs = True

    def create_column(self, call: Call) -> Answer:
        """Make a column."""
        if call.ids[4] not in KINDS:
            raise parameters.not_emulated(call.request)
        _ids(call)
        column = make_column(call.ids[4], call.body, now(), call.dialect)
        database, table = self._table(call)
        if column.relation:
            self._relate(call, database, table, column)
        if table.column_like(column.key) is not None:
            raise call.dialect.keys_unique(column.key)
        table.columns[column.key] = column
        answer = Answer(202, column_body(column))
        if self.worker_runs:
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
        longest = max((len(row.data.get(key) or "") for row in table.rows.values()), default=0) if column.size else 0
        if column.size and not column.array and longest > (call.body.get("size") or column.size):
            text = "Existing data is too large for new size, truncate your existing data then try again."
            raise call.dialect.column_error("invalid_resize", text)
        new_key = change_column(call.dialect, column, call.body, now())
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
        """Remove a column; one that an index needs stays."""
        table, column = self._column(call, call.ids[4])
        if any(column.key in index.columns for index in table.indexes.values()):
            type_ = "column_index_dependency" if call.dialect.is_tables else "index_dependency"
            what = f"{call.dialect.column.capitalize()} '{column.key}' cannot be renamed or deleted."
            raise ApiError(409, type_, f"{what} Please remove the associated index first.")
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
        if self.worker_runs:
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
