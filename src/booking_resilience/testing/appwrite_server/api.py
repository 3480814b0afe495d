"""Which route leads where, who may call it, and in which order that is checked: as the real server does it.

Project and key (401, 403, 404), then the rate limit (429), then the parameters (400), then database and table (404),
then the rows.
"""

from __future__ import annotations

from urllib.parse import unquote

from booking_resilience.locks import new_lock
from booking_resilience.testing.appwrite_server import parameters, php, routes
from booking_resilience.testing.appwrite_server.access import Access, Caller, is_local
from booking_resilience.testing.appwrite_server.bulk import BulkRoutes
from booking_resilience.testing.appwrite_server.dialect import DIALECTS, VERSION, ApiError, Dialect
from booking_resilience.testing.appwrite_server.exchange import Answer, Call, Request, nowhere
from booking_resilience.testing.appwrite_server.fields import FieldRoutes
from booking_resilience.testing.appwrite_server.limits import RateLimits
from booking_resilience.testing.appwrite_server.rows import RowRoutes
from booking_resilience.testing.appwrite_server.shared import Settings
from booking_resilience.testing.appwrite_server.staging import Transactions
from booking_resilience.testing.appwrite_server.store import Store
from booking_resilience.testing.appwrite_server.tables import TableRoutes
from booking_resilience.testing.appwrite_server.transactions import TransactionRoutes

_LARGEST_BODY = 12 << 20  # bytes; as recorded, 11 MB are read and 13 MB are refused
_LOGINS = 10  # in a minute
_CHECKS = {
    "db": ["Console.DB (console)", "Projects.DB (database_db_main)"],
    "cache": ["Cache"],
    "pubsub": ["PubSub"],
}


