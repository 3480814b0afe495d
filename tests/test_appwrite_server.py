"""The embedded Appwrite server: what it answers beyond the recordings, what goes wrong with it, how it ends."""

from __future__ import annotations

import http.client
import importlib.util
import json
import re
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB
from hypothesis import given
from hypothesis import strategies as st

from backends import call, make_table, setting
from booking_resilience.appwrite import classify
from booking_resilience.testing import AppwriteServer, Fault, RecordedRequest, virtual_time

ROWS = "/v1/tablesdb/d/tables/t/rows"
KEYS = {"x-appwrite-project": "demo", "x-appwrite-key": "demo-key", "content-type": "application/json"}
GUEST = {"x-appwrite-project": "demo", "content-type": "application/json"}
COLUMNS = {
    "slot": {"type": "varchar", "size": 16, "required": True},
    "n": {"type": "integer", "required": False},
    "tags": {"type": "varchar", "size": 8, "required": False, "array": True},
}


class Wired:
    """A server with a table, and requests to it without any client library."""

    def __init__(self, server, columns=COLUMNS, indexes=None, **table):
        self.server = server
        self.port = int(server.endpoint.split(":")[2].split("/")[0])
        client = server.client()
        call(client, "post", "/tablesdb", databaseId="d", name="D")
        make_table(client, "d", "t", columns, indexes or {})
        client.close()

    def ask(self, method, path=ROWS, body=None, headers=KEYS):
        """Return status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        is_json = answer.headers.get("Content-Type", "").startswith("application/json") and raw
        return answer.status, answer.headers, json.loads(raw) if is_json else raw

    def create(self, row_id, headers=KEYS, **data):
        """Create a row; return status and body."""
        status, _, body = self.ask("POST", ROWS, {"rowId": row_id, "data": {"slot": "S", **data}}, headers)
        return status, body

    def listed(self, *queries):
        """Return the IDs of the rows that the queries find; the error's type if they are refused."""
        query = "&".join(f"queries[{n}]={quote(text)}" for n, text in enumerate(map(str, queries)))
        status, _, body = self.ask("GET", f"{ROWS}?{query}")
        return [row["$id"] for row in body["rows"]] if status == 200 else body["type"]


@pytest.fixture
def wired(appwrite_server):
    """A server with a table."""
    return Wired(appwrite_server)


# Faults on the wire


def raw_answer(port, body):
    """Send a create over a socket; return all bytes that come back, and how the connection ended."""
    data = json.dumps(body).encode()
    head = f"POST {ROWS} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in KEYS.items())
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head.encode() + b"\r\n" + data)
        received = b""
        try:
            while chunk := sock.recv(65_536):
                received += chunk
                before, ends, rest = received.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", before.lower())
                if ends and length and len(rest) >= int(length[1]):
                    return received, "open"
        except ConnectionResetError:
            return received, "reset"
        return received, "closed"


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize(
    ("fault", "ending", "status", "text"),
    [
        (lambda **a: Fault.status(503, **a), "open", 503, b'"type":"general_unknown"'),
        (lambda **a: Fault.status(408, **a), "open", 408, b'"type":"database_timeout"'),
        (lambda **a: Fault.status(502, html=True, **a), "open", 502, b"<h1>502</h1>"),
        (lambda **a: Fault.status(500, type="general_mock", **a), "open", 500, b'"type":"general_mock"'),
        (lambda **a: Fault.reset(**a), "reset", None, b""),
        (lambda **a: Fault.close(**a), "closed", None, b""),
        (lambda **a: Fault.hang(0.05, **a), "closed", None, b""),
        (lambda **a: Fault.cut_body(**a), "closed", "any", b"{"),
        (lambda **a: Fault.slow_body(0.05, **a), "open", "any", b"{"),
        (lambda **a: Fault.invalid_json(**a), "open", "2xx", b'{"$id": "'),
        (lambda **a: Fault.rate_limited(2.0, **a), "open", 429, b'"type":"general_rate_limit_exceeded"'),
    ],
)
def test_each_fault_is_a_real_one_on_the_wire(wired, fault, ending, status, text, after_commit):
    """Before the commit nothing is stored, after it the row is; the client sees the fault and no more."""
    made = fault(after_commit=after_commit)
    wired.server.faults.script([made], method="POST", path="/rows")
    received, ended = raw_answer(wired.port, {"rowId": "r1", "data": {"slot": "S"}})
    assert ended == ending
    head, _, body = received.partition(b"\r\n\r\n")
    if status is None:
        assert received == b""
    else:
        sent = int(head.split()[1])
        assert sent == status or (status == "2xx" and 200 <= sent < 300) or status == "any"
        assert text.replace(b" ", b"") in body.replace(b" ", b"")
    recorded = wired.server.requests[-1]
    assert (recorded.fault, recorded.status) == (made, int(head.split()[1]) if head else None)
    assert wired.listed() == (["r1"] if after_commit else [])
    assert wired.create("r2")[0] == 201  # and then all is well


def test_a_cut_body_promises_more_than_comes(wired):
    """The answer's head is that of the whole, half of its body comes."""
    wired.server.faults.script([Fault.cut_body(after_commit=True)], method="POST")
    received, _ = raw_answer(wired.port, {"rowId": "r1", "data": {"slot": "S"}})
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 201")
    assert len(body) < int(re.search(rb"Content-Length: (\d+)", head)[1])
    assert body.startswith(b'{"slot"')


def test_a_slow_answer_is_a_whole_one_and_the_connection_goes_on(appwrite_server):
    """What dripped is what would have come at once; the next request goes over the same connection."""
    client = Wired(appwrite_server).server.client()
    tables = TablesDB(client)
    tables.list_rows("d", "t")
    (before,) = client._transport.pool._idle.values()
    before = list(before)
    appwrite_server.faults.script([Fault.slow_body(0.02)] * 3)
    assert tables.create_row("d", "t", "r1", {"slot": "S"}).id == "r1"
    assert tables.get_row("d", "t", "r1").id == "r1"
    tables.delete_row("d", "t", "r1")
    assert tables.list_rows("d", "t").total == 0
    (after,) = client._transport.pool._idle.values()
    assert list(after) == before


