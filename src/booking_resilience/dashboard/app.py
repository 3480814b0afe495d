"""The dashboard as an ASGI application. It needs no lifespan, holds no connection open, and works below any prefix."""

from __future__ import annotations

import hashlib
import html
import json
import re
from importlib import resources
from typing import Any
from urllib.parse import quote

from anyio import to_thread
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router

from booking_resilience import clock
from booking_resilience.checks import is_whole
from booking_resilience.dashboard.access import is_token, token_for, visitor_of
from booking_resilience.dashboard.filters import Filter, parse_filter
from booking_resilience.dashboard.keeping import Secret, logger
from booking_resilience.dashboard.mount import Authorize, Breakers, Limits, Receive, Scope, Send
from booking_resilience.dashboard.view import SPANS, View, group_record
from booking_resilience.dashboard.watched import Watched
from booking_resilience.events import log_raised

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
    "Content-Security-Policy": "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
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
        self._secret = Secret(secret, monitor)
        files = resources.files("booking_resilience.dashboard") / "static"
        self._files = {item.name: item.read_bytes() for item in files.iterdir() if item.is_file()}
        self._page = self._files.pop("page.html").decode("utf-8")
        self._router = Router(
            [
                Route("/", self._show),
                Route("/static/{name}", self._file),
                Route("/api/state", self._state),
                Route("/api/groups/{fingerprint}", self._group),
                Route("/api/errors.json", self._errors_json),
                Route("/api/errors.csv", self._errors_csv),
                Route("/api/breakers", self._act, methods=["POST"]),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; decline a WebSocket; accept a lifespan."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = False

        async def send_strictly(message: Any) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                message["headers"] = [*message.get("headers", []), *_RAW_HEADERS]
            await send(message)

        visitor = await visitor_of(scope, self._authorize)
        response: Response
        if visitor is None:
            why = "not allowed" if self._authorize else "without authorize the dashboard answers only its own machine"
            response = _json({"message": why}, 403)
        else:
            inner = _own_scope(scope, visitor)
            try:
                slashed = _slashed(scope) if inner["path"] == "/" else None
                if slashed is None:
                    await self._router(inner, receive, send_strictly)
                    return
                response = Response(status_code=307, headers={"Location": slashed})
            except HTTPException as error:
                response = _json({"message": error.detail}, error.status_code, error.headers)
            except ClientDisconnect:
                return
            except Exception as error:
                if began:
                    raise
                log_raised(logger, error, "the dashboard could not answer")
                response = _json({"message": "the dashboard could not answer; the application's log says why"}, 500)
        await response(scope, receive, send_strictly)

    async def _show(self, request: Request) -> Response:
        visitor = request.scope["visitor"]
        secrets = await to_thread.run_sync(self._secret.all)
        holes = {"title": self._title, "token": token_for(secrets[0], visitor), "visitor": visitor}
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
        now = state.pop("now")
        text = json.dumps(state, separators=(",", ":"), allow_nan=False)
        version = hashlib.sha256(text.encode()).hexdigest()[:16]
        if version == request.query_params.get("seen"):
            return Response(status_code=204)
        head = json.dumps({"now": now, "version": version})
        return Response(f"{head[:-1]},{text[1:]}", media_type="application/json")

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
        return await self._download(self._monitor.to_json, "errors.json", "application/json")

    async def _errors_csv(self, _request: Request) -> Response:
        return await self._download(self._monitor.to_csv, "errors.csv", "text/csv")

    async def _download(self, make: Any, name: str, media_type: str) -> Response:
        text = await to_thread.run_sync(make)
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(text, headers=headers, media_type=media_type)

    async def _act(self, request: Request) -> Response:
        visitor = request.scope["visitor"]
        secrets = await to_thread.run_sync(self._secret.all)
        if not any(is_token(request.headers.get(TOKEN_HEADER, ""), secret, visitor) for secret in secrets):
            raise HTTPException(403, "the page's token is missing or out of date; load the page again")
        asked = _action(await _body(request))
        reason = asked["reason"] + (f" (by {visitor})" if visitor else "")
        done = await to_thread.run_sync(self._watched.act, asked["name"], asked["nth"], asked["action"], reason)
        if not done:
            raise HTTPException(404, "there is no such breaker in this process")
        return _json({"breakers": self._watched.facts()})


_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


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
    return None if not asked or asked.endswith(b"/") else asked.rpartition(b"/")[2].decode("latin-1") + "/"


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
    return Response(json.dumps(facts, allow_nan=False), status, headers, "application/json")
