"""What errors mean, for the common libraries: known by module and name, told of real errors of the libraries."""

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import contextlib
import importlib
import math
import pickle
import pkgutil
import socket
import struct
import threading
import types
import urllib.request
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import (
    CircuitOpenError,
    ErrorCategory,
    LimitExceededError,
    TransientError,
    Verdict,
    classify,
    is_backend_failure,
    is_no_evidence,
    is_transient,
    message_for,
)
from booking_resilience.verdicts import leaves, retry_after_of, seconds_of
from booking_resilience.verdicts.find import rule_of
from booking_resilience.verdicts.meanings import MEANINGS
from booking_resilience.verdicts.table import KNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIBRARIES = [package for package in KNOWN if package not in {"builtins", "booking_resilience", "http", "urllib"}]


def told(error: BaseException) -> tuple[bool, str, bool, bool]:
    """Return whether it is transient, was sent, is a failure, and is evidence."""
    return is_transient(error), classify(error).sent, is_backend_failure(error), not is_no_evidence(error)


NO_ANSWER, UNSENT = (True, "maybe", True, True), (True, "no", True, True)
REFUSED, BUSY = (False, "yes", False, True), (True, "yes", False, False)
UNTRUSTED, MISTAKE = (False, "maybe", True, True), (False, "no", False, False)
TROUBLE, BROKEN, AGAIN = (True, "yes", True, True), (False, "yes", True, True), (True, "yes", False, True)


def raised(fn: Callable[..., Any], *args: Any) -> Exception:
    """Return what the call raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the library raises is what is looked at
        fn(*args)
    return caught.value


def nobody() -> int:
    """Return a port that refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@contextlib.contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """Listen on a port; read something from each connection, give the answer (None: a reset), and close."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                conn, _ = listener.accept()
                with conn, contextlib.suppress(OSError):
                    conn.recv(65536)
                    if answer is None:
                        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    else:
                        conn.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def head(status: int, *headers: str, body: str = "{}") -> bytes:
    """Return an HTTP answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers, "", body]
    return "\r\n".join(lines).encode()


# ---- the shape -------------------------------------------------------------------------------------------------------


def test_a_verdict_is_a_value() -> None:
    """A verdict can be compared and pickled."""
    verdict = classify(ConnectionRefusedError())
    assert verdict == Verdict(True, "no", ErrorCategory.NETWORK, None, None, None)
    assert pickle.loads(pickle.dumps(verdict)) == verdict


@pytest.mark.parametrize("ask", [classify, is_transient, is_backend_failure, is_no_evidence])
@pytest.mark.parametrize("odd", [None, "text", ValueError])
def test_what_is_no_exception_is_a_type_error(ask: Any, odd: Any) -> None:
    """What isn't an exception is refused with a `TypeError`."""
    with pytest.raises(TypeError):
        ask(odd)


def test_the_table_names_meanings_that_exist() -> None:
    """Every rule tells one of the meanings, and no class has two rules."""
    for rows in KNOWN.values():
        names = [name for row, _ in rows for name in row.split()]
        assert len(names) == len(set(names))
        for _, rule in rows:
            assert {rule.meaning, *(meaning for _, meaning in rule.words)} <= set(MEANINGS)


# ---- every class of every library ------------------------------------------------------------------------------------


def classes_of(package: str) -> set[type[BaseException]]:
    """Return the exception classes of a library."""
    module = pytest.importorskip(package)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for item in pkgutil.iter_modules(getattr(module, "__path__", [])):
            if "exc" in item.name or "error" in item.name:
                with contextlib.suppress(ImportError):
                    importlib.import_module(f"{package}.{item.name}")
    waiting: list[type[BaseException]] = [BaseException]
    found: dict[int, type[BaseException]] = {}
    while waiting:  # among other tests' classes are such as raise when they are looked at
        for kind in type.__subclasses__(waiting.pop()):
            waiting.append(kind)
            if type(kind) in {type, abc.ABCMeta} and str(kind.__module__).partition(".")[0] == package:
                found[id(kind)] = kind
    return set(found.values())