def test_a_status_can_come_without_a_content_type(wired):
    """`content_type` says what is sent, None that none is."""
    wired.server.faults.script([Fault.status(503, content_type=None), Fault.status(503, content_type="text/x")])
    assert wired.ask("GET")[1].get("Content-Type") is None
    assert wired.ask("GET")[1].get("Content-Type") == "text/x"


def test_a_rate_limit_says_when_it_ends(wired):
    """`X-Ratelimit-Reset` lies so many seconds ahead, in Unix seconds."""
    wired.server.faults.script([Fault.rate_limited(30)])
    _, headers, _ = wired.ask("GET")
    assert 28 <= int(headers["X-Ratelimit-Reset"]) - time.time() <= 31
    assert headers["X-Ratelimit-Remaining"] == "0"


def test_an_outage_refuses_resets_and_ends(wired):
    """New connections are refused, open ones are reset, what was stored is there afterwards."""
    client = wired.server.client()
    tables = TablesDB(client)
    tables.create_row("d", "t", "r1", {"slot": "S"})
    with socket.create_connection(("127.0.0.1", wired.port)) as idle:
        deadline = time.monotonic() + 10
        while len(wired.server._open) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        with wired.server.outage():
            idle.settimeout(10)
            with pytest.raises(ConnectionResetError):
                idle.recv(1)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", wired.port))
            with pytest.raises(Exception, match="refused"):
                tables.get_row("d", "t", "r1")
    assert tables.get_row("d", "t", "r1").id == "r1"


def test_a_body_too_large_is_refused_without_a_word(wired):
    """13 MB are a 413 without a type of content and a body, over which the plain client stumbles; 11 MB are read."""
    plain = Client().set_endpoint(wired.server.endpoint).set_project("demo").set_key("demo-key")
    for client, error in ((plain, KeyError), (wired.server.client(), AppwriteException)):
        with pytest.raises(error) as caught:
            TablesDB(client).create_row("d", "t", "r1", {"slot": "z" * 13_000_000})
        verdict = classify(caught.value)
        assert (verdict.status, verdict.type, verdict.transient) == (413, None, False)
    with pytest.raises(AppwriteException) as caught:
        TablesDB(plain).create_row("d", "t", "r1", {"slot": "z" * 11_000_000})
    assert caught.value.code == 400


def test_an_outage_lets_an_error_out_as_it_is(wired):
    """Also one that refuses attributes."""

    @dataclass(frozen=True, slots=True)
    class FrozenError(Exception):
        number: int

    error = FrozenError(1)
    with pytest.raises(FrozenError) as caught, wired.server.outage():
        raise error
    assert caught.value is error
    assert wired.create("r1")[0] == 201


def test_it_runs_where_threads_must_not_be_daemons(monkeypatch):
    """A subinterpreter refuses daemon threads; the server's end ends its threads all the same."""

    class Strict(threading.Thread):
        def __init__(self, *args, daemon=None, **kwargs):
            if daemon:
                raise RuntimeError("daemon threads are disabled in this interpreter")
            super().__init__(*args, daemon=daemon, **kwargs)

    monkeypatch.setattr(threading, "Thread", Strict)
    before = set(threading.enumerate())
    with AppwriteServer() as server:
        assert Wired(server).create("r1")[0] == 201
    assert set(threading.enumerate()) <= before


def test_outages_nest(wired):
    """It is up again when the outermost ends, and not before."""
    tables = TablesDB(wired.server.client())
    with wired.server.outage():
        with wired.server.outage():
            pass
        with pytest.raises(Exception, match="refused"):
            tables.list_rows("d", "t")
    assert tables.list_rows("d", "t").total == 0


# Requests


def test_requests_are_recorded_in_order(wired):
    """Method, path with its query, JSON body, status and fault, of each request, also of those without an answer."""
    before = len(wired.server.requests)
    wired.server.faults.script([None, Fault.close(), None])
    wired.create("r1")
    with pytest.raises(http.client.RemoteDisconnected):
        wired.ask("GET", f"{ROWS}?x=%20y")
    wired.ask("DELETE", f"{ROWS}/r1")
    assert wired.server.requests[before:] == [
        RecordedRequest("POST", ROWS, {"rowId": "r1", "data": {"slot": "S"}}, 201, None),
        RecordedRequest("GET", f"{ROWS}?x=%20y", None, None, Fault.close()),
        RecordedRequest("DELETE", f"{ROWS}/r1", None, 204, None),
    ]


def test_only_the_last_requests_are_kept(wired):
    """The memory of requests is bounded."""
    assert wired.server._requests.maxlen == 10_000


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tablesdb/transactions/x/operations"),
        ("GET", "/v1/tablesdb/d/tables/t/rows/r1/logs"),
        ("GET", "/v1/databases/d/collections/t/usage"),
        ("POST", "/v1/storage/buckets"),
        ("GET", "/v1/teams"),
        ("GET", "/v1/health/queue/mails"),
    ],
)
def test_a_route_that_is_not_emulated_says_so(wired, method, path):
    """A route that the real server has and this one has not is a 501 of its own type that names the route."""
    body = {"data": {"slot": "S"}, "rows": [{"$id": "a", "slot": "S"}]}
    status, _, answer = wired.ask(method, path, body)
    assert (status, answer["type"]) == (501, "general_not_implemented")
    assert f"does not emulate {method} {path}" in answer["message"]