class Api:
    """The routes of one project.

    Args:
        project: The project's ID.
        key: The key that may do everything.
        unique_violation: How a violated unique index is told: `legacy` as up to Appwrite 1.9.6, by the same 409 as an
            ID that is taken; `new` by a type of its own.
        transactions: Whether there are transactions; without, their routes are nowhere, as of an older server.

    Attributes:
        access: The keys.
        tables: The routes of databases and tables.
    """

    def __init__(self, project: str, key: str, unique_violation: str, transactions: bool = True) -> None:
        store = Store()
        settings = Settings(store, Transactions(), unique_violation)
        self.access: Access = Access(project, key)
        self.tables: TableRoutes = TableRoutes(store)
        bulk = BulkRoutes(settings)
        self._groups = {
            "tables": self.tables,
            "fields": FieldRoutes(store, self.tables),
            "rows": RowRoutes(settings, bulk),
            "bulk": bulk,
            "transactions": TransactionRoutes(settings),
        }
        self._has_transactions = transactions
        self._limits = RateLimits()
        self._lock = new_lock()

    def handle(self, request: Request, torn: tuple[int, str] | None = None) -> Answer:
        """Carry the request out and return the answer, an error's included.

        Args:
            request: The request.
            torn: How many operations a commit applies, and what it tells; None for a whole one.
        """
        headers: dict[str, str] = {}
        if len(request.raw_body) > _LARGEST_BODY:  # the real one refuses that before its own code sees it
            return Answer(413, content_type="", style="bare")
        try:
            with self._lock:
                answer = self._route(request, headers, torn)
        except ApiError as error:
            answer = Answer(error.status, error.body())
        except parameters.BodyError as error:
            return _tripped(error.status)
        except Exception as error:  # noqa: BLE001 - parameters of a kind that nobody thought of: an answer all the same
            message = f"The embedded Appwrite server cannot handle this: {error!r}"
            answer = Answer(500, ApiError(500, "general_unknown", message).body())
        origin = request.headers.get("origin", "")
        if origin and (is_local(origin) or answer.style == "preflight"):
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
        answer.headers.update(headers)
        return answer

    def _route(self, request: Request, headers: dict[str, str], torn: tuple[int, str] | None) -> Answer:
        if request.method == "OPTIONS":
            return Answer(204, content_type="text/html", style="preflight")
        parts = [unquote(part) for part in request.path.removesuffix("/").split("/")[1:]]
        if request.path == "/":
            return Answer(301, headers={"Location": "/console/"}, content_type="text/html")
        if parts[:1] != ["v1"] or len(parts) < 2:
            return nowhere()
        area, rest = parts[1], parts[2:]
        if area == "health":
            return self._health(request, rest)
        if area == "ping" and not rest:
            self._caller(request)
            return Answer(200, b"Pong!", content_type="text/plain; charset=UTF-8")
        if area == "account" and request.method == "GET":  # nobody has a session here, and no key has that scope
            is_guest = self._caller(request).is_guest
            raise self.access.refusal(["account"], is_guest, request.headers.get("host", ""))
        if area == "account" and request.method == "POST" and rest == ["sessions", "email"]:  # nobody has a password
            self._caller(request)
            self._limits.check(request, _LOGINS, True, headers, allowed=_LOGINS)
            text = "Invalid credentials. Please check the email and password."
            raise ApiError(401, "user_invalid_credentials", text)
        if area in routes.ELSEWHERE:
            raise parameters.not_emulated(request)
        if area not in DIALECTS:
            return nowhere()
        return self._data(request, DIALECTS[area], rest, headers, torn)

    def _allow(self, request: Request, scopes: list[str], *, is_lenient: bool = False) -> bool:
        """Check who sends a request; return whether it is a guest."""
        caller = self._caller(request, is_lenient=is_lenient)
        self.access.allow(caller, scopes, request.headers.get("host", ""))
        return caller.is_guest

    def _caller(self, request: Request, *, is_lenient: bool = False) -> Caller:
        project = request.headers.get("x-appwrite-project") or php.parse_query(request.query).get("project", "")
        return self.access.caller(request.headers, str(project), is_lenient=is_lenient)

    def _health(self, request: Request, rest: list[str]) -> Answer:
        if rest == ["version"]:
            return Answer(200, {"version": VERSION})
        self._allow(request, ["health.read"])
        ok = {"ping": 0, "status": "pass"}
        if not rest:
            return Answer(200, {"name": "http", **ok})
        if rest == ["time"]:  # it asks a clock on the internet, which the recorded server couldn't reach
            raise ApiError(500, "general_server_error", "Server Error")
        names = _CHECKS.get(rest[0])
        if names is None or len(rest) > 1:
            raise parameters.not_emulated(request)
        return Answer(200, {"total": len(names), "statuses": [{"name": name, **ok} for name in names]})

    def _data(
        self, request: Request, dialect: Dialect, rest: list[str], headers: dict[str, str], torn: tuple[int, str] | None
    ) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        parts = routes.in_tables(rest, dialect.table, dialect.column, dialect.row) if rest else []
        if parts[3:] and parts[3] == "rows" and parts[4:5] == [""]:  # a double slash
            parameters.uid("", f"{dialect.row}Id")
        if rest[:1] == ["transactions"] and not self._has_transactions:
            return nowhere()
        route = routes.find(method, parts)
        if route is None and not routes.is_missing(parts):
            return nowhere()
        is_lenient = route is not None and (route.group, route.action) == ("transactions", "create")
        is_guest = self._allow(
            request,
            dialect.scopes(route.scope if route else "tables", "read" if method == "GET" else "write"),
            is_lenient=is_lenient,
        )
        if route is None:
            raise parameters.not_emulated(request)
        remaining = 0 if route.limit is None else self._limits.check(request, route.limit, is_guest, headers)
        parameters.read_body(request)
        call = Call(request, dialect, is_guest, rest, torn)
        answer: Answer = getattr(self._groups[route.group], route.action)(call)
        if is_guest and route.limit is not None:
            headers["X-Ratelimit-Remaining"] = str(max(0, remaining - 1))
        return answer


def _tripped(status: int) -> Answer:
    """Return the answer to a body that trips the real server's HTTP library up."""
    if status == 400:
        return Answer(400, content_type="", style="bare")
    body = {"message": "Error: Server Error", "code": 500, "version": VERSION}
    return Answer(500, body, content_type="text/html", style="swoole")
