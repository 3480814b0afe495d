"""`AppwriteClient` and its asynchronous twin: connections, waits, what they send, and what comes out."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import os
import pickle
import socket
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl, urlsplit

import h11
import pytest
from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.input_file import InputFile
from appwrite.query import Query
from appwrite.services.storage import Storage
from appwrite.services.tables_db import TablesDB
from hypothesis import given
from hypothesis import strategies as st

from backends import call
from blocking import BlockingClient, TrioClient, close_all
from booking_resilience import ErrorCategory, deadline, message_for
from booking_resilience.appwrite import (
    AppwriteCallError,
    AppwriteClient,
    AppwriteConnectionError,
    AppwriteTimeoutError,
    classify,
)
from booking_resilience.appwrite.wire import head_of as wire_head_of
from certificates import make_certificate, with_tls
from racing import needs_fork
from rawserver import CREATED, ROW, RawServer, answer, body_of, cut, drip, failure, hang, head_of, reset

LONG = 8.0  # seconds that only a hang takes
SYNC = pytest.mark.parametrize("colour", [AppwriteClient], indirect=True, ids=["sync"])
"""For what only the synchronous client has, or where httpx2 reads another way."""


@pytest.fixture(autouse=True, params=[AppwriteClient, BlockingClient, TrioClient], ids=["sync", "asyncio", "trio"])
def colour(request):
    """Each client in turn, under the name of the first: both must behave alike."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "AppwriteClient", request.param)
        yield
        close_all()


def client_of(server, **settings):
    """Return a client of a raw server."""
    return AppwriteClient(**settings).set_endpoint(server.endpoint).set_project("p").set_key("top-secret")


def create(client, row_id="r1", **data):
    """Create a row."""
    return TablesDB(client).create_row("d", "t", row_id, data or {"slot": "S"})


def failed(client, **data):
    """Return the error of a create, which must not take long."""
    started = time.monotonic()
    with pytest.raises(AppwriteException) as caught:
        create(client, **data)
    assert time.monotonic() - started < LONG
    return caught.value


@pytest.fixture
def no_proxies(monkeypatch):
    """An environment without proxies and certificates."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "requests_ca_bundle", "curl_ca_bundle"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


# Connections


def test_a_connection_is_used_again():
    """Calls one after the other go over one connection."""
    with RawServer() as server:
        client = client_of(server)
        for _ in range(5):
            create(client)
        assert server.connections == 1
        assert len(server.requests) == 5


@SYNC
def test_more_threads_than_the_pool_holds_are_all_served():
    """Every call has a connection of its own while it runs; afterwards no more are kept than the pool holds."""
    together = threading.Barrier(5)

    def meet(sock, _):
        together.wait(LONG)

    with RawServer() as server:
        client = client_of(server, pool_size=2)
        wait = [lambda sock, server: (meet(sock, server), sock.sendall(CREATED))[0]]
        server.steps = wait
        with ThreadPoolExecutor(5) as pool:
            list(pool.map(lambda _: create(client), range(5)))
        assert server.connections == 5
        assert sum(map(len, client._transport.pool._idle.values())) == 2


def test_threads_that_share_a_client_get_their_own_answers(appwrite_server):
    """Many threads at once on one client: each row comes back to the call that made it."""
    tables = TablesDB(appwrite_server.client())
    call(appwrite_server.client(), "post", "/tablesdb", databaseId="d", name="D")
    tables.create_table("d", "t", "T")
    tables.create_varchar_column("d", "t", "slot", 64, True)

    def make(number):
        row = tables.create_row("d", "t", f"r{number}", {"slot": f"s{number}"})
        return row.id == f"r{number}" and row.data["slot"] == f"s{number}"

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(make, range(300)))
    assert tables.list_rows("d", "t").total == 300


def test_a_connection_that_the_server_has_closed_is_not_used():
    """A connection closed between two calls is noticed before anything is sent: each request is sent once."""
    with RawServer() as server:
        client = client_of(server)
        create(client)
        for idle in server._open:
            idle.shutdown(socket.SHUT_RDWR)
        create(client)
        assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize("ending", [None, reset])
def test_a_connection_that_breaks_under_a_request_leaves_it_open_what_happened(ending):
    """Closed while the second request is under way: it is not sent again, and whether it was carried out is open."""
    with RawServer(CREATED, ending, CREATED) as server:
        client = client_of(server)
        create(client)
        error = failed(client)
        assert (classify(error).sent, classify(error).transient) == ("maybe", True)
        assert isinstance(error, AppwriteConnectionError)
        assert len(server.requests) == 2


def test_closing_ends_idle_connections_and_the_client_goes_on():
    """`close` and the end of a `with` block close what is idle; the next call connects anew."""
    with RawServer() as server:
        with client_of(server) as client:
            create(client)
        create(client)
        client.close()
        create(client)
        assert server.connections == 3


@SYNC
def test_a_collected_client_closes_its_connections():
    """When the client goes, the server sees its connection end."""
    ended = threading.Event()

    def watch(sock, _):
        sock.sendall(CREATED)
        if sock.recv(1) == b"":
            ended.set()

    with RawServer(watch) as server:
        client = client_of(server)
        create(client)
        del client
        gc.collect()
        assert ended.wait(LONG)


@SYNC
def test_a_client_dropped_during_a_call_still_gets_its_answer():
    """A service keeps its client; a call under way is answered though nobody else holds the client."""
    with RawServer(drip(CREATED, 0.0005)) as server:
        tables = TablesDB(client_of(server))
        call = tables.create_row
        del tables
        gc.collect()
        assert call("d", "t", "r1", {"slot": "S"}).id == "r1"


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@SYNC
def test_a_forked_child_has_connections_of_its_own(appwrite_server):
    """Parent and child go on with the same client at once and do not get each other's answers."""
    tables = TablesDB(appwrite_server.client())
    call(appwrite_server.client(), "post", "/tablesdb", databaseId="d", name="D")
    tables.create_table("d", "t", "T")
    tables.create_varchar_column("d", "t", "slot", 64, True)

    def make(who):
        return all(tables.create_row("d", "t", f"{who}{n}", {"slot": f"{who}{n}"}).id == f"{who}{n}" for n in range(40))

    child = os.fork()
    if not child:
        os._exit(0 if make("child") else 1)
    assert make("parent")
    assert os.waitpid(child, 0)[1] == 0
    assert tables.list_rows("d", "t").total == 80