@pytest.mark.parametrize(
    "path", ["/nonsense", "/v1", "/v1/", "/v2/tablesdb", "/v1/nonsense", f"{ROWS}/r1/x/y/z", "/v1/tablesdb/d/x"]
)
def test_an_unknown_route_is_the_real_servers_page(wired, path):
    """A route that neither has is an HTML 404."""
    status, headers, body = wired.ask("GET", path)
    assert (status, headers["Content-Type"]) == (404, "text/html; charset=UTF-8")
    assert body.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({**KEYS, "x-appwrite-key": "wrong"}, 401, "user_unauthorized"),
        ({**KEYS, "x-appwrite-key": "demo-key "}, 201, None),
        ({**KEYS, "x-appwrite-key": "Demo-Key"}, 401, "user_unauthorized"),
        ({**KEYS, "x-appwrite-project": "other"}, 404, "project_not_found"),
        ({**KEYS, "x-appwrite-project": ""}, 403, "project_id_missing"),
        ({"content-type": "application/json"}, 401, "general_access_forbidden"),
        (GUEST, 401, "user_unauthorized"),
        ({**GUEST, "origin": "https://evil.example"}, 403, "general_unknown_origin"),
        ({**KEYS, "content-type": "text/plain"}, 400, "row_missing_data"),
        ({key.title(): value for key, value in KEYS.items()}, 201, None),
    ],
)
def test_who_may_not_is_told_why(wired, headers, status, kind):
    """Project, key, scope and content type are checked as the real server does, header names in any case."""
    found, body = wired.create("r1", headers=headers)
    assert (found, body.get("type")) == (status, kind)


def test_keys_have_scopes_and_end(wired):
    """A key that may only read is told which scope it lacks; an expired one is told so."""
    wired.server.api.access.keys.update({"reader": frozenset({"rows.read"}), "old": "expired"})
    status, body = wired.create("r1", headers={**KEYS, "x-appwrite-key": "reader"})
    assert (status, body["type"]) == (401, "general_unauthorized_scope")
    assert '["rows.write","documents.write"]' in body["message"]
    assert wired.ask("GET", headers={**KEYS, "x-appwrite-key": "reader"})[0] == 200
    assert wired.create("r1", headers={**KEYS, "x-appwrite-key": "old"})[1]["type"] == "project_key_expired"


def open_table(server, **changes):
    """Return a server whose table is open to guests."""
    wired = Wired(server)
    permissions = ['read("any")', 'create("any")', 'update("guests")', 'delete("any")']
    body = {"tableId": "t", "name": "T", "permissions": permissions, **changes}
    assert wired.ask("DELETE", ROWS.removesuffix("/rows"))[0] == 204
    assert wired.ask("POST", "/v1/tablesdb/d/tables", body)[0] == 201
    column = {"key": "slot", "size": 16, "required": True}
    assert wired.ask("POST", "/v1/tablesdb/d/tables/t/columns/varchar", column)[0] == 202
    return wired


def test_guests_do_what_the_permissions_grant(appwrite_server):
    """Permissions of the table let guests in; row security lets them read single rows."""
    wired = open_table(appwrite_server)
    assert wired.create("r1", headers=GUEST)[0] == 201
    assert wired.ask("GET", f"{ROWS}/r1", headers=GUEST)[0] == 200
    assert wired.ask("PATCH", f"{ROWS}/r1", {"data": {"slot": "T"}}, GUEST)[0] == 200
    assert wired.ask("DELETE", f"{ROWS}/r1", {}, GUEST)[0] == 204
    wired.ask("DELETE", ROWS.removesuffix("/rows"))
    wired.ask("POST", "/v1/tablesdb/d/tables", {"tableId": "t", "name": "T", "permissions": [], "rowSecurity": True})
    wired.ask("POST", "/v1/tablesdb/d/tables/t/columns/varchar", {"key": "slot", "size": 16, "required": True})
    for row_id, permissions in (("open", ['read("any")']), ("shut", [])):
        wired.ask("POST", ROWS, {"rowId": row_id, "data": {"slot": "S"}, "permissions": permissions})
    assert [row["$id"] for row in wired.ask("GET", headers=GUEST)[2]["rows"]] == ["open"]
    assert wired.ask("GET", f"{ROWS}/shut", headers=GUEST)[0] == 404
    assert wired.ask("DELETE", f"{ROWS}/open", {}, GUEST)[2]["type"] == "user_unauthorized"


def test_guests_are_limited_and_keys_are_not(appwrite_server):
    """In each minute a guest gets 119 creates on a path through, and then a 429 that says when it ends."""
    with virtual_time() as clock:
        wired = open_table(appwrite_server)
        made = [wired.create(f"g{number}", headers=GUEST)[0] for number in range(121)]
        assert made == [201] * 119 + [429] * 2
        status, headers, body = wired.ask("POST", ROWS, {"rowId": "x", "data": {"slot": "S"}}, GUEST)
        assert (status, body["type"]) == (429, "general_rate_limit_exceeded")
        assert headers["X-Ratelimit-Limit"] == "120"
        assert 0 < int(headers["X-Ratelimit-Reset"]) - clock.utc_now().timestamp() <= 60
        assert all(wired.create(f"k{number}")[0] == 201 for number in range(130))
        assert wired.ask("GET", f"{ROWS}/g1", headers=GUEST)[0] == 200
        clock.advance(60)
        assert wired.create("later", headers=GUEST)[0] == 201


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("/v1/health/version", {"version": "1.9.6"}),
        ("/v1/health", {"name": "http", "ping": 0, "status": "pass"}),
        ("/v1/health/db", {"total": 2}),
        ("/v1/health/cache", {"total": 1}),
    ],
)
def test_the_health_routes_answer(wired, path, facts):
    """The version is for everybody, the rest needs a key."""
    status, _, body = wired.ask("GET", path)
    assert status == 200
    assert facts.items() <= body.items()
    assert wired.ask("GET", path, headers=GUEST)[0] == (200 if path.endswith("version") else 401)


