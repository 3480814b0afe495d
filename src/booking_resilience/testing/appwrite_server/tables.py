"""The routes of databases and tables."""

from __future__ import annotations

from typing import Any

from booking_resilience.testing.appwrite_server import listing, parameters, queries
from booking_resilience.testing.appwrite_server.dates import now
from booking_resilience.testing.appwrite_server.dialect import Dialect, argument, not_optional
from booking_resilience.testing.appwrite_server.exchange import Answer, Call, deleted
from booking_resilience.testing.appwrite_server.indexes import index_body, make_index
from booking_resilience.testing.appwrite_server.kinds import KINDS, Column
from booking_resilience.testing.appwrite_server.schema import column_body, make_column
from booking_resilience.testing.appwrite_server.store import Database, Journal, Row, Store, Table

_LONGEST_NAME = 128


class TableRoutes:
    """What can be done with databases and tables.

    Args:
        store: Where they are.

    Attributes:
        worker_runs: Whether columns and indexes become available; the real server leaves that to a worker.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.worker_runs = True

    def create_database(self, call: Call) -> Answer:
        """Make a database."""
        id_ = parameters.new_id(call.body, "databaseId")
        name = parameters.text(call.body, "name", _LONGEST_NAME)
        enabled = parameters.boolean(call.body, "enabled", True)
        if id_.lower() in self._store.databases:
            raise call.dialect.exists("database", id_)
        kind = "tablesdb" if call.dialect.is_tables else "legacy"
        database = self._store.add(id_, name, kind, now())
        database.enabled = enabled
        return Answer(201, database_body(database))

    def list_databases(self, call: Call) -> Answer:
        """List the databases."""
        kept = [(database.created, database.updated, database) for database in self._store.databases.values()]
        return listed(call, "databases", kept, database_body)

    def get_database(self, call: Call) -> Answer:
        """Get a database."""
        return Answer(200, database_body(self._database(call)))

    def update_database(self, call: Call) -> Answer:
        """Change a database's name, or whether guests find it."""
        id_ = parameters.uid(call.ids[0], "databaseId")
        name = parameters.text(call.body, "name", _LONGEST_NAME, "")
        enabled = parameters.boolean(call.body, "enabled", True)
        database = self._store.database(call.dialect, id_)
        database.name, database.enabled, database.updated = name or database.name, enabled, now()
        return Answer(200, database_body(database))

    def delete_database(self, call: Call) -> Answer:
        """Remove a database with all that is in it."""
        del self._store.databases[self._database(call).id.lower()]
        return deleted()

    def create_table(self, call: Call) -> Answer:
        """Make a table, with columns and indexes if the request has any; its answer shows none."""
        dialect, body = call.dialect, call.body
        id_ = parameters.new_id(body, f"{dialect.table}Id")
        name = parameters.text(body, "name", _LONGEST_NAME)
        permissions = parameters.permissions(body, for_table=True) or []
        security = parameters.boolean(body, _security(dialect), False, is_loose=True)
        enabled = parameters.boolean(body, "enabled", True)
        columns = parameters.rows(body, f"{dialect.column}s") if f"{dialect.column}s" in body else []
        indexes = parameters.rows(body, "indexes") if "indexes" in body else []
        database = self._database(call)
        if id_.lower() in database.tables:
            raise dialect.exists(dialect.table, id_)
        moment = now()
        number = database.made + 1
        table = Table(id_, name, permissions, security, enabled, moment, moment, number, self._store.journal)
        answer = Answer(201, table_body(dialect, database, table))
        for fields in columns:
            column = make_column(_kind(fields, dialect), {"required": False, **fields}, moment, dialect)
            if table.column_like(column.key) is not None:
                raise dialect.keys_unique(column.key)
            column.status = "available"
            table.columns[column.key] = column
        for fields in indexes:
            index = make_index(dialect, database, table, fields, moment)
            index.status = "available"
            table.add_index(index)
        database.made = number
        database.tables[id_.lower()] = table
        return answer

    def list_tables(self, call: Call) -> Answer:
        """List a database's tables."""
        database = self._database(call)
        kept = [(table.created, table.updated, table) for table in database.tables.values()]
        return listed(call, f"{call.dialect.table}s", kept, lambda table: table_body(call.dialect, database, table))

    def get_table(self, call: Call) -> Answer:
        """Get a table with its columns and indexes."""
        return Answer(200, table_body(call.dialect, *self._table(call)))

    def update_table(self, call: Call) -> Answer:
        """Change a table's name, permissions, row security, or whether guests find it."""
        dialect, body = call.dialect, call.body
        _ids(call)
        name = parameters.text(body, "name", _LONGEST_NAME, "")
        permissions = parameters.permissions(body, for_table=True)
        security = parameters.boolean(body, _security(dialect), False, is_loose=True)
        enabled = parameters.boolean(body, "enabled", True)
        database, table = self._table(call)
        table.name, table.row_security, table.enabled, table.updated = name or table.name, security, enabled, now()
        if permissions is not None:
            table.permissions = permissions
        return Answer(200, table_body(dialect, database, table))

    def delete_table(self, call: Call) -> Answer:
        """Remove a table with its rows."""
        database, table = self._table(call)
        del database.tables[table.id.lower()]
        return deleted()

    def _database(self, call: Call) -> Database:
        return self._store.database(call.dialect, parameters.uid(call.ids[0], "databaseId"))

    def _table(self, call: Call) -> tuple[Database, Table]:
        _ids(call)
        return self._store.table(call.dialect, call.ids[0], call.ids[2])


