"""Idempotency keys: a request that comes again is recognised by its `Idempotency-Key` header.

Nothing is stored: the key makes the row's ID (`idempotent_id`), and the row is the memory. The conditions are in the
how-to "Accept each request once".
"""

from __future__ import annotations

import contextvars
import io
import re
from collections.abc import Collection, Iterable
from typing import Generic

from booking_resilience.checks import check_strings, check_type, check_whole
from booking_resilience.web.keys import KeyedRequest, current_request, idempotent_id, request_fingerprint
from booking_resilience.web.problems import Problem, problem
from booking_resilience.web.wires import (
    App,
    ASGIApp,
    Body,
    Environ,
    Message,
    Receive,
    Scope,
    Send,
    StartResponse,
    WSGIApp,
    answer,
    environ_name,
    headers_of,
    path_of,
    send_problem,
)

__all__ = ["IdempotencyKey", "IdempotencyKeyWSGI", "idempotent_id", "request_fingerprint"]

_HEADER = "Idempotency-Key"
_VISIBLE = re.compile(r"[!-~]+")


class _Rules(Generic[App]):
    """What both middlewares demand of a key."""

    def __init__(
        self,
        app: App,
        *,
        required: bool = False,
        methods: Collection[str] = ("POST", "PUT", "PATCH"),
        max_length: int = 255,
        max_body: int = 1_048_576,
    ) -> None:
        check_type("app", app, callable(app), "an application")
        check_type("required", required, isinstance(required, bool), "True or False")
        check_strings("methods", methods)
        check_whole("max_length", max_length)
        check_whole("max_body", max_body, 0)
        self._app: App = app
        self._required, self._max_length, self._max_body = required, max_length, max_body
        self._methods = frozenset(method.upper() for method in methods)

    def _judge(self, keys: list[str]) -> Problem | str | None:
        """Return the request's key, None if it has none and needs none, or the answer to one that is wrong."""
        if not keys or keys == [""]:
            return problem(400, f"This request needs the header {_HEADER}.") if self._required else None
        if len(keys) > 1:
            return problem(400, f"The header {_HEADER} must be sent once, not {len(keys)} times.")
        if len(keys[0]) > self._max_length or not _VISIBLE.fullmatch(keys[0]):
            return problem(400, f"{_HEADER} must be 1 to {self._max_length} visible ASCII characters.")
        return keys[0]

    def _too_short(self) -> Problem:
        """Return the answer to a body of which the end is missing."""
        return problem(400, "The body must be as long as Content-Length says.")

    def _too_large(self) -> Problem:
        """Return the answer to a body that is too large."""
        return problem(413, f"With {_HEADER} the body must not be larger than {self._max_body} bytes.")


class IdempotencyKey(_Rules[ASGIApp]):
    """ASGI middleware that hands a request's `Idempotency-Key` to `idempotent_id` and `request_fingerprint`.

    It reads the body of a request with a key before the application runs; an empty key is none. Wrong requests it
    answers by itself, as problem details: 400 for a key that is malformed, sent twice or missing though required, 413
    for a body too large.

    Args:
        app: The application.
        required: Whether a request without a key is refused.
        methods: The HTTP methods that it looks at; others pass.
        max_length: Characters of a key at most; 1 or more.
        max_body: Bytes of a body at most; 0 or more.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of its range.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"].upper() not in self._methods:
            await self._app(scope, receive, send)
            return
        key = self._judge(headers_of(scope, _HEADER))
        if key is None:
            await self._app(scope, receive, send)
            return
        if isinstance(key, Problem):
            await send_problem(send, key)
            return
        body = await self._read(receive)
        if body is None:
            return  # the client is gone, and nothing has been done
        if len(body) > self._max_body:
            await send_problem(send, self._too_large())
            return
        given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replayed() -> Message:
            return given.pop() if given else await receive()

        before = current_request.get()
        current_request.set(KeyedRequest(key, scope["method"].upper(), scope["path"], body))
        try:
            await self._app(scope, replayed, send)
        finally:
            current_request.set(before)

    async def _read(self, receive: Receive) -> bytes | None:
        """Return the body, one byte more than allowed at most; None if the client went away before its end."""
        body = bytearray()
        while len(body) <= self._max_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        return bytes(body)


class IdempotencyKeyWSGI(_Rules[WSGIApp]):
    """WSGI middleware with the arguments and errors of `IdempotencyKey`.

    Servers join headers that are sent twice: those count as one key. A body shorter than its length is 400.
    """

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        method = str(environ.get("REQUEST_METHOD", "GET")).upper()
        if method not in self._methods:
            return self._app(environ, start_response)
        given = environ.get(environ_name(_HEADER))
        key = self._judge([] if given is None else [given])
        if key is None:
            return self._app(environ, start_response)
        if isinstance(key, Problem):
            return answer(environ, start_response, key)
        body = self._read(environ)
        if body is None:
            return answer(environ, start_response, self._too_short())
        if len(body) > self._max_body:
            return answer(environ, start_response, self._too_large())
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
        context = contextvars.copy_context()
        context.run(current_request.set, KeyedRequest(key, method, path_of(environ), body))
        return Body(context, context.run(self._app, environ, start_response), lambda _: None)

    def _read(self, environ: Environ) -> bytes | None:
        """Return the body, one byte more than allowed at most; None if it ended before the length that it has."""
        most = self._max_body + 1
        length = str(environ.get("CONTENT_LENGTH") or "")
        has_length = length.isascii() and length.isdigit()
        if has_length:
            most = min(most, int(length[:20]))
        elif not environ.get("wsgi.input_terminated"):
            return b""
        chunks, left = [], most
        while left > 0 and (chunk := environ["wsgi.input"].read(left)):
            chunks.append(chunk)
            left -= len(chunk)
        return None if has_length and left > 0 else b"".join(chunks)