@pytest.mark.parametrize("package", LIBRARIES)
def test_every_class_of_a_library_is_judged(package: str) -> None:
    """Every exception class of a library is judged without an error, even one that was never initialised."""
    for kind in classes_of(package):
        try:
            error = kind.__new__(kind)
        except TypeError:  # it can't be made without arguments
            continue
        assert isinstance(classify(error), Verdict)
        assert isinstance(is_backend_failure(error), bool)
        assert isinstance(message_for(error), str)


@pytest.mark.parametrize("package", LIBRARIES)
def test_the_names_of_the_table_exist(package: str) -> None:
    """Most names that the table gives a library are those of classes that it has; none is misspelt altogether."""
    names = {kind.__name__ for kind in classes_of(package)}
    rows = [set(row.split()) for row, _ in KNOWN[package]]
    assert sum(bool(row & names) for row in rows) >= len(rows) * 0.4


@pytest.mark.parametrize("name", ["ConnectError", "Timeout", "ConnectionError", "OperationalError", "RpcError"])
def test_namesakes_are_strangers(name: str) -> None:
    """A class of the same name in another module is unknown."""
    assert told(type(name, (Exception,), {"__module__": "shop.errors"})("x")) == (False, "maybe", True, True)


def test_subclasses_mean_what_their_base_means() -> None:
    """A user's own subclass of a known class is known by it."""
    base = type("ConnectError", (Exception,), {"__module__": "httpx"})
    assert told(type("Ours", (base,), {"__module__": "shop"})("x")) == UNSENT


def test_rules_are_looked_up_once() -> None:
    """The rule of a class is found once, and classes may go away again."""
    kind = type("ReadTimeout", (Exception,), {"__module__": "httpx"})
    assert rule_of(kind) is rule_of(kind)


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_wide_and_deep_groups() -> None:
    """A group of a thousand leaves, nested a hundred deep, is judged by its leaves, in order."""
    error: Exception = ExceptionGroup("wide", [ConnectionError(str(number)) for number in range(1000)])
    for _ in range(100):
        error = ExceptionGroup("deep", [error])
    assert [str(leaf) for leaf in leaves(error)] == [str(number) for number in range(1000)]
    assert told(error) == NO_ANSWER


def test_a_group_whose_leaf_comes_from_the_group_ends() -> None:
    """A leaf that was raised from its own group doesn't make `message_for` go in circles."""
    leaf = KeyError("x")
    group = ExceptionGroup("g", [leaf])
    leaf.__cause__ = group
    assert message_for(group) == message_for(KeyError("x"))


@pytest.mark.parametrize("refusal", [CircuitOpenError("b", 2.0), LimitExceededError("l", 2.0)])
def test_refusals_of_our_own(refusal: Exception) -> None:
    """A refusal is neither transient nor evidence, and tells how long to wait."""
    assert told(refusal) == (False, "no", False, False)
    assert retry_after_of(refusal) == 2.0


# ---- waits -----------------------------------------------------------------------------------------------------------


@given(st.floats(min_value=0, allow_nan=False))
def test_a_number_and_its_text_ask_for_the_same(seconds: float) -> None:
    """A number of seconds and its text stand for the same wait."""
    assert seconds_of(seconds) == seconds_of(repr(seconds)) == seconds_of(repr(seconds).encode()) == seconds


@given(st.text() | st.binary() | st.none() | st.booleans() | st.lists(st.integers()) | st.floats())
def test_no_wish_raises(wish: object) -> None:
    """Whatever an error asks for, the answer is None, or 0 and more."""
    seconds = seconds_of(wish)
    assert seconds is None or seconds >= 0


class Answered(Exception):  # noqa: N818 - it is a fake
    """Has a response."""

    def __init__(self, status: Any, headers: Any) -> None:
        super().__init__("answered")
        self.response = types.SimpleNamespace(status_code=status, headers=headers)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"RETRY-AFTER": "7"}, 7.0), ([("retry-after", b"7")], 7.0), ({"Retry-After": "9" * 400}, math.inf),
        ({"Retry-After": "soon"}, None), (5, None), ({3: 4}, None), ({"Retry-After": ["7", "9"]}, 7.0),
        ({"Retry-After": []}, None),
    ],
)  # fmt: skip
def test_headers_in_any_shape(headers: Any, wait: float | None) -> None:
    """Headers are read as a mapping or as pairs, their names without case; what can't be read asks for nothing."""
    assert classify(Answered(503, headers)).retry_after == wait


