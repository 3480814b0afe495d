"""Drives ASGI and WSGI applications without a server, as one does: for the tests of `booking_resilience.web`."""

from __future__ import annotations

import asyncio
import contextvars
import io
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Pairs = list[tuple[str, str]]


@dataclass
class Reply:
    """What a client saw."""

    status: int
    pairs: Pairs
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The headers, with names in small letters."""
        return {name.lower(): value for name, value in self.pairs}

    @property
    def problem(self) -> dict[str, Any]:
        """The problem details that it is."""
        assert self.headers["content-type"] == "application/problem+json"
        details: dict[str, Any] = json.loads(self.body)
        assert details["status"] == self.status
        return details


def pairs_of(headers: Mapping[str, str] | Pairs) -> Pairs:
    """Return headers as pairs: a list may hold one name twice."""
    return list(headers.items()) if isinstance(headers, Mapping) else headers


def scope_of(path: str = "/", headers: Mapping[str, str] | Pairs = (), method: str = "GET") -> dict[str, Any]:  # type: ignore[assignment] # an empty tuple is as good
    """Return the scope of an HTTP request."""
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs_of(headers)],
    }


async def call_asgi(app: Any, scope: dict[str, Any], *chunks: bytes, then: str = "http.disconnect") -> Reply | None:
    """Send one request to an ASGI application; None if it did not answer."""
    last = len(chunks) - 1
    given = [{"type": "http.request", "body": chunk, "more_body": n < last} for n, chunk in enumerate(chunks or (b"",))]
    sent: list[Any] = []

    async def receive() -> Any:
        return given.pop(0) if given else {"type": then}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return None
    start, *rest = sent
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    return Reply(start["status"], pairs, b"".join(message.get("body", b"") for message in rest))


def asgi(app: Any, path: str = "/", headers: Any = (), method: str = "GET", body: bytes = b"") -> Reply:
    """Send one request to an ASGI application, in an event loop of its own."""
    reply = asyncio.run(call_asgi(app, scope_of(path, headers, method), body))
    assert reply is not None
    return reply


def wsgi(app: Any, path: str = "/", headers: Any = (), method: str = "GET", body: bytes = b"", **more: Any) -> Reply:
    """Send one request to a WSGI application, as servers do that send the head with any chunk, even an empty one."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode().decode("latin-1"),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        **more,
    }
    for name, value in pairs_of(headers):
        key = "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    heads: list[tuple[str, Pairs]] = []
    written: list[bytes] = []

    def start_response(status: str, pairs: Pairs, exc_info: Any = None) -> Any:
        assert exc_info is not None or not heads
        if written:
            raise exc_info[1]
        heads[:] = [(status, pairs)]
        return written.append

    def serve() -> Reply:
        chunks = app(environ, start_response)
        try:
            written.extend(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        return Reply(int(heads[0][0].split()[0]), heads[0][1], b"".join(written))

    return contextvars.copy_context().run(serve)