# Waits


def test_connecting_has_a_timeout():
    """A server that does not take connections is given up after `connect_timeout`; nothing was sent."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        crowd = [socket.socket() for _ in range(8)]
        for sock in crowd:
            sock.setblocking(False)
            sock.connect_ex(address)
        client = AppwriteClient(connect_timeout=0.2).set_endpoint(f"http://127.0.0.1:{address[1]}/v1")
        error = failed(client)
        for sock in crowd:
            sock.close()
    assert isinstance(error, AppwriteTimeoutError)
    assert (error.sent, classify(error).transient) == ("no", True)


def test_a_tls_handshake_that_hangs_counts_as_connecting():
    """The handshake has the time of connecting; nothing was sent."""
    with RawServer(wrap=lambda sock: hang(sock, server) or sock) as server:
        client = AppwriteClient(connect_timeout=0.2).set_endpoint(server.endpoint.replace("http:", "https:"))
        error = failed(client)
    assert isinstance(error, AppwriteTimeoutError)
    assert error.sent == "no"


def test_waiting_for_the_answer_has_a_timeout():
    """A server that says nothing is given up after `read_timeout`; it is open what it did."""
    with RawServer(hang) as server:
        error = failed(client_of(server, read_timeout=0.2))
    assert isinstance(error, AppwriteTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.sent, classify(error).transient, error.code) == ("maybe", True, 0)


def test_the_read_timeout_is_for_each_wait_not_for_the_whole():
    """An answer that drips steadily may take longer than `read_timeout`."""
    with RawServer(drip(CREATED, 0.006)) as server:
        started = time.monotonic()
        assert create(client_of(server, read_timeout=1.5)).id == "r1"
        assert time.monotonic() - started > 1.5


def test_sending_to_a_server_that_does_not_read_has_a_timeout():
    """A request that the server does not take ends as well; it is open what it did with the part that it has."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        client = AppwriteClient(read_timeout=0.3).set_endpoint(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1")
        error = failed(client, slot="x" * 30_000_000)
    assert isinstance(error, AppwriteTimeoutError)
    assert error.sent == "maybe"


HEAD, BODY = CREATED.partition(b"\r\n\r\n")[0], CREATED.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("part", ["status", "headers", "body", "chunks", "interim"])
def test_the_deadline_holds_to_the_last_byte(part, tls, tmp_path):
    """Wherever the answer drips, it ends with the deadline of the operation, though each byte comes in time."""
    slowly = {
        "status": (b"", CREATED),
        "headers": (HEAD[:40], HEAD[40:]),
        "body": (HEAD + b"\r\n\r\n", BODY),
        "chunks": (
            b"HTTP/1.1 201 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\n \r\n" * 2000,
        ),
        "interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 500),
    }[part]

    def step(sock, server):
        sock.sendall(slowly[0])
        drip(slowly[1], 0.1)(sock, server)  # for half a minute at least

    wrap = with_tls(make_certificate(tmp_path)[0]) if tls else None
    with RawServer(step, wrap=wrap) as server:
        client = client_of(server).set_self_signed(True)
        if tls:
            client.set_endpoint(server.endpoint.replace("http:", "https:"))
        started = time.monotonic()
        with deadline(0.4), pytest.raises(AppwriteTimeoutError) as caught:
            create(client)
        assert 0.35 < time.monotonic() - started < 15
    assert classify(caught.value).transient
    expected = ("yes", 201) if part in ("body", "chunks") else ("maybe", None)
    assert (caught.value.sent, caught.value.status) == expected


def test_without_time_nothing_is_sent():
    """When the deadline has passed, the call fails without a connection, and says that nothing was sent."""
    with RawServer() as server:
        client = client_of(server)
        with deadline(0), pytest.raises(AppwriteTimeoutError) as caught:
            create(client)
        assert (caught.value.sent, server.connections) == ("no", 0)
        create(client)  # and with an idle connection at hand
        with deadline(0), pytest.raises(AppwriteTimeoutError):
            create(client)
        assert len(server.requests) == 1


