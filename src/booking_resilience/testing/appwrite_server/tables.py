"""The routes of databases, tables, columns and indexes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from booking_resilience.testing.appwrite_server import parameters
from booking_resilience.testing.appwrite_server.dialect import ApiError, argument
from booking_resilience.testing.appwrite_server.exchange import Answer, deleted
from booking_resilience.testing.appwrite_server.schema import TYPES, make_column, now
from booking_resilience.testing.appwrite_server.store import Database, Index, Store, Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from booking_resilience.testing.appwrite_server.dialect import Dialect
    from booking_resilience.testing.appwrite_server.exchange import Request

    Route: TypeAlias = Callable[[Request, Dialect, list[str]], Answer]


class TableRoutes:
    """What can be done with databases, tables, columns and indexes.

    Args:
        store: Where they are.

    Attributes:
        worker_runs: Whether what is made becomes available; the real server leaves that to a worker.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.worker_runs = True

    def routes(self, dialect: Dialect) -> dict[tuple[str, ...], Route]:
        """Return what is done for which method and path; `*` stands for an ID."""
        tables, columns = f"{dialect.table}s", f"{dialect.column}s"
        one = ("*", tables, "*")
        return {
            ("POST",): self._create_database,
            ("GET",): self._list_databases,
            ("GET", "*"): self._get_database,
            ("DELETE", "*"): self._delete_database,
            ("POST", "*", tables): self._create_table,
            ("GET", "*", tables): self._list_tables,
            ("GET", *one): self._get_table,
            ("DELETE", *one): self._delete_table,
            ("POST", *one, columns, "*"): self._create_column,
            ("GET", *one, columns): self._list_columns,
            ("GET", *one, columns, "*"): self._get_column,
            ("DELETE", *one, columns, "*"): self._delete_column,
            ("POST", *one, "indexes"): self._create_index,
            ("GET", *one, "indexes"): self._list_indexes,
            ("GET", *one, "indexes", "*"): self._get_index,
            ("DELETE", *one, "indexes", "*"): self._delete_index,
        }

    def _create_database(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        id_ = parameters.new_id(request.body, "databaseId")
        parameters.required(request.body, "name")
        if id_.casefold() in self._store.databases:
            raise dialect.exists("database", id_)
        kind = "legacy" if dialect.route == "databases" else "tablesdb"
        return Answer(201, _database_body(self._store.add(id_, request.body["name"], kind, now())))

    def _list_databases(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        listed = [_database_body(database) for database in self._store.databases.values()]
        return Answer(200, {"total": len(listed), "databases": listed})

    def _get_database(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        return Answer(200, _database_body(self._store.database(dialect, rest)))

    def _delete_database(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        del self._store.databases[self._store.database(dialect, rest).id.casefold()]
        return deleted()

    def _create_table(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        id_, body = parameters.new_id(request.body, f"{dialect.table}Id"), request.body
        parameters.required(body, "name")
        permissions = parameters.permissions(body)
        database = self._store.database(dialect, rest)
        if id_.casefold() in database.tables:
            raise dialect.exists(dialect.table, id_)
        security = body.get("documentSecurity" if dialect.row == "document" else "rowSecurity") is True
        enabled = body.get("enabled") is not False
        table = Table(id_, body["name"], permissions or [], security, enabled, now())
        database.tables[id_.casefold()] = table
        return Answer(201, _table_body(dialect, database, table))

    def _list_tables(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        database = self._store.database(dialect, rest)
        listed = [_table_body(dialect, database, table) for table in database.tables.values()]
        return Answer(200, {"total": len(listed), f"{dialect.table}s": listed})

    def _get_table(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        return Answer(200, _table_body(dialect, *self._store.table(dialect, rest)))

    def _delete_table(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        database, table = self._store.table(dialect, rest)
        del database.tables[table.id.casefold()]
        return deleted()

    def _create_column(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        if rest[4] not in TYPES:
            raise parameters.not_emulated(request)
        column = make_column(rest[4], request.body, now())
        _, table = self._store.table(dialect, rest)
        if column.key in table.columns:
            what, keys = dialect.column.capitalize(), f"{dialect.column.capitalize()} keys must be unique"
            message = (
                f"{what} with the requested key '{column.key}' already exists. {keys}, try again with a different key."
            )
            raise ApiError(409, f"{dialect.column}_already_exists", message)
        table.columns[column.key] = column
        answer = Answer(202, column.body())
        self._work(column)
        return answer

    def _work(self, made: Any) -> None:
        """Do what the real server leaves to a worker in the background: make the column or index available."""
        if self.worker_runs:
            made.status = "available"

    def _list_columns(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        listed = [column.body() for column in self._store.table(dialect, rest)[1].columns.values()]
        return Answer(200, {"total": len(listed), f"{dialect.column}s": listed})

    def _get_column(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        table = self._store.table(dialect, rest)[1]
        if rest[4] not in table.columns:
            raise dialect.column_not_found(rest[4])
        return Answer(200, table.columns[rest[4]].body())

    def _delete_column(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        table = self._store.table(dialect, rest)[1]
        if table.columns.pop(rest[4], None) is None:
            raise dialect.column_not_found(rest[4])
        for row in table.rows.values():
            row.data.pop(rest[4], None)
        return deleted()

    def _create_index(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        key, kind = parameters.required(request.body, "key"), parameters.required(request.body, "type")
        listed = f"{dialect.column}s"
        columns = parameters.required(request.body, listed)
        database, table = self._store.table(dialect, rest)
        if kind not in ("key", "fulltext", "unique", "spatial"):
            raise argument("type", "Value must be one of (key, fulltext, unique, spatial)")
        for name in columns:
            if name not in table.columns and not name.startswith("$"):
                raise ApiError(
                    400, f"{dialect.column}_unknown", f"The {dialect.column} required for the index could not be found."
                )
        if key in table.indexes:
            message = f"Index with the requested key '{key}' already exists. Try again with a different key."
            raise ApiError(409, "index_already_exists", message)
        number = list(database.tables).index(table.id.casefold()) + 1
        id_ = f"{database.number}_{number}_{key}"
        index = Index(id_, key, kind, list(columns), request.body.get("orders") or [], now())
        table.add_index(index)
        answer = Answer(202, _index_body(index, listed))
        self._work(index)
        return answer

    def _list_indexes(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        indexes = self._store.table(dialect, rest)[1].indexes.values()
        listed = [_index_body(index, f"{dialect.column}s") for index in indexes]
        return Answer(200, {"total": len(listed), "indexes": listed})

    def _get_index(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        return Answer(200, _index_body(self._index(dialect, rest)[1], f"{dialect.column}s"))

    def _delete_index(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        table, index = self._index(dialect, rest)
        del table.indexes[index.key]
        return deleted()

    def _index(self, dialect: Dialect, rest: list[str]) -> tuple[Table, Index]:
        table = self._store.table(dialect, rest)[1]
        if rest[4] not in table.indexes:
            message = f"Index with the requested key '{rest[4]}' could not be found."
            raise ApiError(404, "index_not_found", message)
        return table, table.indexes[rest[4]]


def _table_body(dialect: Dialect, database: Database, table: Table) -> dict[str, Any]:
    listed = f"{dialect.column}s"
    return {
        "$id": table.id,
        "$createdAt": table.created,
        "$updatedAt": table.created,
        "$permissions": table.permissions,
        "databaseId": database.id,
        "name": table.name,
        "enabled": table.enabled,
        "documentSecurity" if dialect.row == "document" else "rowSecurity": table.row_security,
        listed: [column.body() for column in table.columns.values()],
        "indexes": [_index_body(index, listed) for index in table.indexes.values()],
        "bytesMax": 65535,
        "bytesUsed": 1067,
    }


def _database_body(database: Database) -> dict[str, Any]:
    return {
        "$id": database.id,
        "name": database.name,
        "$createdAt": database.created,
        "$updatedAt": database.created,
        "enabled": True,
        "type": database.kind,
    }


def _index_body(index: Index, listed: str) -> dict[str, Any]:
    return {
        "$id": index.id,
        "$createdAt": index.created,
        "$updatedAt": index.created,
        "key": index.key,
        "type": index.kind,
        "status": index.status,
        "error": "",
        listed: index.columns,
        "lengths": [0] * len(index.columns),
        "orders": index.orders,
    }
