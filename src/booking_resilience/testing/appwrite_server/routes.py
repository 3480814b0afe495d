"""The table of routes: method and path, what it is for, which scope it needs, how often guests may.

The reference page "Fidelity" is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass

WRITES, DELETES = 120, 60  # of guests, in a minute


@dataclass(frozen=True, slots=True)
class Route:
    """One route.

    Attributes:
        method: Its method; a HEAD goes where a GET goes.
        path: Its path behind `/v1/tablesdb`; the other API says collections, attributes and documents.
        group: Which of the route classes carries it out, and `action`: which of its methods.
        scope: The area whose scope it needs.
        limit: How many requests a guest has in a minute; None for any number.
    """

    method: str
    path: str
    group: str
    action: str
    scope: str
    limit: int | None = None


_ONE = "/{databaseId}/tables/{tableId}"
ROUTES = (
    Route("POST", "", "tables", "create_database", "databases"),
    Route("GET", "", "tables", "list_databases", "databases"),
    Route("POST", "/transactions", "transactions", "create", "rows"),
    Route("GET", "/transactions", "transactions", "list", "rows"),
    Route("GET", "/transactions/{transactionId}", "transactions", "get", "rows"),
    Route("PATCH", "/transactions/{transactionId}", "transactions", "update", "rows"),
    Route("DELETE", "/transactions/{transactionId}", "transactions", "delete", "rows"),
    Route("POST", "/transactions/{transactionId}/operations", "transactions", "stage", "rows"),
    Route("GET", "/{databaseId}", "tables", "get_database", "databases"),
    Route("PUT", "/{databaseId}", "tables", "update_database", "databases"),
    Route("DELETE", "/{databaseId}", "tables", "delete_database", "databases"),
    Route("POST", "/{databaseId}/tables", "tables", "create_table", "tables"),
    Route("GET", "/{databaseId}/tables", "tables", "list_tables", "tables"),
    Route("GET", _ONE, "tables", "get_table", "tables"),
    Route("PUT", _ONE, "tables", "update_table", "tables"),
    Route("DELETE", _ONE, "tables", "delete_table", "tables"),
    Route("POST", f"{_ONE}/columns/{{kind}}", "fields", "create_column", "tables"),
    Route("GET", f"{_ONE}/columns", "fields", "list_columns", "tables"),
    Route("GET", f"{_ONE}/columns/{{key}}", "fields", "get_column", "tables"),
    Route("PATCH", f"{_ONE}/columns/{{kind}}/{{key}}", "fields", "update_column", "tables"),
    Route("PATCH", f"{_ONE}/columns/{{key}}/relationship", "fields", "update_column", "tables"),
    Route("DELETE", f"{_ONE}/columns/{{key}}", "fields", "delete_column", "tables"),
    Route("POST", f"{_ONE}/indexes", "fields", "create_index", "tables"),
    Route("GET", f"{_ONE}/indexes", "fields", "list_indexes", "tables"),
    Route("GET", f"{_ONE}/indexes/{{key}}", "fields", "get_index", "tables"),
    Route("DELETE", f"{_ONE}/indexes/{{key}}", "fields", "delete_index", "tables"),
    Route("POST", f"{_ONE}/rows", "rows", "create", "rows", WRITES),
    Route("GET", f"{_ONE}/rows", "rows", "list", "rows"),
    Route("PUT", f"{_ONE}/rows", "bulk", "upsert", "rows", WRITES),
    Route("PATCH", f"{_ONE}/rows", "bulk", "update", "rows", WRITES),
    Route("DELETE", f"{_ONE}/rows", "bulk", "delete", "rows", DELETES),
    Route("GET", f"{_ONE}/rows/{{rowId}}", "rows", "get", "rows"),
    Route("PUT", f"{_ONE}/rows/{{rowId}}", "rows", "upsert", "rows", WRITES),
    Route("PATCH", f"{_ONE}/rows/{{rowId}}", "rows", "update", "rows", WRITES),
    Route("DELETE", f"{_ONE}/rows/{{rowId}}", "rows", "delete", "rows", DELETES),
    Route("PATCH", f"{_ONE}/rows/{{rowId}}/{{column}}/increment", "rows", "increment", "rows", WRITES),
    Route("PATCH", f"{_ONE}/rows/{{rowId}}/{{column}}/decrement", "rows", "decrement", "rows", WRITES),
)

MISSING = (
    "/{databaseId}/usage", "/{databaseId}/logs", f"{_ONE}/usage", f"{_ONE}/logs", f"{_ONE}/rows/{{rowId}}/logs",
"/transactions/{transactionId}/operations",
)  # fmt: skip
"""Routes that the real server has and this one has not, in the parts that it emulates; they answer 501."""

ELSEWHERE = (
    "account", "activities", "apps", "avatars", "backups", "console", "documentsdb", "domains", "embeddings",
    "functions", "graphql", "locale", "messaging", "migrations", "mongo", "mysql", "oauth2", "organization", "ping",
    "postgresql", "presences", "project", "projects", "proxy", "realtime", "reports", "sites", "storage", "teams",
    "tokens", "users", "vcs", "vectorsdb", "waf", "webhooks",
)  # fmt: skip
"""What the SDK has services for, and what other clients ask; all of it answers 501."""


_WILD = "{"
_BY_SHAPE: dict[tuple[str, int], list[tuple[Route, list[str]]]] = {}
for _route in ROUTES:
    _parts = _route.path.split("/")[1:]
    _BY_SHAPE.setdefault((_route.method, len(_parts)), []).append((_route, _parts))


def in_tables(parts: list[str], table: str, column: str, row: str) -> list[str]:
    """Return the parts of a path in the words of tables, whatever the API calls a table, a column and a row."""
    words = {1: {f"{table}s": "tables"}, 3: {f"{column}s": "columns", f"{row}s": "rows"}}
    return [
        words[place].get(part, "" if part in ("tables", "columns", "rows") else part) if place in words else part
        for place, part in enumerate(parts)
    ]


def find(method: str, parts: list[str]) -> Route | None:
    """Return the route for a method and the parts of a path in the words of tables; None if there is none."""
    for route, pattern in _BY_SHAPE.get((method, len(parts)), ()):
        if all(wanted.startswith(_WILD) or wanted == part for wanted, part in zip(pattern, parts, strict=True)):
            return route
    return None


def is_missing(parts: list[str]) -> bool:
    """Tell whether a path is one that the real server has and this one has not."""
    for path in MISSING:
        pattern = path.split("/")[1:]
        if len(pattern) <= len(parts) and all(
            wanted.startswith(_WILD) or wanted == part for wanted, part in zip(pattern, parts, strict=False)
        ):
            return True
    return False
