"""`IdempotencyKey`, `idempotent_id` and `request_fingerprint`."""

from __future__ import annotations

import asyncio
import copy
import io
import pickle
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from booking_resilience.web import IdempotencyKey, IdempotencyKeyWSGI, idempotent_id, request_fingerprint
from booking_resilience.web.keys import IdempotentId, KeyedRequest, current_request
from webdrive import Reply, asgi, call_asgi, scope_of, wsgi

KEY = "Idempotency-Key"
COLOURS = ["asgi", "wsgi"]


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> str:
    """One of the two interfaces."""
    return str(request.param)


def serve(colour: str, *parts: Any, settings: dict[str, Any] | None = None, **request: Any) -> tuple[Reply, list[str]]:
    """Send a request through the middleware; return the answer, and what the application made of the key."""
    seen: list[str] = []

    def look(body: bytes) -> bytes:
        seen[:] = [idempotent_id(*parts), request_fingerprint()]
        return body

    request = {"method": "POST", **request}
    if colour == "asgi":

        async def app(scope: Any, receive: Any, send: Any) -> None:
            message = await receive()
            assert message["more_body"] is False
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": look(message["body"])})

        return asgi(IdempotencyKey(app, **(settings or {})), **request), seen

    def app_wsgi(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        yield look(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))

    return wsgi(IdempotencyKeyWSGI(app_wsgi, **(settings or {})), **request), seen


def test_the_same_key_gives_the_same_id(colour: str) -> None:
    """The same key and parts give the same ID, whatever the interface; another key or part another one."""
    ids = [serve(other, "ann", "booking", headers={KEY: "k-1"}, body=b"x")[1][0] for other in (colour, *COLOURS)]
    assert len(set(ids)) == 1
    assert len(ids[0]) == 32
    assert set(ids[0]) <= set(string.hexdigits.lower())
    others = {
        serve(colour, "ann", "booking", headers={KEY: "k-2"})[1][0],
        serve(colour, "bob", "booking", headers={KEY: "k-1"})[1][0],
        serve(colour, "ann", headers={KEY: "k-1"})[1][0],
        serve(colour, headers={KEY: "k-1"})[1][0],
    }
    assert len(others | set(ids)) == 5


def test_the_application_reads_the_body(colour: str) -> None:
    """The application reads the whole body although the middleware has read it before."""
    reply, seen = serve(colour, headers={KEY: "k"}, body=b"x" * 100_000)
    assert (reply.status, reply.body) == (200, b"x" * 100_000)
    assert len(seen[1]) == 64


def test_the_fingerprint_tells_requests_apart(colour: str) -> None:
    """The fingerprint follows from method, path and body, and from nothing else."""
    base: dict[str, Any] = {"headers": {KEY: "k"}, "path": "/b", "method": "POST", "body": b"1"}
    changes: list[dict[str, Any]] = [{}, {"headers": {KEY: "other"}}, {"path": "/c"}, {"method": "PUT"}, {"body": b"2"}]
    found = [serve(colour, **{**base, **change})[1][1] for change in changes]
    assert found[0] == found[1]
    assert len(set(found)) == 4
    assert serve(colour, **{**base, "path": "/b1", "body": b""})[1][1] not in found


def test_ids_and_fingerprints_stay_the_same_for_ever() -> None:
    """Rows keep IDs and fingerprints, so every version makes the same ones, also of a path that isn't UTF-8."""
    token = current_request.set(KeyedRequest("k", "POST", "/b/\udcff", b"1"))
    try:
        assert idempotent_id("ada", 7) == "94ed2ba873ec269b79669b4d290f62ac"
        assert request_fingerprint() == "8f39eebdbb689a9cbd02aa85f9e197dd303c126c63ddde1012da5fed72beefd0"
    finally:
        current_request.reset(token)


def test_without_a_key_ids_are_random(colour: str) -> None:
    """Without a key each ID is a fresh one, there is no fingerprint, and the request passes."""
    reply, first = serve(colour)
    assert reply.status == 200
    assert first[1] == ""
    assert serve(colour)[1][0] != first[0]
    assert not isinstance(first[0], IdempotentId)
    assert request_fingerprint() == ""
    assert idempotent_id() != idempotent_id()