def test_a_connection_is_given_up_after_a_timeout():
    """What comes late belongs to nobody: the next call has another connection, and its own answer."""
    late = threading.Event()

    def slow(sock, _):
        late.wait(LONG)
        sock.sendall(answer(201, {**ROW, "$id": "late"}))

    with RawServer(slow, CREATED) as server:
        client = client_of(server, read_timeout=0.2)
        failed(client)
        late.set()
        assert create(client).id == "r1"
        assert server.connections == 2


# What is sent


def test_ids_are_quoted_in_paths():
    """Whatever an ID holds, it stays one part of the path; only `/` is left as it is."""
    with RawServer(answer(200, ROW)) as server:
        TablesDB(client_of(server)).get_row("d", "t", "a b?c#d%2e€;=&+\r\n")
        line, _ = head_of(server.requests[0])
    assert line == "GET /v1/tablesdb/d/tables/t/rows/a%20b%3Fc%23d%252e%E2%82%AC%3B%3D%26%2B%0D%0A HTTP/1.1"


def test_a_trailing_slash_of_the_endpoint_does_not_count():
    """`http://host/v1/` and `http://host/v1` are the same."""
    with RawServer() as server:
        create(client_of(server).set_endpoint(server.endpoint + "/"))
        assert head_of(server.requests[0])[0] == "POST /v1/tablesdb/d/tables/t/rows HTTP/1.1"


def test_an_ipv6_endpoint_works():
    """The address stands in brackets, in the endpoint and in the Host header."""
    try:
        server = RawServer(host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        create(client_of(server))
        assert head_of(server.requests[0])[1]["host"] == f"[::1]:{server.port}"


def test_a_name_with_other_letters_is_sent_as_the_network_writes_it(no_proxies):
    """The Host header of a name that is not ASCII is its IDNA form."""
    with RawServer() as server:
        no_proxies.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))]
        create(client_of(server).set_endpoint(f"http://b\u00fccher.example:{server.port}/v1"))
        assert head_of(server.requests[0])[1]["host"] == f"xn--bcher-kva.example:{server.port}"


def test_a_post_without_a_body_says_so_and_a_get_says_nothing():
    """A POST always has a Content-Length, a GET never."""
    with RawServer(answer(200, {})) as server:
        client = client_of(server)
        assert client.call("post", "/ping") == {}
        assert client.call("GET", "/ping") == {}
        post, get = (head_of(request)[1] for request in server.requests)
    assert post["content-length"] == "0"
    assert "content-length" not in get


def test_head_has_no_body():
    """The answer to a HEAD announces a length and has no body; the connection goes on."""
    with RawServer(b"HTTP/1.1 200 X\r\nContent-Length: 50\r\nContent-Type: text/html\r\n\r\n") as server:
        client = client_of(server)
        assert client.call("head", "/ping") == b""
        assert client.call("head", "/ping") == b""
        assert server.connections == 1


SETTERS = sorted(name for name in dir(Client) if name.startswith("set_") and name != "set_self_signed")


def test_all_setters_of_the_sdk_work_alike():
    """Whatever is set, both clients send the same requests: method, path, query, body and the SDK's headers."""
    with RawServer(answer(200, {**ROW, "total": 1, "rows": [ROW]})) as server:
        for client_type in (Client, AppwriteClient):
            client = client_type()
            for name in SETTERS:
                assert (
                    getattr(client, name)(f"value-of-{name}" if name != "set_endpoint" else server.endpoint) is client
                )
            assert client.add_header("X-Mine", "mine") is client
            tables = TablesDB(client)
            tables.create_row("d", "t", "r1", {"slot": "S", "n": [1, {"a": None}], "f": 1.5, "u": "ü€"}, ["read"])
            tables.list_rows("d", "t", [Query.equal("slot", ["S", "ü&="]), Query.limit(2)], total=False)
            tables.get_row("d", "t", "r1")
            tables.update_row("d", "t", "r1", {"slot": None})
            tables.delete_row("d", "t", "r1")
            client.call("patch", "/form", {"content-type": ""}, {"a": "x y", "b": ["1", "2"], "c": None})
    half = len(server.requests) // 2
    for theirs, ours in zip(server.requests[:half], server.requests[half:], strict=True):
        (line, fields), (our_line, our_fields) = head_of(theirs), head_of(ours)
        assert our_line.split()[0] == line.split()[0]
        target, our_target = urlsplit(line.split()[1]), urlsplit(our_line.split()[1])
        assert our_target.path == target.path
        read = target.query.replace("total=False", "total=false")  # as older SDKs spell it, and no server reads it
        assert parse_qsl(our_target.query) == parse_qsl(read)
        if "json" in fields.get("content-type", ""):
            assert body_of(ours) == body_of(theirs)
        else:
            assert ours.partition(b"\r\n\r\n")[2] == theirs.partition(b"\r\n\r\n")[2]
        own = {"accept-encoding", "accept", "connection", "content-length", "content-type"}
        assert {k: v for k, v in our_fields.items() if k not in own} == {
            k: v for k, v in fields.items() if k not in own
        }


