"""Which route does what, who may call it, and in which order that is checked: as the real server does it.

Project and key (401, 403, 404), then the rate limit (429), then the parameters (400), then database and table (404),
then the rows.
"""

from __future__ import annotations

import json
import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from booking_resilience import clock
from booking_resilience.testing.appwrite_server import queries
from booking_resilience.testing.appwrite_server.dialect import (
    DIALECTS,
    VERSION,
    ApiError,
    Dialect,
    argument,
    not_optional,
)
from booking_resilience.testing.appwrite_server.limits import RateLimits
from booking_resilience.testing.appwrite_server.schema import TYPES, make_column, timestamp
from booking_resilience.testing.appwrite_server.store import Database, DuplicateError, Index, Row, Store, Table

if TYPE_CHECKING:
    from _thread import RLock

JSON = "application/json; charset=UTF-8"
HTML = "text/html; charset=UTF-8"
NOT_FOUND = (
    b'<!DOCTYPE html><html lang="en"><head><title>404 Not Found</title></head><body>Page not found</body></html>'
)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")
_ID_RULE = (
    "Parameter must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, period, hyphen, and underscore. "
    "Can't start with a special char"
)
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")
_UID_RULE = (
    "UID must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, and underscore. "
    "Can't start with a leading underscore"
)
_ROLES = ("any", "guests", "users", "user", "team", "member", "label")
_PERMISSION = re.compile(r'(read|create|update|delete|write)\("([a-z]+)(?::[^"]*)?"\)')
_UNAUTHORIZED = "The current user is not authorized to perform the requested action."
_ELSEWHERE = (
    "account", "avatars", "functions", "graphql", "locale", "messaging", "migrations", "project", "projects",
    "proxy", "sites", "storage", "teams", "tokens", "users", "vcs",
)  # fmt: skip


@dataclass(slots=True)
class Request:
    """One request, as it came over the wire. Header names are in small letters."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    raw_body: bytes
    body: Any = None


@dataclass(slots=True)
class Answer:
    """One answer; `body` is what becomes JSON, or ready bytes."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON

    def payload(self) -> bytes:
        """Return the body's bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body, ensure_ascii=False).replace("/", "\\/").encode()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a key with its scopes (None for all), or a guest."""

    scopes: frozenset[str] | None
    is_guest: bool = False


class BodyError(Exception):
    """A body that trips the real server up: JSON, but a text."""