# Columns


INTEGERS = [(0, True), (2**63 - 1, True), (2**63, False), (1.5, False), (1.0, False), ("1", False), (True, False)]
ACCEPTED = {
    "varchar": ({"size": 3}, [("abc", True), ("", True), ("abcd", False), (1, False), ("äöü", True), (["a"], False)]),
    "string": ({"size": 3}, [("abc", True), ("abcd", False)]),
    "text": ({}, [("x" * 16_383, True), ("x" * 16_384, False)]),
    "integer": ({}, INTEGERS),
    "integer from 1 to 5": ({"min": 1, "max": 5}, [(1, True), (5, True), (0, False), (6, False)]),
    "float": ({}, [(1, True), (1.5, True), (-1e300, True), ("1.5", False), (True, False)]),
    "float to 1": ({"max": 1}, [(1, True), (1.01, False)]),
    "boolean": ({}, [(True, True), (False, True), (0, False), ("true", False)]),
    "datetime": (
        {},
        [("2026-11-23T09:00:00Z", True), ("2026-11-23 09:00", True), ("2026-11-23", True), ("soon", False), (5, False)],
    ),
    "enum": ({"elements": ["a", "b"]}, [("a", True), ("A", False), ("", False), (1, False)]),
    "email": ({}, [("a@b.example", True), ("a@b", False), ("ab", False), (1, False)]),
    "url": ({}, [("https://x.example/y", True), ("x", False), (1, False)]),
    "ip": ({}, [("127.0.0.1", True), ("::1", True), ("host", False), (1, False)]),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_column_takes_what_its_type_size_and_range_allow(appwrite_server, kind):
    """What does not fit is a 400 that names the column; what fits comes back."""
    facts, values = ACCEPTED[kind]
    wired = Wired(appwrite_server, {"c": {"type": kind.split()[0], "required": False, **facts}})
    for number, (value, fits) in enumerate(values):
        status, _, body = wired.ask("POST", ROWS, {"rowId": f"r{number}", "data": {"c": value}})
        assert (status, value) == (201 if fits else 400, value)
        if fits and kind != "datetime":
            assert body["c"] == value
        if not fits:
            assert body["type"] == "row_invalid_structure"
            assert '"c"' in body["message"]


def test_columns_may_be_required_have_defaults_and_hold_arrays(appwrite_server):
    """A missing value is refused, filled in, or null; an array is checked item by item and is empty if missing."""
    columns = {
        "must": {"type": "varchar", "size": 8, "required": True},
        "may": {"type": "varchar", "size": 8, "required": False},
        "filled": {"type": "integer", "required": False, "default": 7},
        "many": {"type": "integer", "required": False, "array": True},
    }
    wired = Wired(appwrite_server, columns)
    status, _, body = wired.ask("POST", ROWS, {"rowId": "r1", "data": {"must": "x"}})
    assert status == 201
    assert {key: body[key] for key in columns} == {"must": "x", "may": None, "filled": 7, "many": []}
    for data, says in (
        ({}, "row data is missing"),
        ({"may": "x"}, 'Missing required attribute "must"'),
        ({"must": None}, 'Missing required attribute "must"'),
        ({"must": "x", "other": 1}, 'Unknown attribute: "other"'),
        ({"must": "x", "many": 1}, 'Attribute "many" must be an array'),
        ({"must": "x", "many": [1, "2"]}, "\"many['1']\" has invalid"),
    ):
        status, _, body = wired.ask("POST", ROWS, {"rowId": "r2", "data": data})
        assert status == 400
        assert says in body["message"]
    assert wired.ask("PATCH", f"{ROWS}/r1", {"data": {"must": None}})[0] == 400
    status, _, body = wired.ask("PATCH", f"{ROWS}/r1", {"data": {"many": [3]}})
    assert (status, body["many"], body["must"]) == (200, [3], "x")


def test_moments_are_stored_in_utc_with_milliseconds(appwrite_server):
    """Any notation and zone becomes the server's own."""
    wired = Wired(appwrite_server, {"at": {"type": "datetime", "required": True}})
    for text in ("2026-11-23T10:00:00.123456+01:00", "2026-11-23T09:00:00.123Z", "2026-11-23 09:00:00.123"):
        body = wired.ask("POST", ROWS, {"rowId": "unique()", "data": {"at": text}})[2]
        assert body["at"] == "2026-11-23T09:00:00.123+00:00"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", body["$createdAt"])


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("varchar", {"key": "k", "required": True}, "size"),
        ("varchar", {"key": "k", "required": True, "size": 0}, "size"),
        ("varchar", {"required": True, "size": 1}, "key"),
        ("varchar", {"key": "_k", "required": True, "size": 1}, "key"),
        ("varchar", {"key": "k", "size": 1}, "required"),
        ("varchar", {"key": "k", "size": 1, "required": "yes"}, "required"),
        ("enum", {"key": "k", "required": True, "elements": [1]}, "elements"),
    ],
)
def test_a_column_that_makes_no_sense_is_refused(wired, kind, body, says):
    """A 400 names the parameter."""
    status, _, answer = wired.ask("POST", f"/v1/tablesdb/d/tables/t/columns/{kind}", body)
    assert (status, answer["type"]) == (400, "general_argument_invalid")
    assert says in answer["message"]


def test_parameters_of_a_kind_that_nobody_thought_of_are_answered(wired):
    """Whatever is sent, there is an answer, and the server goes on."""
    for body in (
        {"tableId": "x", "name": ["y"]},
        {"tableId": ["x"], "name": "y"},
        {"tableId": "z", "name": "y", "permissions": 1},
    ):
        assert 400 <= wired.ask("POST", "/v1/tablesdb/d/tables", body)[0] <= 500 or body["name"] == ["y"]
    column = {"key": "k", "required": True, "min": "a", "max": []}
    assert wired.ask("POST", "/v1/tablesdb/d/tables/t/columns/integer", column)[0] in (202, 400, 500)
    index = {"key": "i", "type": "unique", "columns": 5}
    assert wired.ask("POST", "/v1/tablesdb/d/tables/t/indexes", index)[0] in (400, 500)
    assert wired.ask("GET")[0] == 200


