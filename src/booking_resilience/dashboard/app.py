"""The dashboard as an ASGI application. It needs no lifespan, holds no connection open, and works below any prefix."""

from __future__ import annotations

import enum
import hashlib
import html
import json
import logging
import re
from collections.abc import Callable
from importlib import resources
from typing import Any
from urllib.parse import quote

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route

from booking_resilience import clock
from booking_resilience.checks import is_whole
from booking_resilience.dashboard.access import visitor_of
from booking_resilience.dashboard.filters import Filter, parse_filter
from booking_resilience.dashboard.mount import Authorize, Receive, Scope, Send
from booking_resilience.dashboard.readiness import Breakers, Limits
from booking_resilience.dashboard.tokens import Tokens
from booking_resilience.dashboard.view import SPANS, View, group_record
from booking_resilience.dashboard.watched import Watched
from booking_resilience.events import log_raised

_logger = logging.getLogger("booking_resilience.dashboard")
MOST_BODY = 16_384
"""Bytes of a request's body; more is 413."""
MOST_REASON = 200
"""Characters of a reason."""
TOKEN_HEADER = "x-dashboard-token"  # noqa: S105 - the name of a header
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
}
"""Headers of every answer."""
_MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HOLE = re.compile(r"\{\{(\w+)\}\}")