def test_a_broken_property_says_nothing() -> None:
    """Attributes that raise are as good as none."""

    class HostileError(TransientError):
        @property
        def retry_after(self) -> Any:
            raise RuntimeError

        @property
        def response(self) -> Any:
            raise RuntimeError

    assert classify(HostileError()) == Verdict(True, "maybe", ErrorCategory.NETWORK, None, None, None)


# ---- real errors of the libraries ------------------------------------------------------------------------------------


def get_by_httpx(url: str) -> None:
    """Get the URL."""
    httpx = pytest.importorskip("httpx")
    httpx.get(url, timeout=2.0).raise_for_status()


def get_by_httpx2(url: str) -> None:
    """Get the URL."""
    httpx2 = pytest.importorskip("httpx2")
    httpx2.get(url, timeout=2.0).raise_for_status()


def get_by_requests(url: str) -> None:
    """Get the URL."""
    requests = pytest.importorskip("requests")
    requests.get(url, timeout=2.0).raise_for_status()


def get_by_urllib(url: str) -> None:
    """Get the URL."""
    urllib.request.build_opener().open(url, timeout=2.0).close()  # urlopen would keep the first one's proxies


@pytest.mark.parametrize("get", [get_by_httpx, get_by_httpx2, get_by_requests])
def test_http_clients(get: Callable[[str], None]) -> None:
    """Refused, reset, cut, and answered requests of a client mean the same, whichever client it is."""
    assert told(raised(get, f"http://127.0.0.1:{nobody()}/")) == UNSENT
    with answering(None) as port:
        assert told(raised(get, f"http://127.0.0.1:{port}/")) == NO_ANSWER
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{") as port:
        assert told(raised(get, f"http://127.0.0.1:{port}/")) == TROUBLE
    expected = {404: REFUSED, 408: TROUBLE, 425: AGAIN, 429: BUSY, 501: BROKEN, 503: TROUBLE}
    for status, meaning in expected.items():
        with answering(head(status, "Retry-After: 7")) as port:
            error = raised(get, f"http://127.0.0.1:{port}/")
        assert (told(error), classify(error).status, classify(error).retry_after) == (meaning, status, 7.0)


@pytest.mark.parametrize("get", [get_by_httpx, get_by_httpx2, get_by_requests, get_by_urllib])
def test_a_proxy_that_makes_no_tunnel(get: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent: what the proxy forbids stays forbidden, and what it can't do it may do later."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for status, meaning in {403: (False, "no", False, True), 407: (False, "no", False, True), 502: UNSENT}.items():
        with answering(head(status)) as port:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
            assert told(raised(get, "https://proxied.test/")) == meaning


@pytest.mark.parametrize("get", [get_by_httpx, get_by_httpx2])
def test_answers_that_are_no_http(get: Callable[[str], None]) -> None:
    """What can't be read has come all the same, whatever is wrong with it."""
    for line in (b"X-Long: " + b"x" * 200_000, b"Content-Length: many", b"Transfer-Encoding: gzip", b" continued: x"):
        with answering(b"HTTP/1.1 200 OK\r\n" + line + b"\r\n\r\n") as port:
            assert told(raised(get, f"http://127.0.0.1:{port}/")) == TROUBLE


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_what_an_http_2_server_writes_as_it_ends_is_no_answer(library: str) -> None:
    """It may say anything, "too many" say, before it has read the request."""
    error = pytest.importorskip(library).RemoteProtocolError
    end = "<ConnectionTerminated error_code:11, last_stream_id:1, additional_data:b'too many requests'>"
    assert told(error(end)) == NO_ANSWER


@pytest.mark.parametrize("get", [get_by_httpx, get_by_httpx2])
def test_no_tls_stays_no_tls_when_pickled(get: Callable[[str], None]) -> None:
    """A connection that no repetition makes is told by its words where the error has lost its cause."""
    with answering(head(400)) as port:
        error = raised(get, f"https://127.0.0.1:{port}/")
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert told(each) == (False, "no", True, True)


@pytest.mark.parametrize("get", [get_by_httpx, get_by_httpx2])
def test_a_redirect_that_is_raised(get: Callable[[str], None]) -> None:
    """`raise_for_status` of httpx raises redirects, too: they are answers like a 404."""
    with answering(head(302)) as port:
        error = raised(get, f"http://127.0.0.1:{port}/")
    assert (told(error), classify(error).status) == (REFUSED, 302)


def test_trios_own_timeout() -> None:
    """What trio cuts off was not answered: its error is no `TimeoutError`, but means one."""
    trio = pytest.importorskip("trio")

    async def late() -> None:
        with trio.fail_after(0.0):
            await trio.sleep_forever()

    assert told(raised(trio.run, late)) == NO_ANSWER


def test_requests_with_retries_of_its_own() -> None:
    """A refusal proves nothing after a client repeated the request by itself."""
    requests = pytest.importorskip("requests")
    with requests.Session() as session:
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=1))
        assert told(raised(session.get, f"http://127.0.0.1:{nobody()}/")) == NO_ANSWER