# Rows


@pytest.mark.parametrize(
    ("mode", "kind"), [("legacy", "row_already_exists"), ("new", "row_unique_constraint_violation")]
)
def test_a_unique_index_refuses_with_the_old_or_the_new_409(mode, kind):
    """Up to 1.9.6 it looks as if the ID were taken and names the new ID; newer servers have a type of their own."""
    with AppwriteServer(unique_violation=mode) as server:
        unique = {"type": "unique", "columns": ["slot", "n"]}
        wired = Wired(server, indexes={"once": unique})
        assert wired.create("r1", n=1)[0] == 201
        for row_id, slot in (("r2", "S"), ("r3", "s")):  # without regard to letter case
            status, body = wired.create(row_id, slot=slot, n=1)
            assert (status, body["type"]) == (409, kind)
            assert (row_id in body["message"]) == (mode == "legacy")
        assert wired.create("r4")[0] == wired.create("r5")[0] == 201  # null never clashes
        assert wired.create("r6", n=2)[0] == 201
        assert wired.ask("PATCH", f"{ROWS}/r6", {"data": {"n": 1}})[2]["type"] == kind
        assert wired.ask("PATCH", f"{ROWS}/r6", {"data": {"n": 2}})[0] == 200
        wired.ask("DELETE", f"{ROWS}/r1")
        assert wired.ask("PATCH", f"{ROWS}/r6", {"data": {"n": 1}})[0] == 200
        assert wired.create("r7", n=2)[0] == 201
        assert wired.create("R7", n=3)[1]["type"] == "row_already_exists"


def test_ids_are_compared_without_case_and_made_on_request(wired):
    """`DUNE` meets `dune`; `unique()` makes an ID; a bad one is a 400."""
    assert wired.create("dune")[0] == 201
    status, body = wired.create("DUNE")
    assert (status, body["type"]) == (409, "row_already_exists")
    assert wired.ask("GET", f"{ROWS}/DUNE")[2]["$id"] == "dune"
    assert re.fullmatch(r"[0-9a-f]{20}", wired.create("unique()")[1]["$id"])
    for bad in ("", "x" * 37, "_x", "a b", "ü"):
        assert wired.create(bad)[1]["type"] in ("general_argument_invalid", "row_missing_data")


def test_sequences_grow_and_are_used_up_by_refusals(wired):
    """Each row has a greater sequence than those before; a refused create takes one, too."""
    first = int(wired.create("r1")[1]["$sequence"])
    wired.create("r1")
    assert int(wired.create("r2")[1]["$sequence"]) == first + 2


def test_an_update_changes_what_is_sent_and_its_moment(wired):
    """Other columns stay; `$updatedAt` moves only if something changed; an older timestamp is a conflict."""
    with virtual_time() as clock:
        made = wired.create("r1", n=1)[1]
        clock.advance(1)
        same = wired.ask("PATCH", f"{ROWS}/r1", {"data": {"n": 1}})[2]
        assert same["$updatedAt"] == made["$updatedAt"]
        changed = wired.ask("PATCH", f"{ROWS}/r1", {"data": {"n": 2}})[2]
        assert (changed["n"], changed["slot"], changed["$createdAt"]) == (2, "S", made["$createdAt"])
        assert changed["$updatedAt"] > made["$updatedAt"]
        headers = {**KEYS, "x-appwrite-timestamp": made["$updatedAt"]}
        assert wired.ask("PATCH", f"{ROWS}/r1", {"data": {"n": 3}}, headers)[2]["type"] == "row_update_conflict"


def test_both_vocabularies_show_the_same_rows(wired):
    """A row is a document, a table a collection; errors speak the vocabulary of the route."""
    documents = "/v1/databases/d/collections/t/documents"
    assert wired.ask("POST", documents, {"documentId": "d1", "data": {"slot": "S"}})[2]["$collectionId"] == "t"
    assert wired.ask("GET", f"{ROWS}/d1")[2]["$tableId"] == "t"
    assert wired.ask("GET", documents)[2]["documents"][0]["$id"] == "d1"
    assert wired.ask("GET", f"{documents}/gone")[2]["type"] == "document_not_found"
    assert wired.ask("GET", "/v1/databases/d/collections/x")[2]["type"] == "collection_not_found"
    assert wired.ask("GET", "/v1/databases/d/collections/t")[2]["attributes"][0]["key"] == "slot"


def test_a_table_goes_with_its_rows_a_database_with_its_tables(wired):
    """What is removed is gone, and can be made again."""
    wired.create("r1")
    assert wired.ask("DELETE", "/v1/tablesdb/d/tables/t/columns/n")[0] == 204
    assert "n" not in wired.ask("GET", f"{ROWS}/r1")[2]
    assert wired.ask("DELETE", "/v1/tablesdb/d/tables/t")[0] == 204
    assert wired.ask("GET")[2]["type"] == "table_not_found"
    assert wired.ask("DELETE", "/v1/tablesdb/d")[0] == 204
    assert wired.ask("GET")[2]["type"] == "database_not_found"
    assert wired.ask("POST", "/v1/tablesdb", {"databaseId": "d", "name": "D"})[0] == 201