def test_a_header_is_sent_once_whatever_the_case_of_its_name():
    """A header of one's own takes the place of the SDK's; what frames the request is not to be set."""
    with RawServer() as server:
        client = client_of(server).add_header("X-Appwrite-Response-Format", "1.9.0").add_header("Host", "elsewhere")
        client.add_header("Content-Length", "5").add_header("Transfer-Encoding", "chunked").set_session(None)
        create(client)
        head = server.requests[0].partition(b"\r\n\r\n")[0].lower()
    for once in (b"x-appwrite-response-format: 1.9.0", b"host: elsewhere", b"content-length: "):
        name = once.partition(b":")[0]
        assert head.count(b"\r\n" + name + b":") == 1
        assert once in head
    assert b"transfer-encoding" not in head
    assert b"none" not in head


def test_a_login_in_the_endpoint_is_basic_authentication():
    """`http://user:password@host` logs in, as with the SDK's client."""
    with RawServer() as server:
        create(client_of(server).set_endpoint(server.endpoint.replace("//", "//user:p%40ss@")))
        _, fields = head_of(server.requests[0])
    assert fields["authorization"] == "Basic dXNlcjpwQHNz"
    assert fields["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("bad", ["k\r\nX-Evil: 1", "k\n", "k\0", "k€"])
def test_a_header_that_cannot_be_sent_is_an_error_that_does_not_hold_it(bad):
    """Line breaks and other signs in a key are refused before anything is sent, and the error does not show the key."""
    with RawServer() as server:
        error = failed(client_of(server).set_key(bad))
        assert server.connections == 0 or server.requests == []
    assert (error.sent, classify(error).transient) == ("no", False)
    seen: BaseException | None = error
    while seen is not None:
        assert bad not in f"{seen!r} {seen} {seen.args} {vars(seen)} {getattr(seen, 'object', '')}"
        seen = seen.__cause__ or seen.__context__


TOKENS = st.text(max_size=12)


@given(
    method=st.sampled_from(["GET", "POST", "P T"]) | TOKENS,
    target=st.just("/v1/x") | TOKENS,
    headers=st.dictionaries(st.sampled_from(["x-a", "content-length", "transfer-encoding", "host"]) | TOKENS, TOKENS),
    body=st.none() | st.binary(max_size=20),
)
def test_what_is_sent_is_one_request_or_nothing(method, target, headers, body):
    """Whatever stands in method, address and headers: one request with just those headers, or an error."""
    try:
        sent = wire_head_of(method, target, "host:80", headers, body).to_bytes() + (body or b"")
    except ValueError:
        return
    server = h11.Connection(h11.SERVER)
    server.receive_data(sent)
    try:
        request = server.next_event()
    except h11.RemoteProtocolError:
        return  # a server refuses it as a whole
    assert isinstance(request, h11.Request)
    assert {name.decode() for name, _ in request.headers} <= {name.lower() for name in headers} | {
        "host",
        "content-length",
    }
    received = b""
    while isinstance(event := server.next_event(), h11.Data):
        received += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert received == (body or b"")
    assert server.trailing_data == (b"", False)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
def test_data_that_is_no_json_is_a_type_error(value):
    """What JSON cannot hold is refused before anything is sent, NaN as well: the server would not understand it."""
    with RawServer() as server:
        with pytest.raises(TypeError):
            create(client_of(server), value=value)
        assert server.requests == []


@SYNC
def test_uploads_are_left_to_the_sdk():
    """A multipart request goes out as the SDK makes it."""
    with RawServer(answer(201, {"$id": "f1"})) as server:
        client = client_of(server)
        upload = {"fileId": "f1", "file": InputFile.from_bytes(b"content", "note.txt", "text/plain")}
        sent = client.call("post", "/storage/buckets/b/files", {"content-type": "multipart/form-data"}, upload)
    assert sent == {"$id": "f1"}
    assert b'filename="note.txt"' in server.requests[0]


@pytest.mark.parametrize("endpoint", ["http://", "http://host:port/v1", "http://[::1/v1", "https://h ost/v1\r\nX: y"])
def test_an_endpoint_that_leads_nowhere_is_an_error(endpoint):
    """An address that makes no sense is the caller's mistake, or leads to nobody; nothing is sent."""
    error = failed(AppwriteClient(connect_timeout=1.0).set_endpoint(endpoint))
    assert error.sent == "no"


@pytest.mark.parametrize(
    "settings",
    [{"connect_timeout": 0}, {"connect_timeout": float("inf")}, {"read_timeout": -1}, {"pool_size": 0}],
)
def test_settings_out_of_range_are_refused(settings):
    """The error names the setting, its value and what is allowed."""
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name} must be .*, not {value!r}"):
        AppwriteClient(**settings)


@pytest.mark.parametrize(
    "settings", [{"connect_timeout": "2"}, {"read_timeout": None}, {"read_timeout": True}, {"pool_size": "9"}]
)
def test_settings_of_the_wrong_type_are_refused(settings):
    """What is no number at all is a TypeError."""
    ((name, value),) = settings.items()
    with pytest.raises(TypeError, match=f"{name} must be .*, not {value!r}"):
        AppwriteClient(**settings)


# What comes back