def test_other_methods_pass(colour: str) -> None:
    """A method that isn't among those named passes, its key unread."""
    reply, seen = serve(colour, method="GET", headers={KEY: "not a key"})
    assert (reply.status, seen[1]) == (200, "")
    reply, seen = serve(colour, method="DELETE", headers={KEY: "k"}, settings={"methods": ["delete"]})
    assert seen[1] != ""


def test_a_missing_key_is_400_where_it_is_required(colour: str) -> None:
    """Where a key is required a request without one is answered with 400, and the application isn't called."""
    reply, seen = serve(colour, settings={"required": True})
    assert (reply.status, reply.problem["title"], seen) == (400, "Bad Request", [])
    assert KEY in reply.problem["detail"]


def test_an_empty_key_is_none(colour: str) -> None:
    """An empty header counts as a request without a key: it passes, or is answered with 400 where one is required."""
    reply, seen = serve(colour, headers={KEY: ""})
    assert (reply.status, seen[1]) == (200, "")
    reply, seen = serve(colour, headers={KEY: ""}, settings={"required": True})
    assert (reply.status, seen) == (400, [])


@pytest.mark.parametrize("key", [" ", "a b", "a\tb", "\x00", "\x7f", "\x80", "ä", "a" * 256, "a\r\nb", " a", "a "])
def test_a_malformed_key_is_400(colour: str, key: str) -> None:
    """A key that isn't 1 to 255 visible ASCII characters is answered with 400, whether keys are required or not."""
    for required in (True, False):
        reply, seen = serve(colour, headers={KEY: key}, settings={"required": required})
        assert (reply.status, seen) == (400, [])


@given(key=st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=20))
@example('"quoted"')
@example("~!")
def test_keys_are_visible_ascii(key: str) -> None:
    """Exactly the keys of visible ASCII characters pass, quotes among them."""
    is_right = all("!" <= sign <= "~" for sign in key)  # an empty one is none, and none is needed
    for colour in COLOURS:
        assert serve(colour, headers={KEY: key})[0].status == (200 if is_right else 400)


def test_the_length_of_a_key_can_be_set(colour: str) -> None:
    """`max_length` characters pass, one more doesn't."""
    settings = {"max_length": 3}
    assert serve(colour, headers={KEY: "abc"}, settings=settings)[0].status == 200
    assert serve(colour, headers={KEY: "abcd"}, settings=settings)[0].status == 400


def test_two_keys_are_400() -> None:
    """Two headers are answered with 400 under ASGI; under WSGI they arrive joined, as one key."""
    headers = [(KEY, "a"), (KEY, "a")]
    assert serve("asgi", headers=headers)[0].status == 400
    assert serve("wsgi", headers=headers)[0].status == 200


def test_a_large_body_is_413(colour: str) -> None:
    """`max_body` bytes pass, one more is answered with 413; a request without a key isn't measured."""
    settings = {"max_body": 10}
    assert serve(colour, headers={KEY: "a"}, body=b"x" * 10, settings=settings)[0].status == 200
    reply, seen = serve(colour, headers={KEY: "a"}, body=b"x" * 11, settings=settings)
    assert (reply.status, seen) == (413, [])
    assert "10 bytes" in reply.problem["detail"]
    assert serve(colour, body=b"x" * 11, settings=settings)[0].status == 200


def test_a_body_in_pieces_is_read_whole() -> None:
    """A body that arrives in pieces is one body, and is given up as soon as it is too large."""
    got: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        got.append((await receive())["body"])
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def run(*chunks: bytes) -> int:
        wrapped = IdempotencyKey(app, max_body=6)
        reply = await call_asgi(wrapped, scope_of(headers={KEY: "k"}, method="POST"), *chunks)
        assert reply is not None
        return reply.status

    assert asyncio.run(run(b"ab", b"", b"cdef")) == 204
    assert asyncio.run(run(b"ab", b"cdefg", b"h")) == 413
    assert got == [b"abcdef"]