@pytest.mark.parametrize(
    ("api", "table", "column"), [("tablesdb", "table", "column"), ("databases", "collection", "attribute")]
)
def test_databases_tables_columns_and_indexes_are_listed_found_and_removed(wired, api, table, column):
    """What was made is in its list and found by its ID or key; what is removed is neither; in both vocabularies."""
    base = f"/v1/{api}/d/{table}s/t"
    index = {"key": "by_n", "type": "unique", f"{column}s": ["n", "slot"], "orders": ["ASC", "DESC"]}
    assert wired.ask("POST", f"{base}/indexes", index)[0] == 202
    for path, name, key in (
        (f"/v1/{api}", "databases", "$id"),
        (f"/v1/{api}/d/{table}s", f"{table}s", "$id"),
        (f"{base}/{column}s", f"{column}s", "key"),
        (f"{base}/indexes", "indexes", "key"),
    ):
        status, _, listed = wired.ask("GET", path)
        assert (status, listed["total"]) == (200, len(listed[name]))
        last = listed[name][-1]
        assert wired.ask("GET", f"{path}/{last[key]}")[2] == last
        status, _, missing = wired.ask("GET", f"{path}/missing")
        assert (status, missing["type"].endswith("_not_found")) == (404, True)
        assert wired.ask("DELETE", f"{path}/missing")[0] == 404
    assert wired.ask("DELETE", f"{base}/indexes/by_n")[0] == 204
    assert wired.ask("GET", f"{base}/indexes")[2] == {"total": 0, "indexes": []}
    assert wired.create("r1", n=1)[0] == wired.create("r2", n=1)[0] == 201  # nothing is unique any more


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"key": "i", "type": "unique", "columns": ["slot"]}, 409, "column_index_already_exists"),
        ({"key": "j", "type": "unique", "columns": ["other"]}, 400, "column_unknown"),
        ({"key": "j", "type": "tree", "columns": ["slot"]}, 400, "general_argument_invalid"),
        ({"key": "j", "type": "key"}, 400, "general_argument_invalid"),
        ({"key": "j", "type": "key", "columns": ["$createdAt"]}, 202, None),
    ],
)
def test_an_index_that_cannot_be_is_refused(wired, body, status, kind):
    """A key that is taken, a column or a type that is not there, a parameter that is missing."""
    path = ROWS.removesuffix("/rows") + "/indexes"
    assert wired.ask("POST", path, {"key": "i", "type": "key", "columns": ["n"]})[0] == 202
    found, _, answer = wired.ask("POST", path, body)
    assert (found, answer.get("type") if kind else None) == (status, kind)


def test_what_is_there_already_is_a_conflict(wired):
    """A database, a table and a column of the same ID or key."""
    column = {"key": "slot", "size": 16, "required": True}
    for path, body in (
        ("/v1/tablesdb", {"databaseId": "D", "name": "D"}),
        ("/v1/tablesdb/d/tables", {"tableId": "T", "name": "T"}),
        ("/v1/tablesdb/d/tables/t/columns/varchar", column),
    ):
        status, _, answer = wired.ask("POST", path, body)
        assert (status, answer["type"].endswith("_already_exists")) == (409, True)


# Lists


def stocked(server):
    """Return a server with six rows: numbers with a null and an equal pair, words, tags."""
    wired = Wired(server)
    words = ["Apple", "apricot", "banana", "Cherry", "date", "elder berry"]
    numbers = [3, None, 1, 2, 2, -5]
    for place, (word, number) in enumerate(zip(words, numbers, strict=True)):
        tags = [f"t{place}", f"x{place % 2}"]
        assert wired.create(f"r{place}", slot=word, n=number, tags=tags)[0] == 201
    return wired


def query(method, attribute=None, *values):
    """Return a query as the SDK writes it."""
    facts = {"method": method, "attribute": attribute, "values": list(values)}
    return json.dumps({key: value for key, value in facts.items() if value is not None})


QUERIES = [
    ([query("equal", "slot", "APPLE", "date")], "r0 r4"),
    ([query("equal", "$id", "r3", "r1", "gone")], "r1 r3"),
    ([query("notEqual", "slot", "apple")], "r1 r2 r3 r4 r5"),
    ([query("notEqual", "n", 2)], "r0 r2 r5"),
    ([query("lessThan", "n", 2)], "r2 r5"),
    ([query("lessThanEqual", "n", 2)], "r2 r3 r4 r5"),
    ([query("greaterThan", "n", 2)], "r0"),
    ([query("greaterThanEqual", "n", 2)], "r0 r3 r4"),
    ([query("between", "n", 1, 2)], "r2 r3 r4"),
    ([query("notBetween", "n", 1, 2)], "r0 r5"),
    ([query("startsWith", "slot", "AP")], "r0 r1"),
    ([query("notStartsWith", "slot", "ap")], "r2 r3 r4 r5"),
    ([query("endsWith", "slot", "E")], "r0 r4"),
    ([query("notEndsWith", "slot", "e")], "r1 r2 r3 r5"),
    ([query("contains", "slot", "AN", "err")], "r2 r3 r5"),
    ([query("contains", "tags", "x1")], "r1 r3 r5"),
    ([query("containsAny", "tags", "t0", "T5")], "r0"),
    ([query("containsAll", "tags", "x1", "t3")], "r3"),
    ([query("notContains", "tags", "x1")], "r0 r2 r4"),
    ([query("isNull", "n")], "r1"),
    ([query("isNotNull", "n")], "r0 r2 r3 r4 r5"),
    ([query("or", None, json.loads(query("equal", "n", 3)), json.loads(query("isNull", "n")))], "r0 r1"),
    ([query("and", None, json.loads(query("equal", "n", 2)), json.loads(query("contains", "tags", "t4")))], "r4"),
    ([query("equal", "n", 2), query("contains", "tags", "t4")], "r4"),
    ([query("orderAsc", "n")], "r1 r5 r2 r3 r4 r0"),
    ([query("orderDesc", "n")], "r0 r3 r4 r2 r5 r1"),
    ([query("orderDesc", "$createdAt")], "r5 r4 r3 r2 r1 r0"),
    ([query("orderDesc", "$sequence")], "r5 r4 r3 r2 r1 r0"),
    ([query("orderAsc", "slot")], "r0 r1 r2 r3 r4 r5"),
    ([query("orderDesc", "n"), query("orderDesc", "slot")], "r0 r4 r3 r2 r5 r1"),
    ([query("limit", None, 2)], "r0 r1"),
    ([query("limit", None, 2), query("limit", None, 4)], "r0 r1"),
    ([query("offset", None, 4)], "r4 r5"),
    ([query("limit", None, 2), query("offset", None, 1)], "r1 r2"),
    ([query("cursorAfter", None, "r3")], "r4 r5"),
    ([query("cursorBefore", None, "r3")], "r0 r1 r2"),
    ([query("cursorBefore", None, "r3"), query("limit", None, 2)], "r1 r2"),
    ([query("cursorBefore", None, "r3"), query("limit", None, 2), query("offset", None, 2)], "r0"),
    ([query("cursorAfter", None, "r3"), query("orderDesc", "n")], "r4 r2 r5 r1"),
    ([query("cursorAfter", None, "r0"), query("equal", "n", 2)], "r3 r4"),
    ([query("orderRandom"), query("equal", "$id", "r1")], "r1"),
    ([query("select", None, "slot")], "r0 r1 r2 r3 r4 r5"),
]