def test_an_answer_is_read_however_it_is_framed():
    """Chunks, gzip, deflate, an announced answer (100, 103), no length at all: the row comes back."""
    body = json.dumps(ROW).encode()
    head = b"HTTP/1.1 201 X\r\nContent-Type: application/json\r\n"
    chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\nT: x\r\n\r\n"
    framed = [
        head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
        answer(201, gzip.compress(body), Content_Encoding="gzip"),
        answer(201, gzip.compress(body[:9]) + gzip.compress(body[9:]), Content_Encoding="gzip"),
        answer(201, gzip.compress(body) + b"\0" * 8, Content_Encoding="x-gzip"),
        answer(201, zlib.compress(body), Content_Encoding="deflate"),
        answer(201, zlib.compress(body, wbits=-15), Content_Encoding="deflate"),
        answer(201, gzip.compress(zlib.compress(body)), Content_Encoding="deflate, gzip"),
        answer(201, gzip.compress(zlib.compress(body, wbits=-15)), Content_Encoding="Deflate,  GZIP"),
        answer(201, body, Content_Encoding="identity"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + CREATED,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + CREATED,
        answer(201, ROW, "Application/JSON; charset=UTF-8"),
    ]
    with RawServer(*framed, CREATED) as server:
        client = client_of(server)
        for _ in framed:
            assert create(client).id == "r1"
        assert create(client).id == "r1"
        assert server.connections == 1
    for closing in (b"HTTP/1.1 201 X", b"HTTP/1.0 201 X"):
        with RawServer(closing + b"\r\nContent-Type: application/json\r\n\r\n" + body, keep_alive=False) as server:
            assert create(client_of(server)).id == "r1"


def test_an_empty_body_that_claims_to_be_compressed_is_empty():
    """A 204 may carry `Content-Encoding` and has nothing to unpack."""
    with RawServer(answer(204, b"", "text/html", Content_Encoding="gzip")) as server:
        assert TablesDB(client_of(server)).delete_row("d", "t", "r1") == b""


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate, gzip"])
def test_a_body_that_ends_too_early_is_no_answer(encoding):
    """What was unpacked so far is not taken for the whole."""
    body = json.dumps(ROW).encode()
    packed = gzip.compress(body) if "gzip" in encoding else zlib.compress(body)
    with RawServer(answer(201, packed[:-9], Content_Encoding=encoding)) as server:
        verdict = classify(failed(client_of(server)))
    assert (verdict.transient, verdict.sent, verdict.status) == (True, "yes", 201)


NO_OBJECTS = {
    "a list": answer(200, [1]),
    "null": answer(200, b"null"),
    "a number": answer(200, b"7"),
    "a string": answer(200, b'"row"'),
    "a proxy's page": answer(200, b"<html>", "text/html"),
    "text": answer(200, b"ok", "text/plain"),
    "an image": answer(200, b"GIF89a", "image/gif"),
    "nothing": answer(200, b""),
    "nothing without a type": answer(201, b"", None),
    "204": answer(204, b"", "text/html"),
}


@pytest.mark.parametrize("case", NO_OBJECTS)
@pytest.mark.parametrize("what", ["create_row", "get_row", "list_rows", "update_row", "upsert_row", "create", "list"])
def test_a_success_that_is_no_object_is_an_error_of_appwrite(what, case):
    """Whatever route was asked: an AppwriteException that is transient and says that the request arrived."""
    arguments = {"create_row": ("d", "t", "r", {"a": 1}), "get_row": ("d", "t", "r"), "list_rows": ("d", "t"),
                 "update_row": ("d", "t", "r", {"a": 1}), "upsert_row": ("d", "t", "r", {"a": 1}),
                 "create": ("d", "D"), "list": ()}  # fmt: skip
    with RawServer(NO_OBJECTS[case]) as server, pytest.raises(AppwriteException) as caught:
        getattr(TablesDB(client_of(server)), what)(*arguments[what])
    verdict = classify(caught.value)
    assert (verdict.transient, verdict.sent, verdict.category) == (True, "yes", ErrorCategory.APPWRITE)


@pytest.mark.parametrize("case", ["a list", "a proxy's page", "text"])
def test_a_delete_that_answers_with_a_page_is_no_success(case):
    """A delete needs no answer, but what comes must not be a proxy's."""
    with RawServer(NO_OBJECTS[case]) as server, pytest.raises(AppwriteException) as caught:
        TablesDB(client_of(server)).delete_row("d", "t", "r")
    assert (classify(caught.value).transient, classify(caught.value).sent) == (True, "yes")


def test_files_and_direct_calls_may_hold_anything():
    """A download is what it is, a list of JSON as well, and so is what a call names no expectation of."""
    steps = [answer(200, b"GIF89a", "image/gif"), answer(200, b"<html>", "text/html"), answer(200, [1]),
             answer(200, b"Pong!", "text/html"), answer(200, [1]), answer(204, b"", "text/html")]  # fmt: skip
    with RawServer(*steps) as server:
        client = client_of(server)
        storage = Storage(client)
        assert storage.get_file_preview("b", "f") == b"GIF89a"
        assert storage.get_file_view("b", "f") == b"<html>"
        assert storage.get_file_download("b", "f") == [1]
        assert client.call("get", "/ping") == b"Pong!"
        assert client.call("get", "/list") == [1]
        json_headers = {"content-type": "application/json", "accept": "application/json"}
        assert client.call("post", "/project/smtp/tests", json_headers, {}) == b""


def test_a_protocol_that_nobody_asked_for_is_no_answer():
    """A 101 is no success, and its connection is not used again."""
    with RawServer(b"HTTP/1.1 101 X\r\nUpgrade: h2c\r\n\r\n", CREATED) as server:
        client = client_of(server)
        error = failed(client)
        assert (classify(error).transient, error.sent) == (True, "maybe")
        assert create(client).id == "r1"
        assert server.connections == 2


@pytest.mark.parametrize("more", [answer(201, {**ROW, "$id": "smuggled"}), b"x", b"\r\n"])
def test_what_comes_after_an_answer_is_nobodys_answer(more):
    """More bytes than the answer has: the connection is not used again, and the next call gets its own answer."""
    with RawServer(CREATED + more, CREATED) as server:
        client = client_of(server)
        create(client)
        assert create(client).id == "r1"
        assert server.connections == 2


def test_a_wrong_content_length_is_a_broken_answer():
    """Too long: the answer broke off. Too short: it cannot be read. Both after a status, so it was sent."""
    right = b"Content-Length: %d\r\n" % len(BODY)
    for wrong in (len(BODY) + 9, len(BODY) - 9):
        data = CREATED.replace(right, b"Content-Length: %d\r\n" % wrong)
        with RawServer(data, CREATED, keep_alive=False) as server:
            client = client_of(server)
            error = failed(client)
            assert (error.sent, error.status, classify(error).transient) == ("yes", 201, True)
            assert create(client).id == "r1"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 201 X\r\nX: " + b"x" * 170_000 + b"\r\n\r\n",
        b"HTTP/1.1 201 X\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(20_000)) + b"\r\n",
        b"HTTP/1.1 twohundred X\r\n\r\n",
        b"HTTP/9.9 201 X\r\n\r\n",
        b"\r\n\r\n",
    ],
    ids=["a huge header", "too many headers", "no number", "another protocol", "nothing"],
)
def test_a_head_that_makes_no_sense_is_no_answer(data):
    """Transient, and it is open whether the request was carried out."""
    with RawServer(data, keep_alive=False) as server:
        error = failed(client_of(server))
    assert (classify(error).transient, error.sent) == (True, "maybe")


