"""Asks an ASGI or WSGI application without a server, as whatever peer the test says."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import dataclass, field
from typing import Any

LOCAL = ("127.0.0.1", 40001)
HOST = "127.0.0.1:8000"


@dataclass
class Answer:
    """What came back; `headers` has lower-case names."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def scope_of(path: str, method: str, client: Any, headers: dict[str, str], root_path: str) -> dict[str, Any]:
    """Return the scope of a request; None as a header's value leaves it out."""
    where, _, query = path.partition("?")
    given = {"host": HOST, **{name.lower(): value for name, value in headers.items()}}
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": where, "raw_path": where.encode(), "query_string": query.encode(), "root_path": root_path,
        "headers": [(name.encode(), value.encode()) for name, value in given.items() if value is not None],
        "client": client, "server": ("127.0.0.1", 8000),
    }  # fmt: skip


def ask(app: Any, path: str = "/", *, method: str = "GET", client: Any = LOCAL, headers: Any = None, body: bytes = b"",
        root_path: str = "") -> Answer:  # fmt: skip
    """Ask an ASGI application."""
    answer, parts = Answer(), [body[: len(body) // 2], body[len(body) // 2 :]]

    async def receive() -> dict[str, Any]:
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    asyncio.run(app(scope_of(path, method, client, headers or {}, root_path), receive, send))
    return answer


def ask_wsgi(app: Any, path: str = "/", *, method: str = "GET", peer: str | None = "127.0.0.1", headers: Any = None,
             body: bytes = b"", script: str = "", host: str = HOST) -> Answer:  # fmt: skip
    """Ask a WSGI application. Like some servers, this one says nothing of the peer's port."""
    where, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method, "SCRIPT_NAME": script, "PATH_INFO": where, "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": host,
        "CONTENT_LENGTH": str(len(body)), "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(), "wsgi.multithread": True,
        "wsgi.multiprocess": True, "wsgi.run_once": False,
    }  # fmt: skip
    if peer is not None:
        environ["REMOTE_ADDR"] = peer
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    answer = Answer()

    def start_response(status: str, found: list[tuple[str, str]], exc_info: Any = None) -> Any:
        answer.status, answer.headers = int(status.split()[0]), {name.lower(): value for name, value in found}
        return answer.body.__add__

    parts = app(environ, start_response)
    try:
        answer.body = b"".join(parts)
    finally:
        getattr(parts, "close", lambda: None)()
    return answer