def test_queries_find_what_they_ask_for(appwrite_server):
    """Each method of the query language, alone and with others, without regard to letter case."""
    wired = stocked(appwrite_server)
    for queries, expected in QUERIES:
        assert (wired.listed(*queries), queries) == (expected.split(), queries)


def test_a_selection_has_its_columns_and_the_systems(appwrite_server):
    """What is not selected is left out; fields of the system stay; `*` is all."""
    wired = stocked(appwrite_server)
    chosen, everything = (
        wired.ask("GET", f"{ROWS}?queries[0]={quote(query('select', None, name))}")[2]["rows"][0] for name in ("n", "*")
    )
    assert "n" in chosen
    assert "slot" not in chosen
    assert "$createdAt" in chosen
    assert {"n", "slot", "tags"} <= everything.keys()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{", "general_query_invalid"),
        ('"text"', "general_query_invalid"),
        (query("nonsense", "n", 1), "general_query_invalid"),
        (query("equal", "unknown", 1), "general_query_invalid"),
        (query("equal", "n"), "general_query_invalid"),
        (query("equal", "n", "text"), "general_query_invalid"),
        (query("equal", "n", *range(501)), "general_query_invalid"),
        (query("between", "n", 1), "general_query_invalid"),
        (query("limit", None, 0), "general_query_invalid"),
        (query("limit", None, "one"), "general_query_invalid"),
        (query("offset", None, -1), "general_query_invalid"),
        (query("orderAsc", "unknown"), "general_query_invalid"),
        (query("select", None, "unknown"), "general_query_invalid"),
        (query("cursorAfter", None, "gone"), "general_cursor_not_found"),
        (query("cursorAfter", None, ""), "general_query_invalid"),
        (query("or", None, "{"), "general_unknown"),  # 1.9.6 falls over what is nested as text
        (query("or", None, 5), "general_unknown"),
        (query("equal", "slot", "x" * 5000), "general_argument_invalid"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused(appwrite_server, text, kind):
    """A 400 whose type tells what kind of mistake it is."""
    assert stocked(appwrite_server).listed(text) == kind


def test_more_than_a_hundred_queries_are_refused(wired):
    """And so is the old parameter without an index."""
    assert wired.listed(*[query("limit", None, 1)] * 101) == "general_argument_invalid"
    assert wired.ask("GET", f"{ROWS}?queries={quote(query('limit', None, 1))}")[0] == 400


def test_a_cursor_at_a_null_is_refused(appwrite_server):
    """An order has no place for what comes after a null."""
    wired = stocked(appwrite_server)
    assert wired.listed(query("orderAsc", "n"), query("cursorAfter", None, "r1")) == "database_query_order_null"


def test_a_list_has_25_rows_and_a_total(appwrite_server):
    """Without a limit 25 come; the total counts all, and is 0 where nobody wants it."""
    wired = Wired(appwrite_server)
    for number in range(30):
        wired.create(f"r{number:02}")
    body = wired.ask("GET")[2]
    assert (len(body["rows"]), body["total"]) == (25, 30)
    assert wired.ask("GET", f"{ROWS}?total=false")[2]["total"] == 0
    assert wired.ask("GET", f"{ROWS}?total=False")[2]["type"] == "general_argument_invalid"


@given(
    numbers=st.lists(st.integers(-2, 2), max_size=12),
    ascending=st.booleans(),
    after=st.booleans(),
    limit=st.integers(1, 5),
)
def test_pages_by_cursor_are_the_list_in_pieces(numbers, ascending, after, limit):
    """Whatever the values, equal ones included: pages after the last row, or before the first, make up the whole."""
    with AppwriteServer() as server:
        wired = Wired(server)
        for place, number in enumerate(numbers):
            wired.create(f"r{place}", n=number)
        order = query("orderAsc" if ascending else "orderDesc", "n")
        whole = wired.listed(order)
        sign = 1 if ascending else -1
        expected = sorted(range(len(numbers)), key=lambda place: (sign * numbers[place], place))
        assert whole == [f"r{place}" for place in expected]
        if not whole:
            return
        found = [whole[0] if after else whole[-1]]
        while True:
            cursor = query("cursorAfter", None, found[-1]) if after else query("cursorBefore", None, found[0])
            page = wired.listed(order, query("limit", None, limit), cursor)
            if not page:
                break
            found = [*found, *page] if after else [*page, *found]
        assert found == whole


# Life


def test_it_binds_the_loopback_only(appwrite_server):
    """Nobody else can reach it."""
    assert appwrite_server._listener.getsockname()[0] == "127.0.0.1"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", appwrite_server.endpoint)


def test_a_port_can_be_asked_for_and_used_again():
    """The same port can be had right after, also with connections that were open; a taken one is an OSError."""
    with AppwriteServer() as server:
        port = int(server.endpoint.split(":")[2].split("/")[0])
        Wired(server)
        with pytest.raises(OSError, match="in use"):
            AppwriteServer(port=port).start()
    with AppwriteServer(port=port) as again:
        assert again.endpoint == server.endpoint


def test_it_can_be_started_again_with_what_it_has_stored():
    """Stopping ends connections, not the data."""
    server = AppwriteServer()
    with server:
        Wired(server).create("r1")
    with server:
        assert TablesDB(server.client()).get_row("d", "t", "r1").id == "r1"


def test_project_and_key_can_be_chosen():
    """The client has them; other ones are refused."""
    with AppwriteServer(project="clinic", key="another") as server:
        client = server.client()
        assert call(client, "post", "/tablesdb", databaseId="d", name="D")["$id"] == "d"
        assert setting(client, "project") == "clinic"
        with pytest.raises(Exception, match="not authorized"):
            call(client.set_key("demo-key"), "get", "/tablesdb")


@pytest.mark.parametrize(
    "settings",
    [{"port": -1}, {"port": 65_536}, {"project": ""}, {"unique_violation": "newest"}],
)
def test_settings_out_of_range_are_refused(settings):
    """The error names the setting, its value and what is allowed."""
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name} must be .*, not {value!r}"):
        AppwriteServer(**settings)


@pytest.mark.parametrize("settings", [{"port": "80"}, {"port": True}, {"key": None}, {"transactions": "yes"}])
def test_settings_of_a_wrong_type_are_refused_as_such(settings):
    """A wrong type is a `TypeError`."""
    ((name, value),) = settings.items()
    with pytest.raises(TypeError, match=f"{name} must be .*, not {value!r}"):
        AppwriteServer(**settings)


def test_many_connections_are_served_at_once(wired):
    """A hundred clients that keep their connections open all get their answers."""
    request = b"GET /v1/health/version HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as stack:
        socks = [stack.enter_context(socket.create_connection(("127.0.0.1", wired.port))) for _ in range(100)]
        for _ in range(2):
            for sock in socks:
                sock.sendall(request)
            for sock in socks:
                assert b"1.9.6" in sock.recv(65_536)


def test_http_as_others_speak_it(wired):
    """Requests one after the other in one packet, HTTP/1.0, an announced body; nonsense ends the connection."""
    get = b"GET /v1/health/version HTTP/1.1\r\nHost: x\r\n"
    with socket.create_connection(("127.0.0.1", wired.port), timeout=10) as sock:
        sock.sendall((get + b"\r\n") * 3)
        received = b""
        while received.count(b'{"version"') < 3:
            received += sock.recv(65_536)
        body = b'{"rowId":"r1","data":{"slot":"S"}}'
        head = b"".join(f"{name}: {value}\r\n".encode() for name, value in KEYS.items())
        line = f"POST {ROWS} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n"
        sock.sendall(line.encode() + head + b"\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 100")
        sock.sendall(body)
        assert sock.recv(65_536).startswith(b"HTTP/1.1 201")
        sock.sendall(b"HEAD /v1/health/version HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"version" not in sock.recv(65_536)
    for last, start in ((get.replace(b"1.1", b"1.0") + b"\r\n", b"HTTP/1.1 200"), (b"nonsense\r\n\r\n", b"")):
        with socket.create_connection(("127.0.0.1", wired.port), timeout=10) as sock:
            sock.sendall(last)
            received = b""
            while chunk := sock.recv(65_536):
                received += chunk
            assert received.startswith(start)


@pytest.mark.parametrize("doing", ["idle", "hanging", "dripping", "sending to a client that does not read", "out"])
def test_stopping_leaves_no_thread(doing):
    """Whatever its connections are at, the end is soon and complete."""
    before = set(threading.enumerate())
    server = AppwriteServer()
    with server, socket.socket() as sock:
        wired = Wired(server, {"slot": {"type": "longtext", "required": True}})
        if doing.startswith("sending"):
            for number in range(8):
                assert wired.create(f"r{number}", slot="x" * 2_000_000)[0] == 201
        faults = {"hanging": Fault.hang(600), "dripping": Fault.slow_body(600), "out": Fault.hang(600)}
        if doing in faults:
            server.faults.script([faults[doing]])
        sock.connect(("127.0.0.1", wired.port))
        sock.sendall(f"GET {ROWS} HTTP/1.1\r\nHost: x\r\n{head_lines()}\r\n".encode())
        while server.requests[-1].method != "GET":
            time.sleep(0.001)
        if doing == "out":
            with server.outage():
                pass
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 60
    assert set(threading.enumerate()) <= before


def head_lines():
    """Return the headers of a key."""
    return "".join(f"{name}: {value}\r\n" for name, value in KEYS.items())


def test_the_fixture_gives_each_test_its_own_server(appwrite_server):
    """It is empty and healthy."""
    assert appwrite_server.requests == []
    assert call(appwrite_server.client(), "get", "/tablesdb") == {"total": 0, "databases": []}
    assert str(Query.limit(1))


def test_a_client_of_a_server_without_a_port_is_refused():
    """Before it has started, a server that takes any port has none to give to a client."""
    with pytest.raises(RuntimeError, match="when it has started"):
        AppwriteServer().client()


def test_the_page_of_routes_is_what_the_server_has():
    """The table of the reference page "Fidelity" is made from the routes' own table."""
    script = Path(__file__).parent.parent / "docs" / "_scripts" / "write_fidelity.py"
    if not script.exists():
        pytest.skip("the docs are not beside the tests")
    spec = importlib.util.spec_from_file_location("write_fidelity", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = module.PAGE.read_text(encoding="utf-8")
    assert page == module.render(page)
