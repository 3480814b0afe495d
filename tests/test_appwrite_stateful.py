"""Random sequences of requests to the embedded Appwrite server: no acknowledged row is lost, no error is its own."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from booking_resilience.testing.appwrite_server.api import Api
from booking_resilience.testing.appwrite_server.exchange import Request

ROWS = "/v1/tablesdb/d/tables/t/rows"
TRANSACTIONS = "/v1/tablesdb/transactions"
IDS = st.sampled_from(["a", "B", "b", "c", "d"])
SLOTS = st.sampled_from(["s1", "S1", "s2 ", "s3", None])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
DATA = st.fixed_dictionaries({"slot": SLOTS, "n": st.integers(-3, 3) | st.none()})
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
PATHS = st.sampled_from([
    "/", "/v1/tablesdb", "/v1/tablesdb/zz", "/v1/tablesdb/d/tables/zz", "/v1/tablesdb/d/tables/t/columns/integer",
    "/v1/tablesdb/d/tables/t/columns/zz", "/v1/tablesdb/d/tables/t/indexes", "/v1/databases/d/collections/t/documents",
    f"{ROWS}/a/n/increment", f"{ROWS}/zz", TRANSACTIONS, f"{TRANSACTIONS}/zz", f"{TRANSACTIONS}/zz/operations",
    "/v1/account", "/v1/health/db",
])  # fmt: skip
NAMES = st.sampled_from(
    ["rowId", "data", "rows", "permissions", "transactionId", "queries", "key", "type", "columns", "size", "min", "max",
     "value", "ttl", "operations", "commit", "required", "default", "name", "tableId", "databaseId", "elements"]
)  # fmt: skip
QUERIES = st.fixed_dictionaries({
    "method": st.sampled_from(["equal", "notEqual", "lessThan", "between", "startsWith", "containsAll", "search",
                               "isNull", "limit", "offset", "cursorAfter", "select", "orderDesc", "and", "regex"]),
    "attribute": st.sampled_from(["slot", "n", "tags", "$id", "$createdAt", "zz"]) | JUNK,
    "values": st.lists(JUNK, max_size=3) | JUNK,
})  # fmt: skip
OWN = "cannot handle this"


class Requests(RuleBasedStateMachine):
    """A server beside a model of its rows: an ID in small letters, and what is stored."""

    transactions: Bundle[str] = Bundle("transactions")

    def __init__(self) -> None:
        super().__init__()
        self.api = Api("demo", "key", "legacy")
        self.rows: dict[str, dict[str, Any]] = {}
        self.ask("POST", "/v1/tablesdb", {"databaseId": "d", "name": "D"})
        self.ask("POST", "/v1/tablesdb/d/tables", {"tableId": "t", "name": "T"})
        columns = "/v1/tablesdb/d/tables/t/columns"
        self.ask("POST", f"{columns}/varchar", {"key": "slot", "size": 8, "required": False})
        self.ask("POST", f"{columns}/integer", {"key": "n", "required": False})
        self.ask("POST", f"{columns}/varchar", {"key": "tags", "size": 8, "required": False, "array": True})
        index = {"key": "u", "type": "unique", "columns": ["slot"]}
        assert self.ask("POST", "/v1/tablesdb/d/tables/t/indexes", index)[0] == 202

    def ask(self, method: str, path: str, body: Any = None, query: str = "") -> tuple[int, Any]:
        """Send a request; none is answered by an error of the embedded server's own."""
        headers = {"x-appwrite-project": "demo", "x-appwrite-key": "key", "content-type": "application/json"}
        raw = b"" if body is None else json.dumps(body).encode()
        answer = self.api.handle(Request(method, path, query, headers, raw))
        shown = json.dumps(answer.body) if not isinstance(answer.body, bytes) else ""
        assert OWN not in shown, shown
        return answer.status, answer.body

    def stored(self) -> dict[str, dict[str, Any]]:
        """Return the rows that the server lists."""
        limit = 'queries[]={"method":"limit","values":[100]}'
        listed = self.ask("GET", ROWS, query=limit)[1]["rows"]
        return {row["$id"].lower(): {"slot": row["slot"], "n": row["n"]} for row in listed}

    @rule(row_id=IDS, data=DATA)
    def create(self, row_id: str, data: dict[str, Any]) -> None:
        """A create that is told is stored, and no other."""
        status, _ = self.ask("POST", ROWS, {"rowId": row_id, "data": data})
        taken = [row["slot"] and row["slot"].strip().lower() for row in self.rows.values()]
        clashes = data["slot"] is not None and data["slot"].strip().lower() in taken
        assert status == (409 if row_id.lower() in self.rows or clashes else 201)
        if status == 201:
            self.rows[row_id.lower()] = data

    @rule(row_id=IDS, data=DATA)
    def update(self, row_id: str, data: dict[str, Any]) -> None:
        """An update that is told is stored."""
        status, _ = self.ask("PATCH", f"{ROWS}/{row_id}", {"data": data})
        assert status in (200, 404, 409)
        assert (status == 404) == (row_id.lower() not in self.rows)
        if status == 200:
            self.rows[row_id.lower()] = data

    @rule(row_id=IDS)
    def delete(self, row_id: str) -> None:
        """A delete removes what is there."""
        status, _ = self.ask("DELETE", f"{ROWS}/{row_id}")
        assert status == (204 if self.rows.pop(row_id.lower(), None) is not None else 404)

    @rule(row_id=IDS, data=DATA)
    def upsert(self, row_id: str, data: dict[str, Any]) -> None:
        """An upsert makes or changes one row, perhaps another's: never more than one."""
        before = self.stored()
        status, _ = self.ask("PUT", f"{ROWS}/{row_id}", {"data": data})
        assert status in (200, 409)
        after = self.stored()
        assert sum(before.get(key) != after.get(key) for key in before.keys() | after.keys()) <= (status == 200)
        assert before.keys() <= after.keys()
        self.rows = after

    @rule(items=st.lists(st.tuples(IDS, DATA), min_size=1, max_size=4), method=st.sampled_from(["POST", "PUT"]))
    def bulk(self, items: list[tuple[str, dict[str, Any]]], method: str) -> None:
        """A bulk request that is refused changes nothing."""
        rows = [{"$id": row_id, **data} for row_id, data in items]
        status, _ = self.ask(method, ROWS, {"rows": rows})
        assert status in (200, 201, 409)
        if status != 409:
            self.rows = self.stored()

    @rule(target=transactions)
    def begin(self) -> str:
        """Begin a transaction."""
        return str(self.ask("POST", TRANSACTIONS, {})[1]["$id"])

    @rule(transaction=transactions, row_id=IDS, data=DATA, action=st.sampled_from(
        ["create", "update", "upsert", "delete", "increment", "bulkUpdate", "bulkDelete"]
    ))  # fmt: skip
    def stage(self, transaction: str, row_id: str, data: dict[str, Any], action: str) -> None:
        """Staging changes nothing, and what is staged can be read."""
        given = {"column": "n", "value": 1} if action == "increment" else data
        if action.startswith("bulk"):
            given = {
                "data": {"n": 1},
                "queries": [json.dumps({"method": "equal", "attribute": "$id", "values": [row_id]})],
            }
        operation = {"action": action, "databaseId": "d", "tableId": "t", "rowId": row_id, "data": given}
        self.ask("POST", f"{TRANSACTIONS}/{transaction}/operations", {"operations": [operation]})
        self.ask("GET", f"{ROWS}/{row_id}", query=f"transactionId={transaction}")
        self.ask("GET", ROWS, query=f"transactionId={transaction}")

    @rule(transaction=consumes(transactions))
    def commit(self, transaction: str) -> None:
        """A commit that is refused leaves no trace."""
        status, body = self.ask("PATCH", f"{TRANSACTIONS}/{transaction}", {"commit": True})
        if status == 200:
            assert body["status"] == "committed"
            self.rows = self.stored()

    @rule(transaction=consumes(transactions))
    def roll_back(self, transaction: str) -> None:
        """A rolled-back transaction leaves no trace."""
        assert self.ask("PATCH", f"{TRANSACTIONS}/{transaction}", {"rollback": True})[1]["status"] == "failed"

    @rule(method=METHODS, path=PATHS, body=st.dictionaries(NAMES, JUNK | st.lists(DATA, max_size=2), max_size=5) | JUNK)
    def nonsense(self, method: str, path: str, body: Any) -> None:
        """Whatever is sent is answered as the real server would, and nobody's rows change by it unasked."""
        self.ask(method, path, body)
        self.rows = self.stored()

    @rule(queries=st.lists(QUERIES, max_size=3))
    def list(self, queries: list[Any]) -> None:
        """Whatever is asked is answered or refused."""
        status, _ = self.ask("GET", ROWS, query="&".join(f"queries[]={quoted(one)}" for one in queries))
        assert status in (200, 400, 500)

    @invariant()
    def nothing_is_lost(self) -> None:
        """What is stored is what was acknowledged."""
        assert self.stored() == self.rows


def quoted(query: Any) -> str:
    """Return a query as it stands in a path."""
    return quote(json.dumps(query))


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
