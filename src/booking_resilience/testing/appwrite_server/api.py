"""Which route leads where, who may call it, and in which order that is checked: as the real server does it.

Project and key (401, 403, 404), then the rate limit (429), then the parameters (400), then database and table (404),
then the rows.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import unquote

from booking_resilience.testing.appwrite_server import parameters
from booking_resilience.testing.appwrite_server.access import Access
from booking_resilience.testing.appwrite_server.dialect import DIALECTS, VERSION, ApiError
from booking_resilience.testing.appwrite_server.exchange import Answer, deleted, nowhere
from booking_resilience.testing.appwrite_server.rows import RowRoutes
from booking_resilience.testing.appwrite_server.store import Store
from booking_resilience.testing.appwrite_server.tables import TableRoutes

if TYPE_CHECKING:
    from booking_resilience.testing.appwrite_server.dialect import Dialect
    from booking_resilience.testing.appwrite_server.exchange import Request

# What the SDK has services for, and what other clients ask.
_ELSEWHERE = (
    "account", "activities", "apps", "avatars", "backups", "console", "documentsdb", "domains", "embeddings",
    "functions", "graphql", "locale", "messaging", "migrations", "mongo", "mysql", "oauth2", "organization", "ping",
    "postgresql", "presences", "project", "projects", "proxy", "realtime", "reports", "sites", "storage", "teams",
    "tokens", "users", "vcs", "vectorsdb", "waf", "webhooks",
)  # fmt: skip

_LARGEST_BODY = 12 << 20  # bytes; as recorded, 11 MB are read and 13 MB are refused


class Api:
    """The routes of one project.

    Args:
        project: The project's ID.
        key: The key that may do everything.
        unique_violation: How a violated unique index is told: `legacy` as up to Appwrite 1.9.6, by the same 409 as an
            ID that is taken; `new` by a type of its own.
    """

    def __init__(self, project: str, key: str, unique_violation: str) -> None:
        store = Store()
        self.access: Access = Access(project, key)
        self.tables: TableRoutes = TableRoutes(store)
        self._rows = RowRoutes(store, unique_violation)
        self._lock = threading.Lock()
        self._known = {name: self.tables.routes(dialect) for name, dialect in DIALECTS.items()}

    def handle(self, request: Request) -> Answer:
        """Carry the request out and return the answer, an error's included."""
        headers: dict[str, str] = {}
        if len(request.raw_body) > _LARGEST_BODY:  # the real one refuses that before its own code sees it
            return Answer(413, content_type="")
        try:
            with self._lock:
                return self._route(request, headers)
        except ApiError as error:
            return Answer(error.status, error.body(), headers)
        except parameters.BodyError:
            body = {"message": "Error: Server Error", "code": 500, "version": VERSION}
            return Answer(500, body, content_type="text/html")
        except Exception as error:  # noqa: BLE001 - parameters of a kind that nobody thought of: an answer all the same
            message = f"The embedded Appwrite server cannot handle this: {error!r}"
            return Answer(500, ApiError(500, "general_unknown", message).body(), headers)

    def _route(self, request: Request, headers: dict[str, str]) -> Answer:
        parts = [unquote(part) for part in request.path.removesuffix("/").split("/")[1:]]
        if parts[:1] != ["v1"] or len(parts) < 2:
            return nowhere()
        if request.method == "OPTIONS":
            return deleted()
        area, rest = parts[1], parts[2:]
        if area == "health":
            return self._health(request, rest)
        if area in _ELSEWHERE:
            raise parameters.not_emulated(request)
        if area not in DIALECTS:
            return nowhere()
        return self._data(request, DIALECTS[area], rest, headers)

    def _health(self, request: Request, rest: list[str]) -> Answer:
        if rest == ["version"]:
            return Answer(200, {"version": VERSION})
        self.access.allow(request, "health.read")
        ok = {"ping": 0, "status": "pass"}
        if not rest:
            return Answer(200, {"name": "http", **ok})
        names = {"db": ["Console.DB (console)", "Projects.DB (database_db_main)"], "cache": ["Cache"]}.get(rest[0])
        if names is None or len(rest) > 1:
            raise parameters.not_emulated(request)
        return Answer(200, {"total": len(names), "statuses": [{"name": name, **ok} for name in names]})

    def _data(self, request: Request, dialect: Dialect, rest: list[str], headers: dict[str, str]) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        tables, rows = f"{dialect.table}s", f"{dialect.row}s"
        shape = (method, *(part if place % 2 else "*" for place, part in enumerate(rest)))
        if shape[1:5] == ("*", tables, "*", rows) and rest[4:5] == [""]:  # a double slash
            parameters.uid("", f"{dialect.row}Id")
        if shape[1:5] == ("*", tables, "*", rows) and len(rest) in (4, 5):
            action = "read" if method == "GET" else "write"
            caller = self.access.allow(request, *(f"{name}.{action}" for name in dialect.row_scopes))
            parameters.read_body(request)
            return self._rows.handle(request, method, caller, dialect, rest, headers)
        known = self._known[dialect.route].get(shape)
        if known is not None:
            scope = "databases" if len(rest) < 2 else tables
            self.access.allow(request, f"{scope}.{'read' if method == 'GET' else 'write'}")
            parameters.read_body(request)
            return known(request, dialect, rest)
        if _is_real(method, rest, dialect):
            raise parameters.not_emulated(request)
        return nowhere()


def _is_real(method: str, rest: list[str], dialect: Dialect) -> bool:
    """Tell whether the real server has a route for databases that this one has not."""
    tables, columns, rows = f"{dialect.table}s", f"{dialect.column}s", f"{dialect.row}s"
    if rest[:1] == ["transactions"] or rest[-1:] in (["usage"], ["logs"]):
        return True
    if rest[1:2] != [tables]:
        return method in ("PUT", "PATCH") and len(rest) == 1
    if rest[3:4] == [columns]:
        return len(rest) < 8
    if rest[3:4] == [rows]:
        return len(rest) == 7 and rest[6] in ("increment", "decrement")
    return method in ("PUT", "PATCH") and len(rest) == 3