@SYNC
def test_a_413_that_comes_before_the_body_was_read_is_told():
    """The server refuses a large body by its head, answers without headers, and resets: the status counts."""

    def refuse(sock):
        sock.recv(1000)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\n\r\n")
        sock.close()
        raise OSError

    with RawServer(wrap=refuse) as server:
        error = failed(client_of(server), slot="x" * 13_000_000)
    assert (error.code, error.type, error.sent, classify(error).transient) == (413, None, "yes", False)


@pytest.mark.parametrize("head", [b"HTTP/1.1 204 X\r\nContent-Ty", b"HTTP/1.1 204 X\r\n"])
def test_a_head_that_is_cut_is_no_answer_to_a_delete(head):
    """What came of an answer isn't taken for the whole of it, though 204 says that nothing is missing."""
    with RawServer(cut(head)) as server, pytest.raises(AppwriteCallError) as caught:
        TablesDB(client_of(server)).delete_row("d", "t", "r1")
    assert (caught.value.sent, classify(caught.value).transient) == ("maybe", True)


@pytest.mark.parametrize("length", [b"9" * 17, b"9" * 20])
def test_a_length_that_no_memory_holds_is_a_cut_answer(length):
    """However long the server says that the body is, an `AppwriteCallError` comes out."""
    with RawServer(cut(b"HTTP/1.1 201 X\r\nContent-Length: " + length + b"\r\n\r\n{}")) as server:
        error = failed(client_of(server))
    assert (error.status, error.sent, classify(error).transient) == (201, "yes", True)


@given(st.binary(max_size=80), st.sampled_from([b"", CREATED[:20], HEAD + b"\r\n\r\n", HEAD[:-2]]))
def test_whatever_the_server_sends_nothing_but_an_appwrite_exception_comes_out(garbage, start):
    """Any bytes are an answer or an `AppwriteCallError`."""
    with RawServer(cut(start + garbage)) as server:
        client = client_of(server, read_timeout=LONG)
        try:
            client.call("post", "/x", {"content-type": "application/json"}, {})
        except AppwriteCallError as error:
            assert error.sent in ("maybe", "yes")


@pytest.mark.parametrize("status", [201, 500])
def test_json_that_is_too_deep_is_an_error_like_others(status):
    """What Python cannot parse is an answer that cannot be read, or a failure without a type."""
    with RawServer(answer(status, b"[" * 200_000)) as server:
        error = failed(client_of(server))
    assert (error.status, error.sent, classify(error).transient) == (status, "yes", True)


def test_an_error_keeps_the_facts_also_through_a_pickle():
    """Message, code, type, body, status, headers and what was sent, as they came."""
    with RawServer(failure(503, "general_unknown", "Server Error", Retry_After="2", X_Other="y")) as server:
        error = failed(client_of(server))
    for same in (error, pickle.loads(pickle.dumps(error))):
        assert type(same) is AppwriteCallError
        assert (same.message, same.code, same.type) == ("Server Error", 503, "general_unknown")
        assert json.loads(same.response)["type"] == "general_unknown"
        assert (same.status, same.sent, same.retry_after) == (503, "yes", 2.0)
        assert same.headers["x-other"] == "y"
        assert classify(same) == classify(error)
    with RawServer(hang) as server:
        error = failed(client_of(server, read_timeout=0.1))
    same = pickle.loads(pickle.dumps(error))
    assert (type(same), str(same), same.sent, same.headers) == (AppwriteTimeoutError, str(error), "maybe", {})