class Dashboard:
    """The application; the arguments are those of `dashboard`, checked there."""

    def __init__(
        self,
        monitor: Any,
        breakers: Breakers,
        limits: Limits,
        title: str,
        authorize: Authorize | None,
        secret: str | bytes | None,
    ) -> None:
        self._monitor, self._title, self._authorize = monitor, title, authorize
        self._watched = Watched(breakers, limits)
        self._view = View(monitor, self._watched)
        self._tokens = Tokens(secret, monitor)
        files = resources.files("booking_resilience.dashboard") / "static"
        self._files = {item.name: item.read_bytes() for item in files.iterdir() if item.is_file()}
        self._page = self._files.pop("page.html").decode("utf-8")
        self._routes = (
            Route("/", self._show),
            Route("/static/{name}", self._file),
            Route("/api/state", self._state),
            Route("/api/groups/{fingerprint}", self._group),
            Route("/api/errors.json", self._errors_json),
            Route("/api/errors.csv", self._errors_csv),
            Route("/api/breakers", self._act, methods=["POST"]),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; decline a WebSocket; accept a lifespan."""
        if scope["type"] == "http":
            response = await self._answer(scope, receive)
            response.headers.update(HEADERS)
            await response(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        visitor = await visitor_of(scope, self._authorize)
        if visitor is None:
            why = "not allowed" if self._authorize else "without authorize the dashboard answers only its own machine"
            return _json({"message": why}, 403)
        inner = _own_scope(scope, visitor)
        slashed = _slashed(scope) if inner["path"] == "/" else None
        if slashed is not None:
            return Response(status_code=307, headers={"Location": slashed})
        try:
            for route in self._routes:
                match, found = route.matches(inner)
                if match is Match.PARTIAL:
                    raise HTTPException(405, headers={"Allow": ", ".join(sorted(route.methods or ()))})
                if match is Match.FULL:
                    answer: Response = await route.endpoint(Request({**inner, **found}, receive))
                    return answer
            raise HTTPException(404)
        except HTTPException as error:
            return _json({"message": error.detail}, error.status_code, error.headers)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception as error:  # noqa: BLE001 - whatever the monitor or a breaker raises
            log_raised(_logger, error, "the dashboard could not answer")
            return _json({"message": "the dashboard could not answer; the application's log says why"}, 500)

    async def _show(self, request: Request) -> Response:
        visitor = request.scope["visitor"]
        token = await to_thread.run_sync(self._tokens.make, visitor)
        holes = {"title": self._title, "token": token, "visitor": visitor}
        page = _HOLE.sub(lambda hole: html.escape(holes[hole[1]]), self._page)
        return Response(page, media_type="text/html")

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files:
            raise HTTPException(404)
        return Response(self._files[name], media_type=_MEDIA_TYPES[name.rpartition(".")[2]])

    async def _state(self, request: Request) -> Response:
        """Answer 204 if it is as the page has seen it, but for the time."""
        span = request.query_params.get("span", "60")
        if span not in map(str, SPANS):
            raise HTTPException(400, f"span must be one of {', '.join(map(str, SPANS))}")
        wanted = _filter(request)
        state = await to_thread.run_sync(self._view.state, wanted, int(span))
        version = hashlib.sha256(_text(state).encode()).hexdigest()[:16]
        if version == request.query_params.get("seen"):
            return Response(status_code=204)
        return _json({"now": clock.utc_now(), "version": version, **state})

    async def _group(self, request: Request) -> Response:
        index = request.query_params.get("index", "0")
        if not index.isascii() or not index.isdecimal() or len(index) > 9:
            raise HTTPException(400, "index must be a whole number, 0 or more")
        fingerprint = request.path_params["fingerprint"]
        found = await to_thread.run_sync(group_record, self._monitor, fingerprint, _filter(request), int(index))
        if found is None:
            raise HTTPException(404, "none of this group's kept records passes the filters")
        return _json(found)

    async def _errors_json(self, _request: Request) -> Response:
        return await _download(self._monitor.to_json, "errors.json", "application/json")

    async def _errors_csv(self, _request: Request) -> Response:
        return await _download(self._monitor.to_csv, "errors.csv", "text/csv")

    async def _act(self, request: Request) -> Response:
        visitor = request.scope["visitor"]
        token = request.headers.get(TOKEN_HEADER, "")
        if not await to_thread.run_sync(self._tokens.accepts, token, visitor):
            raise HTTPException(403, "the page's token is missing or out of date; load the page again")
        asked = _action(await _body(request))
        reason = asked["reason"] + (f" (by {visitor})" if visitor else "")
        done = await to_thread.run_sync(self._watched.act, asked["name"], asked["nth"], asked["action"], reason)
        if not done:
            raise HTTPException(404, "there is no such breaker in this process")
        return _json({"breakers": self._watched.breakers()})


async def _download(make: Callable[[], str], name: str, media_type: str) -> Response:
    text = await to_thread.run_sync(make)
    return Response(text, headers={"Content-Disposition": f'attachment; filename="{name}"'}, media_type=media_type)


def _own_scope(scope: Scope, visitor: str) -> dict[str, Any]:
    """Return the scope as if it were mounted nowhere; nothing of the application around it takes part.

    Some frameworks leave the prefix in the path, with `root_path` beside it; some take it off and add a slash.
    """
    path, root = scope["path"], scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    names = ("type", "asgi", "http_version", "method", "scheme", "query_string", "headers", "client", "server")
    kept = {name: scope[name] for name in names if name in scope}
    return {**kept, "path": path.rstrip("/") or "/", "root_path": "", "visitor": visitor}


def _slashed(scope: Scope) -> str | None:
    """Return where to find the page with a slash at the end, if the address that was asked for has none.

    It is relative, so that it is right behind a proxy that has taken a prefix off, too.
    """
    asked: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    asked = asked.partition(b"?")[0]
    if not asked or asked.endswith(b"/"):
        return None
    query: bytes = scope.get("query_string", b"")
    address = asked.rpartition(b"/")[2] + b"/" + (b"?" + query if query else b"")
    return f"./{address.decode('latin-1')}"  # without the dot, a name with a colon would be a scheme


def _filter(request: Request) -> Filter:
    try:
        return parse_filter(request.query_params, clock.utc_now())
    except ValueError as error:
        raise HTTPException(400, str(error)) from None


async def _body(request: Request) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the request must be application/json")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            raise HTTPException(413, f"the request must have {MOST_BODY} bytes at most")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request must be JSON") from None


def _action(body: Any) -> dict[str, Any]:
    """Return what is asked for, checked; the reason defaults to one that tells where it was done."""
    asked = body if isinstance(body, dict) else {}
    action, reason = asked.get("action"), asked.get("reason", "")
    if action not in ("isolate", "reset"):
        raise HTTPException(422, "action must be isolate or reset")
    if not isinstance(asked.get("name"), str) or not is_whole(asked.get("nth", 0), 0):
        raise HTTPException(422, "name must be a string, and nth a whole number, 0 or more")
    if not isinstance(reason, str) or len(reason) > MOST_REASON:
        raise HTTPException(422, f"reason must be a string of {MOST_REASON} characters at most")
    reason = " ".join(reason.split()) or f"{action} on the dashboard"
    return {"action": action, "name": asked["name"], "nth": asked.get("nth", 0), "reason": reason}


def _json(facts: Any, status: int = 200, headers: Any = None) -> Response:
    return Response(_text(facts), status, headers, "application/json")


def _text(facts: Any) -> str:
    return json.dumps(facts, separators=(",", ":"), allow_nan=False, default=_plain)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value.isoformat()