def test_a_client_that_goes_away_leaves_nothing_done() -> None:
    """A client that goes away before the end of its body gets no answer, and the application isn't called."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    async def run() -> Reply | None:
        async def receive() -> Any:
            return {"type": "http.disconnect"}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await IdempotencyKey(app)(scope_of(headers={KEY: "k"}, method="POST"), receive, send)
        assert sent == []
        return None

    asyncio.run(run())


def test_chunked_bodies_of_wsgi() -> None:
    """A WSGI body without a length is read to its end where the server marks it, and is empty where it doesn't."""
    stream = {"CONTENT_LENGTH": "", "wsgi.input": io.BytesIO(b"streamed")}
    assert serve("wsgi", headers={KEY: "k"}, **stream, **{"wsgi.input_terminated": True})[0].body == b"streamed"
    assert serve("wsgi", headers={KEY: "k"}, CONTENT_LENGTH="", **{"wsgi.input": io.BytesIO(b"x")})[0].body == b""


def test_a_wsgi_body_whose_end_is_missing_is_refused() -> None:
    """A WSGI body shorter than its length, as of a client that went away, is 400: half of a request isn't a request."""
    for length in ("4", "1000000"):
        reply, seen = serve("wsgi", headers={KEY: "k"}, body=b"abc", CONTENT_LENGTH=length)
        assert (reply.problem["status"], seen) == (400, [])


def test_the_key_ends_with_its_request(colour: str) -> None:
    """After a request, one that failed too, its key is forgotten."""

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError

    async def run() -> str:
        with pytest.raises(KeyError):
            await call_asgi(IdempotencyKey(failing), scope_of(headers={KEY: "k"}, method="POST"), b"")
        return request_fingerprint()

    assert asyncio.run(run()) == ""
    serve("wsgi", headers={KEY: "k"})
    assert request_fingerprint() == ""


@given(left=st.lists(st.text() | st.integers(), max_size=4), right=st.lists(st.text() | st.integers(), max_size=4))
def test_parts_are_never_mixed_up(left: list[str | int], right: list[str | int]) -> None:
    """Different parts give different IDs, however they are cut up."""
    same = left == right and [type(part) for part in left] == [type(part) for part in right]
    token = current_request.set(KeyedRequest("k", "POST", "/", b""))
    try:
        assert (idempotent_id(*left) == idempotent_id(*right)) == same
    finally:
        current_request.reset(token)


@pytest.mark.parametrize("part", [None, 1.5, True, b"x", ["a"], object()])
def test_other_parts_are_refused(part: Any) -> None:
    """Parts other than strings and whole numbers raise `TypeError`, with and without a key."""
    with pytest.raises(TypeError, match="parts must be"):
        idempotent_id(part)


def test_the_mark_survives_pickling() -> None:
    """An ID from a key is a string, and is known for what it is after pickling and copying."""
    seen = serve("wsgi", headers={KEY: "k"})[1]
    for twin in (pickle.loads(pickle.dumps(seen[0])), copy.deepcopy(seen[0])):
        assert isinstance(twin, IdempotentId)
        assert twin == seen[0]


@pytest.mark.parametrize(
    ("setting", "wrong", "error"),
    [
        ("required", "yes", TypeError),
        ("methods", "POST", TypeError),
        ("methods", [1], TypeError),
        ("methods", 1, TypeError),
        ("methods", iter(["POST"]), TypeError),
        ("max_length", 0, ValueError),
        ("max_length", "5", TypeError),
        ("max_body", -1, ValueError),
        ("max_body", None, TypeError),
    ],
)
def test_absurd_settings_are_refused(setting: str, wrong: Any, error: type[Exception]) -> None:
    """A wrong type raises `TypeError`, a wrong value `ValueError`, when the middleware is made."""
    for middleware in (IdempotencyKey, IdempotencyKeyWSGI):
        with pytest.raises(error, match=setting):
            middleware(lambda *_: None, **{setting: wrong})  # type: ignore[arg-type, return-value] # never called