def test_a_warning_of_the_server_is_logged_once_and_not_printed(caplog, capfd):
    """However many threads and calls meet it, each text is told once."""
    caplog.set_level(logging.INFO, "booking_resilience.appwrite")
    with RawServer(answer(201, ROW, X_Appwrite_Warning="The SDK is newer; update")) as server:
        client = client_of(server)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: create(client), range(12)))
        server.steps = [answer(201, ROW, X_Appwrite_Warning="Another")]
        create(client)
    texts = [record.getMessage() for record in caplog.records if record.name == "booking_resilience.appwrite"]
    assert texts == ["Appwrite warns: The SDK is newer; update", "Appwrite warns: Another"]
    assert "newer" not in "".join(capfd.readouterr())


def test_secrets_stand_in_no_error_log_or_repr(caplog):
    """Key, session, JWT, bearer and cookie are in no text that a failing call leaves behind."""
    caplog.set_level(logging.DEBUG)
    secrets = {"set_key": "key-1f", "set_session": "session-2f", "set_jwt": "jwt-3f", "set_bearer": "bearer-4f"}
    steps = (None, reset, b"garbage\r\n\r\n", cut(CREATED[:-9]), failure(401, "user_unauthorized"), answer(200, b"{"))
    with RawServer(*steps, CREATED) as server:
        client = client_of(server)
        for name, secret in {**secrets, "set_cookie": "cookie-5f"}.items():
            getattr(client, name, lambda _: None)(secret)
        errors = [failed(client) for _ in steps]
        assert b"key-1f" in server.requests[0]
    client.set_endpoint("http://127.0.0.1:1/v1")
    errors.append(failed(client))
    texts = [caplog.text, repr(client), str(client), *(f"{e!r}{e}{vars(e)}{pickle.dumps(e)}" for e in errors)]
    for secret in (*secrets.values(), "cookie-5f"):
        assert not [text for text in texts if secret in text]


# Redirects


def moved(status, location):
    """Return the bytes of a redirect."""
    return answer(status, b"", "text/html", Location=location)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_get_is_redirected_within_its_server(status):
    """A GET follows, with its headers; the fragment is left out."""
    with RawServer(moved(status, "/v1/there?x=1#part"), answer(200, ROW)) as server:
        assert TablesDB(client_of(server)).get_row("d", "t", "r1").id == "r1"
        line, fields = head_of(server.requests[1])
    assert line == "GET /v1/there?x=1 HTTP/1.1"
    assert fields["x-appwrite-key"] == "top-secret"


@pytest.mark.parametrize("status", [307, 308])
def test_a_post_is_redirected_as_it_is(status):
    """307 and 308 keep method and body."""
    with RawServer(moved(status, "/v1/there"), CREATED) as server:
        assert create(client_of(server)).id == "r1"
        assert head_of(server.requests[1])[0] == "POST /v1/there HTTP/1.1"
        assert body_of(server.requests[1]) == body_of(server.requests[0])


@pytest.mark.parametrize("status", [301, 302, 303])
def test_a_post_never_becomes_a_get(status):
    """A create that is sent elsewhere by these is an error: a GET in its place would look like a success."""
    with RawServer(moved(status, "/v1/there"), CREATED) as server:
        error = failed(client_of(server))
        assert (error.status, classify(error).transient, len(server.requests)) == (status, False, 1)


def test_the_key_goes_to_no_other_server():
    """A redirect to another host or port is an error, and nothing is sent there."""
    with RawServer(answer(200, ROW)) as other, RawServer(moved(307, other.endpoint)) as server:
        error = failed(client_of(server))
        assert (error.status, other.connections) == (307, 0)


@pytest.mark.parametrize("location", ["http://[", "http://127.0.0.1:port/", "ftp://127.0.0.1/", "/a b c", "/ü"])
def test_a_redirect_to_nowhere_is_the_answer(location):
    """A Location that makes no sense cannot be followed; the status was received all the same."""
    with RawServer(moved(307, location), CREATED) as server:
        error = failed(client_of(server))
    assert (error.status, error.sent) == (307, "yes")


def test_redirects_that_go_round_end():
    """After five it is an error."""
    with RawServer(moved(308, "/v1/round")) as server:
        error = failed(client_of(server))
        assert (error.status, len(server.requests)) == (308, 6)


def test_a_location_can_be_asked_for():
    """With `response_type` location the redirect is the result; with text the body is."""
    with RawServer(moved(301, "https://elsewhere/x"), answer(200, b"Pong!", "text/plain")) as server:
        client = client_of(server)
        assert client.call("get", "/avatars", response_type="location") == "https://elsewhere/x"
        assert client.call("get", "/ping", response_type="text") == "Pong!"


# TLS


def test_a_certificate_that_is_not_trusted_is_no_passing_trouble(tmp_path, no_proxies):
    """Nothing was sent, and trying again is of no use; `set_self_signed` trusts it, and takes it back."""
    context, _ = make_certificate(tmp_path)
    with RawServer(wrap=with_tls(context)) as server, client_of(server) as client:
        client.set_endpoint(server.endpoint.replace("http:", "https:"))
        error = failed(client)
        assert (error.sent, classify(error).transient, classify(error).category.value) == ("no", False, "network")
        assert message_for(error).startswith("Network error.")
        client.set_self_signed()
        create(client)
        create(client)
        assert server.connections == 2
        client.set_self_signed(False)
        assert classify(failed(client)).transient is False
        assert len(server.requests) == 2