class Api:
    """The routes of one project.

    Args:
        project: The project's ID.
        key: The key that may do everything.
        unique_violation: How a violated unique index is told: `legacy` as up to Appwrite 1.9.6, by the same 409 as an
            ID that is taken; `new` by a type of its own.
    """

    def __init__(self, project: str, key: str, unique_violation: str) -> None:
        self.project = project
        self.keys: dict[str, frozenset[str] | str | None] = {key: None}
        self.lock: RLock = threading.RLock()
        self.worker_runs = True
        self._unique_violation = unique_violation
        self._store = Store()
        self._limits = RateLimits()

    def handle(self, request: Request) -> Answer:
        """Carry the request out and return the answer, an error's included."""
        with self.lock:
            headers: dict[str, str] = {}
            try:
                return self._route(request, headers)
            except ApiError as error:
                return Answer(error.status, error.body(), headers)
            except BodyError:
                body = {"message": "Error: Server Error", "code": 500, "version": VERSION}
                return Answer(500, body, content_type="text/html")

    def _route(self, request: Request, headers: dict[str, str]) -> Answer:
        parts = [unquote(part) for part in request.path.removesuffix("/").split("/")[1:]]
        if parts[:1] != ["v1"] or len(parts) < 2:
            return Answer(404, NOT_FOUND, content_type=HTML)
        if request.method == "OPTIONS":
            return Answer(204, content_type="text/html")
        area, rest = parts[1], parts[2:]
        if area == "health":
            return self._health(request, rest)
        if area in _ELSEWHERE:
            raise _not_emulated(request)
        if area not in DIALECTS:
            return Answer(404, NOT_FOUND, content_type=HTML)
        return self._data(request, DIALECTS[area], rest, headers)

    def _health(self, request: Request, rest: list[str]) -> Answer:
        if rest == ["version"]:
            return Answer(200, {"version": VERSION})
        self._allow(self._caller(request), ("health.read",))
        ok = {"ping": 0, "status": "pass"}
        if not rest:
            return Answer(200, {"name": "http", **ok})
        names = {"db": ["Console.DB (console)", "Projects.DB (database_db_main)"], "cache": ["Cache"]}.get(rest[0])
        if names is None or len(rest) > 1:
            raise _not_emulated(request)
        return Answer(200, {"total": len(names), "statuses": [{"name": name, **ok} for name in names]})

    def _data(self, request: Request, dialect: Dialect, rest: list[str], headers: dict[str, str]) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        tables, columns, rows = f"{dialect.table}s", f"{dialect.column}s", f"{dialect.row}s"
        if rest and rest[0] == "transactions":
            raise _not_emulated(request)
        shape = (method, *(part if place % 2 else "*" for place, part in enumerate(rest)))
        known = {
            ("POST",): self._create_database,
            ("GET",): self._list_databases,
            ("GET", "*"): self._get_database,
            ("DELETE", "*"): self._delete_database,
            ("POST", "*", tables): self._create_table,
            ("GET", "*", tables): self._list_tables,
            ("GET", "*", tables, "*"): self._get_table,
            ("DELETE", "*", tables, "*"): self._delete_table,
            ("GET", "*", tables, "*", columns): self._list_columns,
            ("GET", "*", tables, "*", columns, "*"): self._get_column,
            ("DELETE", "*", tables, "*", columns, "*"): self._delete_column,
            ("POST", "*", tables, "*", "indexes"): self._create_index,
            ("GET", "*", tables, "*", "indexes"): self._list_indexes,
            ("GET", "*", tables, "*", "indexes", "*"): self._get_index,
            ("DELETE", "*", tables, "*", "indexes", "*"): self._delete_index,
        }.get(shape)
        if known is not None:
            scope = "databases" if len(rest) < 2 else f"{dialect.table}s"
            action = "read" if method == "GET" else "write"
            self._allow(self._caller(request), (f"{scope}.{action}",))
            _read_body(request)
            return known(request, dialect, rest)
        if shape[:5] == ("POST", "*", tables, "*", columns) and len(rest) == 5:
            self._allow(self._caller(request), (f"{dialect.table}s.write",))
            _read_body(request)
            return self._create_column(request, dialect, rest)
        if shape[1:5] == ("*", tables, "*", rows) and rest[4:5] == [""]:  # a double slash
            _uid("", f"{dialect.row}Id")
        if shape[1:5] == ("*", tables, "*", rows) and len(rest) in (4, 5):
            return self._rows(request, method, dialect, rest, headers)
        if shape[1:5] == ("*", tables, "*", rows) and len(rest) == 7 and rest[6] in ("increment", "decrement"):
            raise _not_emulated(request)
        if method in ("PUT", "PATCH") and shape[1:] in {(*item[1:],) for item in [("", "*"), ("", "*", tables, "*")]}:
            raise _not_emulated(request)
        if shape[1:5] == ("*", tables, "*", columns) or shape[-1:] in (("usage",), ("logs",)):
            raise _not_emulated(request)
        return Answer(404, NOT_FOUND, content_type=HTML)

    # Who calls

    def _caller(self, request: Request) -> Caller:
        project, key = request.headers.get("x-appwrite-project", ""), request.headers.get("x-appwrite-key", "")
        if not project:
            if key:
                text = "When using project API key, make sure to pass x-appwrite-project header with your project ID."
                raise ApiError(403, "project_id_missing", text)
            text = (
                "No Appwrite project was specified. Please specify your project ID when initializing your Appwrite SDK."
            )
            raise ApiError(401, "general_access_forbidden", text)
        if project == "console":
            raise ApiError(401, "user_unauthorized", _UNAUTHORIZED)
        if project != self.project:
            text = (
                "Project with the requested ID could not be found. Please check the value of the X-Appwrite-Project "
                "header to ensure the correct project ID is being used."
            )
            raise ApiError(404, "project_not_found", text)
        if not key:
            origin = request.headers.get("origin", "")
            host = re.sub(r"^https?://", "", origin).split(":")[0]
            if origin and host not in ("localhost", "127.0.0.1"):
                where = "as a new Web platform on your project console dashboard"
                text = f"Invalid Origin. Register your new client ({host}) {where}"
                raise ApiError(403, "general_unknown_origin", text)
            return Caller(frozenset({"documents.read", "documents.write", "rows.read", "rows.write"}), is_guest=True)
        if key not in self.keys:
            raise ApiError(401, "user_unauthorized", _UNAUTHORIZED)
        scopes = self.keys[key]
        if isinstance(scopes, str):
            text = "The project key has expired. Please generate a new key using the Appwrite console."
            raise ApiError(401, "project_key_expired", text)
        return Caller(scopes)

    def _allow(self, caller: Caller, scopes: tuple[str, ...]) -> None:
        if caller.scopes is None or caller.scopes & set(scopes):
            return
        who = "User (role: guests)" if caller.is_guest else f"app.{self.project}@service.127.0.0.1 (role: applications)"
        listed = json.dumps(list(scopes), separators=(",", ":"))
        raise ApiError(401, "general_unauthorized_scope", f"{who} missing scopes ({listed})")

    # Databases, tables, columns, indexes

    def _create_database(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        id_ = _new_id(request.body, "databaseId")
        _required(request.body, "name")
        if id_.casefold() in self._store.databases:
            raise dialect.exists("database", id_)
        kind = "legacy" if dialect.route == "databases" else "tablesdb"
        return Answer(201, _database_body(self._store.add(id_, request.body["name"], kind, _now())))

    def _list_databases(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        listed = [_database_body(database) for database in self._store.databases.values()]
        return Answer(200, {"total": len(listed), "databases": listed})

    def _get_database(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        return Answer(200, _database_body(self._database(dialect, rest)))

    def _delete_database(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        del self._store.databases[self._database(dialect, rest).id.casefold()]
        return Answer(204, content_type="text/html")

    def _create_table(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        id_, body = _new_id(request.body, f"{dialect.table}Id"), request.body
        _required(body, "name")
        permissions = _permissions(body)
        database = self._database(dialect, rest)
        if id_.casefold() in database.tables:
            raise dialect.exists(dialect.table, id_)
        security = body.get("documentSecurity" if dialect.row == "document" else "rowSecurity") is True
        enabled = body.get("enabled") is not False
        table = Table(id_, body["name"], permissions or [], security, enabled, _now())
        database.tables[id_.casefold()] = table
        return Answer(201, self._table_body(dialect, database, table))

    def _list_tables(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        database = self._database(dialect, rest)
        listed = [self._table_body(dialect, database, table) for table in database.tables.values()]
        return Answer(200, {"total": len(listed), f"{dialect.table}s": listed})

    def _get_table(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        return Answer(200, self._table_body(dialect, *self._table(dialect, rest)))

    def _delete_table(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        database, table = self._table(dialect, rest)
        del database.tables[table.id.casefold()]
        return Answer(204, content_type="text/html")

    def _create_column(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        if rest[4] not in TYPES:
            raise _not_emulated(request)
        column = make_column(rest[4], request.body, _now())
        _, table = self._table(dialect, rest)
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
        listed = [column.body() for column in self._table(dialect, rest)[1].columns.values()]
        return Answer(200, {"total": len(listed), f"{dialect.column}s": listed})

    def _get_column(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        table = self._table(dialect, rest)[1]
        if rest[4] not in table.columns:
            raise dialect.column_not_found(rest[4])
        return Answer(200, table.columns[rest[4]].body())

    def _delete_column(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        table = self._table(dialect, rest)[1]
        if table.columns.pop(rest[4], None) is None:
            raise dialect.column_not_found(rest[4])
        for row in table.rows.values():
            row.data.pop(rest[4], None)
        return Answer(204, content_type="text/html")

    def _create_index(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        key, kind = _required(request.body, "key"), _required(request.body, "type")
        listed = f"{dialect.column}s"
        columns = _required(request.body, listed)
        database, table = self._table(dialect, rest)
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
        index = Index(id_, key, kind, list(columns), request.body.get("orders") or [], _now())
        table.add_index(index)
        answer = Answer(202, _index_body(index, listed))
        self._work(index)
        return answer

    def _list_indexes(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        indexes = self._table(dialect, rest)[1].indexes.values()
        listed = [_index_body(index, f"{dialect.column}s") for index in indexes]
        return Answer(200, {"total": len(listed), "indexes": listed})

    def _get_index(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        return Answer(200, _index_body(self._index(dialect, rest)[1], f"{dialect.column}s"))

    def _delete_index(self, request: Request, dialect: Dialect, rest: list[str]) -> Answer:
        table, index = self._index(dialect, rest)
        del table.indexes[index.key]
        return Answer(204, content_type="text/html")

    def _index(self, dialect: Dialect, rest: list[str]) -> tuple[Table, Index]:
        table = self._table(dialect, rest)[1]
        if rest[4] not in table.indexes:
            message = f"Index with the requested key '{rest[4]}' could not be found."
            raise ApiError(404, "index_not_found", message)
        return table, table.indexes[rest[4]]

    def _database(self, dialect: Dialect, rest: list[str]) -> Database:
        database = self._store.databases.get(rest[0].casefold())
        if database is None:
            raise dialect.not_found("database", rest[0])
        return database

    def _table(self, dialect: Dialect, rest: list[str]) -> tuple[Database, Table]:
        database = self._database(dialect, rest)
        table = database.tables.get(rest[2].casefold())
        if table is None:
            raise dialect.not_found(dialect.table, rest[2])
        return database, table

    def _table_body(self, dialect: Dialect, database: Database, table: Table) -> dict[str, Any]:
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

    # Rows

    def _rows(
        self, request: Request, method: str, dialect: Dialect, rest: list[str], headers: dict[str, str]
    ) -> Answer:
        caller = self._caller(request)
        action = "read" if method == "GET" else "write"
        self._allow(caller, tuple(f"{name}.{action}" for name in dialect.row_scopes))
        _read_body(request)
        if method == "GET":
            read = self._list if len(rest) == 4 else self._get
            return read(request, caller, dialect, rest)
        if method not in ("POST", "PUT", "PATCH", "DELETE") or (method == "POST" and len(rest) == 5):
            return Answer(404, NOT_FOUND, content_type=HTML)
        remaining = self._limits.check(request, caller.is_guest, headers)
        if len(rest) == 4 and (method != "POST" or f"{dialect.row}s" in request.body):
            if method == "PUT" and f"{dialect.row}s" not in request.body:
                raise not_optional(f"{dialect.row}s")
            raise _not_emulated(request)
        if method == "PUT" or "transactionId" in request.body:
            raise _not_emulated(request)
        change = {"POST": self._create, "PATCH": self._update, "DELETE": self._delete}[method]
        answer = change(request, caller, dialect, rest)
        if caller.is_guest:
            headers["X-Ratelimit-Remaining"] = str(max(0, remaining - 1))
        answer.headers.update(headers)
        return answer

    def _create(self, request: Request, caller: Caller, dialect: Dialect, rest: list[str]) -> Answer:
        body, name = request.body, f"{dialect.row}Id"
        data = body.get("data")
        if isinstance(data, str):
            try:
                data = json.loads(data)
            except ValueError:
                raise argument("data", "Value must be a valid JSON string") from None
        if not data:
            raise dialect.missing_data()
        if body.get(name) is None:
            what = "Document" if dialect.row == "document" else "Row"
            message = f"{what} ID is required when creating a single {dialect.row}."
            raise ApiError(400, f"{dialect.row}_missing_data", message)
        row_id = _new_id(body, name)
        permissions = _permissions(body)
        database, table = self._table(dialect, rest)
        if not isinstance(data, dict):
            data = {}
        if caller.is_guest and not _granted(table.permissions, "create"):
            raise ApiError(401, "user_unauthorized", "No permissions provided for action 'create'")
        now = _now()
        values = {key: value for key, value in data.items() if not key.startswith("$")}
        created = data.get("$createdAt", now) if not caller.is_guest else now
        updated = data.get("$updatedAt", now) if not caller.is_guest else now
        _check(dialect, table, values, complete=True)
        stored = {
            key: column.stored(values[key] if values.get(key) is not None else column.default)
            for key, column in table.columns.items()
            if column.status == "available"
        }
        row = Row(row_id, 0, created, updated, permissions or [], stored)
        try:
            table.insert(row)
        except DuplicateError as duplicate:
            raise self._duplicate(dialect, row_id, duplicate) from None
        return Answer(201, _row_body(dialect, database, table, row))

    def _get(self, request: Request, caller: Caller, dialect: Dialect, rest: list[str]) -> Answer:
        database, table, row = self._row(caller, dialect, rest, "read")
        listing = queries.parse(_queries(request), table)
        body = _row_body(dialect, database, table, row, listing.select)
        return Answer(200, body, {"X-Debug-Operations": "1"})

    def _list(self, request: Request, caller: Caller, dialect: Dialect, rest: list[str]) -> Answer:
        asked = _queries(request)
        if len(asked) > 100:
            queries.parse(asked, Table("", "", [], False, True, ""))
        database, table = self._table(dialect, rest)
        listing = queries.parse(asked, table)
        if caller.is_guest and not _granted(table.permissions, "read") and not table.row_security:
            raise ApiError(401, "user_unauthorized", _UNAUTHORIZED)
        total, rows = queries.carry_out(listing, table, dialect)
        if caller.is_guest and not _granted(table.permissions, "read"):
            rows = [row for row in rows if _granted(row.permissions, "read")]
        if dialect.row == "row" and dict(parse_qsl(request.query)).get("total") == "false":
            total = 0
        listed = [_row_body(dialect, database, table, row, listing.select) for row in rows]
        return Answer(200, {"total": min(total, 5000), f"{dialect.row}s": listed})

    def _update(self, request: Request, caller: Caller, dialect: Dialect, rest: list[str]) -> Answer:
        body = request.body
        data = body.get("data")
        permissions = _permissions(body)
        if not data and permissions is None:
            _uid(rest[4], f"{dialect.row}Id")
            raise dialect.missing_payload()
        database, table, row = self._row(caller, dialect, rest, "update")
        newest = request.headers.get("x-appwrite-timestamp")
        if newest and row.updated > newest:
            raise ApiError(409, f"{dialect.row}_update_conflict", "Remote row is newer than local.")
        values = {key: value for key, value in (data or {}).items() if not key.startswith("$")}
        _check(dialect, table, values, complete=False)
        changes = {key: table.columns[key].stored(value) for key, value in values.items()}
        changed = any(row.data.get(key) != value for key, value in changes.items())
        try:
            table.update(row, changes)
        except DuplicateError as duplicate:
            raise self._duplicate(dialect, row.id, duplicate) from None
        if permissions is not None:
            changed, row.permissions = changed or permissions != row.permissions, permissions
        if changed:
            row.updated = _now()
        return Answer(200, _row_body(dialect, database, table, row))

    def _delete(self, request: Request, caller: Caller, dialect: Dialect, rest: list[str]) -> Answer:
        _, table, row = self._row(caller, dialect, rest, "delete")
        table.delete(row)
        return Answer(204, headers={"X-Debug-Operations": "1"}, content_type="text/html")

    def _row(self, caller: Caller, dialect: Dialect, rest: list[str], action: str) -> tuple[Database, Table, Row]:
        _uid(rest[4], f"{dialect.row}Id")
        database, table = self._table(dialect, rest)
        row = table.find(rest[4])
        readable = row is not None and (
            not caller.is_guest
            or _granted(table.permissions, "read")
            or (table.row_security and _granted(row.permissions, "read"))
        )
        if row is None or not readable:
            raise dialect.not_found(dialect.row, rest[4])
        if caller.is_guest and action != "read" and not _granted(table.permissions, action):
            raise ApiError(401, "user_unauthorized", _UNAUTHORIZED)
        return database, table, row

    def _duplicate(self, dialect: Dialect, row_id: str, duplicate: DuplicateError) -> ApiError:
        if duplicate.index is None or self._unique_violation == "legacy":
            return dialect.exists(dialect.row, row_id)
        start = f"{dialect.row.capitalize()} violates a unique {dialect.column} constraint."
        message = f"{start} Try again with different value(s)."
        return ApiError(409, f"{dialect.row}_unique_constraint_violation", message)


def _now() -> str:
    return timestamp(clock.utc_now())


def _not_emulated(request: Request) -> ApiError:
    message = f"The embedded Appwrite server does not emulate {request.method} {request.path}."
    return ApiError(501, "general_not_implemented", message)


def _read_body(request: Request) -> None:
    """Parse the body; what is no JSON object and no form, or is not declared as one, is as good as none."""
    request.body = {}
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    if kind == "application/x-www-form-urlencoded":
        request.body = dict(parse_qsl(request.raw_body.decode("latin-1")))
    elif kind == "application/json" and request.raw_body:
        try:
            body = json.loads(request.raw_body)
            json.dumps(body, ensure_ascii=False).encode()  # PHP refuses half a surrogate pair
        except (ValueError, RecursionError):
            return
        if isinstance(body, str):
            raise BodyError
        if isinstance(body, dict):
            request.body = body


def _queries(request: Request) -> list[str]:
    pairs = parse_qsl(request.query, keep_blank_values=True)
    if any(name == "queries" for name, _ in pairs):
        text = "Value must be a valid string and at least 1 chars and no longer than 4096 chars"
        raise argument("queries", f"Value must a valid array no longer than 100 items and {text}")
    return [value for name, value in pairs if re.fullmatch(r"queries\[\d*\]", name)]


def _required(body: dict[str, Any], name: str) -> Any:
    if body.get(name) is None:
        raise not_optional(name)
    return body[name]


def _new_id(body: dict[str, Any], name: str) -> str:
    id_ = _required(body, name)
    if id_ == "unique()":
        return secrets.token_hex(10)
    if not isinstance(id_, str) or not _ID.fullmatch(id_):
        raise argument(name, _ID_RULE)
    return id_


def _uid(id_: str, name: str) -> None:
    if not _UID.fullmatch(id_):
        raise argument(name, _UID_RULE)


def _permissions(body: dict[str, Any]) -> list[str] | None:
    permissions = body.get("permissions")
    if permissions is None:
        return None
    if not isinstance(permissions, list):
        raise argument("permissions", "Value must be an array. or null")
    for text in permissions:
        match = _PERMISSION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise argument("permissions", f'Permission "{text}" is not allowed. or null')
        if match[2] not in _ROLES:
            listed = ", ".join(_ROLES)
            raise argument("permissions", f'Role "{match[2]}" is not allowed. Must be one of: {listed}. or null')
    return permissions


def _granted(permissions: list[str], action: str) -> bool:
    """Tell whether a guest may do it."""
    wider = () if action == "read" else ("write",)
    return any(f'{name}("{role}")' in permissions for name in (action, *wider) for role in ("any", "guests"))


def _check(dialect: Dialect, table: Table, values: dict[str, Any], *, complete: bool) -> None:
    columns = {key: column for key, column in table.columns.items() if column.status == "available"}
    for key, column in columns.items():
        missing = values.get(key) is None and (complete or key in values)
        if column.required and missing:
            raise dialect.structure(f'Missing required attribute "{key}"')
    for key in values:
        if key not in columns:
            raise dialect.structure(f'Unknown attribute: "{key}"')
    for key, value in values.items():
        if value is not None and (problem := columns[key].problem(value)):
            raise dialect.structure(problem)


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


def _row_body(
    dialect: Dialect, database: Database, table: Table, row: Row, select: list[str] | None = None
) -> dict[str, Any]:
    wanted = row.data if select is None or "*" in select else {key: row.data[key] for key in row.data if key in select}
    return {
        **wanted,
        "$sequence": str(row.sequence),
        "$id": row.id,
        "$createdAt": row.created,
        "$updatedAt": row.updated,
        "$permissions": row.permissions,
        "$databaseId": database.id,
        f"${dialect.table}Id": table.id,
    }