@pytest.mark.parametrize(
    ("line", "meaning", "word"),
    [
        ("LOADING x", TROUBLE, "LOADING"), ("READONLY x", TROUBLE, "READONLY"), ("TRYAGAIN x", AGAIN, "TRYAGAIN"),
        ("CLUSTERDOWN x", TROUBLE, "CLUSTERDOWN"), ("MASTERDOWN x", TROUBLE, "MASTERDOWN"), ("BUSY x", AGAIN, "BUSY"),
        ("WRONGTYPE x", REFUSED, "WRONGTYPE"), ("NOAUTH x", REFUSED, None), ("ERR x", REFUSED, None),
    ],
)  # fmt: skip
def test_redis(line: str, meaning: Any, word: str | None) -> None:
    """What Redis answers is told by its first word, also where redis-py takes it off the text."""
    parser = pytest.importorskip("redis._parsers.base").BaseParser
    error = parser().parse_error(line)
    assert (told(error), classify(error).type) == (meaning, word)
    error.args = (f"Command # 1 (GET a) of pipeline caused error: {error}",)
    assert (told(error), classify(error).type) == (meaning, word)


def test_redis_that_is_not_there() -> None:
    """redis-py repeats by itself, so that nobody knows what was sent before a last refusal."""
    redis = pytest.importorskip("redis")
    assert told(raised(redis.Redis(port=nobody()).get, "a")) == NO_ANSWER


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("40001", AGAIN), ("40P01", AGAIN), ("55P03", AGAIN), ("57P01", TROUBLE), ("57P03", TROUBLE),
        ("53300", TROUBLE), ("53100", BROKEN), ("58030", BROKEN), ("XX000", BROKEN), ("08006", NO_ANSWER),
        ("23505", REFUSED), ("28P01", REFUSED), ("42601", REFUSED), ("57014", REFUSED),
    ],
)  # fmt: skip
def test_sqlstates(state: str, meaning: Any) -> None:
    """A SQLSTATE tells, from psycopg, asyncpg, and through SQLAlchemy."""
    errors = pytest.importorskip("psycopg.errors")
    exc = pytest.importorskip("sqlalchemy.exc")
    asyncpg = pytest.importorskip("asyncpg")
    error = errors.lookup(state)("x")
    other = asyncpg.exceptions.PostgresError.new({"C": state, "M": "x", "S": "ERROR"})
    adapted = pytest.importorskip("sqlalchemy.dialects.postgresql.asyncpg").AsyncAdapt_asyncpg_dbapi.Error("x", other)
    pickled = pickle.loads(pickle.dumps(exc.DBAPIError("select", {}, adapted)))  # which loses the error's cause
    for each in (error, other, exc.OperationalError("select", {}, error), pickled):
        assert (told(each), classify(each).type) == (meaning, state)


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("Connection refused", NO_ANSWER), ('FATAL:  password authentication failed for user "u"', REFUSED),
        ('FATAL:  database "d" does not exist', REFUSED), ("FATAL:  the database system is starting up", TROUBLE),
        ("FATAL:  sorry, too many clients already", TROUBLE), ("FATAL:  gibt es nicht", NO_ANSWER),
        ('FATAL:  pg_hba.conf rejects connection for host "::1"', REFUSED),
        ('FATAL:  database "d" is not currently accepting connections', REFUSED),
        ('FATAL:  certificate authentication failed for user "u"', REFUSED),
        ("FATAL:  the database system is not yet accepting connections", TROUBLE),
        ('FATAL:  unrecognized configuration parameter "p"', REFUSED),
        ("channel binding required, but SSL not in use", REFUSED), ("certificate verify failed", UNTRUSTED),
        ("FATAL:  too many connections\nFATAL:  no pg_hba.conf entry, no encryption", TROUBLE),  # with TLS, and without
    ],
)  # fmt: skip
def test_psycopg_at_the_login(words: str, meaning: Any) -> None:
    """Errors at the login have no SQLSTATE in psycopg; their words tell, and where they don't nobody knows."""
    psycopg = pytest.importorskip("psycopg")
    assert told(psycopg.OperationalError(f"connection failed: {words}")) == meaning