def test_certificates_of_the_environment_are_trusted(tmp_path, no_proxies):
    """`REQUESTS_CA_BUNDLE` counts, as with the SDK's client; a certificate for another host does not do."""
    context, certificate = make_certificate(tmp_path)
    no_proxies.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with RawServer(wrap=with_tls(context)) as server, client_of(server) as client:
        assert create(client.set_endpoint(server.endpoint.replace("http:", "https:"))).id == "r1"
    context, certificate = make_certificate(tmp_path, host="other.example")
    no_proxies.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with RawServer(wrap=with_tls(context)) as server:
        client = client_of(server).set_endpoint(server.endpoint.replace("http:", "https:"))
        verdict = classify(failed(client))
        assert (verdict.sent, verdict.transient, server.requests) == ("no", False, [])


def test_a_missing_bundle_of_certificates_is_an_error_like_others(tmp_path, no_proxies):
    """A path that leads nowhere fails the call; nothing was sent."""
    no_proxies.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    error = failed(AppwriteClient().set_endpoint("https://127.0.0.1:1/v1"))
    assert error.sent == "no"


# Proxies


def test_no_proxy_leads_to_the_loopback(no_proxies):
    """What the environment names is not asked for this machine itself, by any of its names."""
    with RawServer() as server, RawServer() as proxy:
        no_proxies.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        no_proxies.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        create(client_of(server))
        create(client_of(server).set_endpoint(server.endpoint.replace("127.0.0.1", "localhost")))
        assert (len(server.requests), proxy.connections) == (2, 0)


@pytest.mark.parametrize("kind", ["socks5h", "socks5", "socks4", "SOCKS5H", "ftp"])
@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTP_PROXY"])
def test_a_proxy_of_another_kind_is_sent_nothing(kind, variable, no_proxies):
    """A SOCKS port must not get plain HTTP, the key in it: the call fails, and a retry would not help."""
    with RawServer() as proxy:
        no_proxies.setenv(variable, f"{kind}://127.0.0.1:{proxy.port}")
        error = failed(client_of(proxy).set_endpoint("http://appwrite.invalid/v1"))
        verdict = classify(error)
        assert (verdict.transient, verdict.sent) == (False, "no")
        assert "proxy" in str(error)
        assert (proxy.connections, proxy.requests) == (0, [])


def test_a_proxy_is_asked_for_other_hosts(no_proxies):
    """It gets the whole address and the login, over connections that are kept; `NO_PROXY` counts."""
    with RawServer() as proxy:
        no_proxies.setenv("HTTP_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        client = client_of(proxy).set_endpoint("http://appwrite.invalid/v1")
        create(client)
        create(client)
        line, fields = head_of(proxy.requests[1])
        assert line == "POST http://appwrite.invalid/v1/tablesdb/d/tables/t/rows HTTP/1.1"
        assert fields["proxy-authorization"] == "Basic dXNlcjpwQHNz"
        assert (fields["host"], proxy.connections) == ("appwrite.invalid", 1)
        no_proxies.setenv("NO_PROXY", "appwrite.invalid")
        client.close()
        assert failed(client).sent == "no"
        assert len(proxy.requests) == 2


def tunnel(context, then=CREATED):
    """Return a step of a proxy: agrees to a CONNECT and is the server behind it."""

    def step(sock, _):
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(sock, server_side=True) as inner:
            inner.recv(65_536)
            inner.sendall(then)

    return step


@SYNC
def test_tls_goes_through_a_proxy_in_a_tunnel(tmp_path, no_proxies):
    """The proxy sees a CONNECT with its login, and nothing of the request."""
    context, _ = make_certificate(tmp_path)
    with RawServer(tunnel(context)) as proxy:
        no_proxies.setenv("HTTPS_PROXY", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        client = client_of(proxy).set_endpoint("https://appwrite.invalid/v1").set_self_signed()
        assert create(client).id == "r1"
        line, fields = head_of(proxy.requests[0])
    assert line.startswith("CONNECT appwrite.invalid:443 ")
    assert fields["proxy-authorization"] == "Basic dXNlcjpwQHNz"
    assert b"top-secret" not in proxy.requests[0]


@pytest.mark.parametrize(
    "step",
    [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", None, reset, drip(b"HTTP/1.1 200 OK\r\n" * 90, 0.1)],
)
def test_a_proxy_that_does_not_lead_on_was_told_nothing(step, no_proxies):
    """Whatever the proxy does instead, the request has not left, and the deadline holds for the proxy as well."""
    with RawServer(step) as proxy:
        no_proxies.setenv("HTTPS_PROXY", f"http://user:sesame@127.0.0.1:{proxy.port}")
        client = client_of(proxy).set_endpoint("https://appwrite.invalid/v1").set_self_signed()
        started = time.monotonic()
        with deadline(0.4):
            error = failed(client)
        assert time.monotonic() - started < 15
        assert error.sent == "no"
        assert "sesame" not in f"{error!r}{error}{error.__cause__!r}"
        assert all(request.startswith(b"CONNECT") for request in proxy.requests)
