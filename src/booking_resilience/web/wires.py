"""What ASGI and WSGI middlewares need: answers sent as each of them wants, and bodies that run in a context."""

from __future__ import annotations

import contextvars
import http
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any, TypeAlias, TypeVar

from booking_resilience.web.problems import Problem

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
App = TypeVar("App", ASGIApp, WSGIApp)


def headers_of(scope: Scope, name: str) -> list[str]:
    """Return the values of a request's header, in the order in which they came."""
    wanted = name.lower().encode("latin-1")
    return [bytes(value).decode("latin-1") for key, value in scope.get("headers") or () if bytes(key).lower() == wanted]


def environ_name(name: str) -> str:
    """Return the name of a header in a WSGI environment."""
    return "HTTP_" + name.upper().replace("-", "_")


def path_of(environ: Environ) -> str:
    """Return the path of a WSGI request, decoded: servers hand its bytes over as Latin-1."""
    raw = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    return raw.encode("latin-1", "replace").decode("utf-8", "replace")


async def send_problem(send: Send, problem: Problem) -> None:
    """Answer an ASGI request."""
    headers = [(key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in problem.headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": problem.body})


def answer(environ: Environ, start_response: StartResponse, problem: Problem, *, again: bool = False) -> list[bytes]:
    """Answer a WSGI request; `again` if the application has begun a response of which nothing has gone out.

    Servers of WSGI send a body whatever the method, and one after a HEAD would be taken for the next answer.
    """
    status = f"{problem.status} {http.HTTPStatus(problem.status).phrase}"
    headers = list(problem.headers.items())
    if again:
        start_response(status, headers, sys.exc_info())
    else:
        start_response(status, headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [problem.body]


class Body:
    """A WSGI response whose every step runs in the request's context, and which can be replaced until it has content.

    Empty chunks before that are left out: some servers would send the head with them.

    Args:
        context: Where the application runs.
        chunks: What it returned.
        instead: Given an error that comes before any content, returns the chunks of another response, or None to let
            it out.
        scope: What has to live as long as the response.
    """

    def __init__(
        self,
        context: contextvars.Context,
        chunks: Iterable[bytes],
        instead: Callable[[Exception], list[bytes] | None],
        scope: object = None,
    ) -> None:
        self._context, self._chunks, self._instead, self._scope = context, chunks, instead, scope
        self._iterator: Iterator[bytes] | None = None
        self._is_empty = True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        while not (chunk := self._next()) and self._is_empty:
            pass
        self._is_empty = False
        return chunk

    def _next(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = self._context.run(iter, self._chunks)
            return self._context.run(next, self._iterator)
        except StopIteration:
            raise
        except Exception as error:
            replaced = self._instead(error) if self._is_empty else None
            if replaced is None:
                raise
            self._iterator = iter(replaced)
            return next(self._iterator)

    def close(self) -> None:
        """Close the application's response."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            self._context.run(close)