def test_psycopg_that_is_given_nonsense() -> None:
    """Settings that libpq refuses before it connects are the program's mistake."""
    psycopg = pytest.importorskip("psycopg")
    for dsn in ("host=127.0.0.1 sslmode=never", "host=127.0.0.1 port=99999", "service=not-there"):
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(dsn)
        assert told(caught.value) == MISTAKE


def test_grpc() -> None:
    """GRPC's codes tell, in both colours; a pushback says when, or that the call must not be repeated."""
    grpc = pytest.importorskip("grpc")
    aio = importlib.import_module("grpc.aio")

    class Handler(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            code, _, pushback = details.method.rpartition("/")[2].partition(":")

            def abort(_: bytes, context: Any) -> None:
                if pushback:
                    context.set_trailing_metadata((("grpc-retry-pushback-ms", pushback),))
                context.abort(getattr(grpc.StatusCode, code), "told")

            return grpc.unary_unary_rpc_method_handler(abort)

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    expected = {
        "UNAVAILABLE": (NO_ANSWER, None), "NOT_FOUND": (REFUSED, None), "ABORTED": (AGAIN, None),
        "RESOURCE_EXHAUSTED": (BUSY, None), "RESOURCE_EXHAUSTED:1500": (BUSY, 1.5),
        "UNAVAILABLE:-1": (BROKEN, None), "UNAVAILABLE:soon": (BROKEN, None), "DATA_LOSS": (BROKEN, None),
    }  # fmt: skip

    def call(method: str) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            channel.unary_unary(f"/x/{method}")(b"", timeout=30)

    async def call_async(method: str) -> None:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.unary_unary(f"/x/{method}")(b"", timeout=30)

    for method, (meaning, wait) in expected.items():
        for error in (raised(call, method), raised(lambda name: asyncio.run(call_async(name)), method)):
            found = classify(error)
            assert (told(error), found.type, found.retry_after) == (meaning, method.partition(":")[0], wait)
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("ThrottlingException", 400, BUSY), ("SlowDown", 503, BUSY), ("ValidationException", 400, REFUSED),
        ("InternalServerError", 500, TROUBLE), ("Whatever", 501, BROKEN),
    ],
)  # fmt: skip
def test_botocore(code: str, status: int, meaning: Any) -> None:
    """AWS's throttling codes tell whatever the status is, else the status does."""
    exceptions = pytest.importorskip("botocore.exceptions")
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "3"}}
    error = exceptions.ClientError({"Error": {"Code": code}, "ResponseMetadata": metadata}, "ListTables")
    found = classify(error)
    assert (told(error), found.type, found.status, found.retry_after) == (meaning, code, status, 3.0)


def test_stripe() -> None:
    """Stripe's errors tell by their status; one without an answer by what it wraps."""
    stripe = pytest.importorskip("stripe")
    assert told(stripe.CardError("declined", None, "card_declined", http_status=402)) == REFUSED
    assert told(stripe.RateLimitError("slowly", http_status=400)) == BUSY
    error = stripe.APIConnectionError("no connection")
    assert told(error) == NO_ANSWER
    error.__cause__ = ConnectionRefusedError()
    assert told(error) == UNSENT