def _ids(call: Call) -> None:
    parameters.uid(call.ids[0], "databaseId")
    parameters.uid(call.ids[2], f"{call.dialect.table}Id")


def _kind(fields: dict[str, Any], dialect: Dialect) -> str:
    """Return the kind of a column that is made with its table; a format names one, too."""
    name = fields.get("type")
    if name == "string" and fields.get("format"):
        name = fields["format"]
    name = {"double": "float", "big_int": "bigint"}.get(str(name), name)
    if name == "relationship":
        text = f"Relationship {dialect.column}s cannot be created inline. Use the create relationship endpoint instead."
        raise argument(f"{dialect.column}s", text)
    if name not in KINDS:
        raise not_optional("type") if name is None else argument(f"{dialect.column}s", f"Invalid type: {name}")
    return str(name)


def _security(dialect: Dialect) -> str:
    return "rowSecurity" if dialect.is_tables else "documentSecurity"


_LISTED = {
    name: Column(name, kind, False, False, None, "", "", size=256, limits=(0, 2**62), status="available")
    for name, kind in (("name", "varchar"), ("enabled", "boolean"), ("status", "varchar"), ("type", "varchar"),
                       ("key", "varchar"), ("required", "boolean"), ("array", "boolean"), ("error", "varchar"),
                       ("size", "integer"), ("expiresAt", "datetime"), ("rowSecurity", "boolean"),
                       ("documentSecurity", "boolean"))
}  # fmt: skip


def listed(call: Call, name: str, kept: list[tuple[str, str, Any]], body_of: Any) -> Answer:
    """Return the page of a list that queries ask for; its items are searched like rows."""
    asked = queries.parse(parameters.queries(call.body))
    wants_total = parameters.boolean(call.body, "total", True, is_loose=True)
    bodies = [body_of(item) for _, _, item in kept]
    things = Table(name, name, [], False, True, "", "", 0, Journal(), columns=_LISTED)
    for place, ((created, updated, _), body) in enumerate(zip(kept, bodies, strict=True)):
        id_ = str(body.get("$id", body.get("key")))
        things.rows[id_.lower()] = Row(id_, place, created, updated, [], body)
    total, rows = listing.carry_out(queries.check(asked, things), things, call.dialect, default=listing.DEFAULT_LIMIT)
    return Answer(200, {"total": total if wants_total else 0, name: [row.data for row in rows]})


def table_body(dialect: Dialect, database: Database, table: Table) -> dict[str, Any]:
    """Return a table as an answer holds it."""
    return {
        "$id": table.id,
        "$createdAt": table.created,
        "$updatedAt": table.updated,
        "$permissions": table.permissions,
        "databaseId": database.id,
        "name": table.name,
        "enabled": table.enabled,
        _security(dialect): table.row_security,
        f"{dialect.column}s": [column_body(one, is_in_table=True) for one in table.columns.values()],
        "indexes": [index_body(dialect, index) for index in table.indexes.values()],
        "bytesMax": 65535,
        "bytesUsed": table.width,
    }


def database_body(database: Database) -> dict[str, Any]:
    """Return a database as an answer holds it."""
    return {
        "$id": database.id,
        "name": database.name,
        "$createdAt": database.created,
        "$updatedAt": database.updated,
        "enabled": database.enabled,
        "type": database.kind,
    }
