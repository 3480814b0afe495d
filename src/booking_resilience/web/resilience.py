"""Deadlines in, errors out, and the context of records, around an ASGI or WSGI application."""

from __future__ import annotations

import contextvars
import re
import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Generic, Protocol

from booking_resilience.checks import check_header_name, check_number, check_type, has_method
from booking_resilience.deadlines import deadline
from booking_resilience.web.problems import problem_for
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

DEADLINE_HEADER = "X-Request-Timeout-Ms"
_LONGEST = 3_600_000  # milliseconds
_WHOLE = re.compile(r"[0-9]{1,7}")
_ID_LENGTH = 128


class HasContext(Protocol):
    """An `ErrorMonitor`, of which a request's context is asked."""

    def context(self, **values: Any) -> AbstractContextManager[object]:
        """Add the values to the context of every record made inside."""
        ...


class Requests:
    """What is done for each request, whatever the interface: its deadline, and the context of its records."""

    def __init__(self, monitor: HasContext | None, seconds: float | None, deadline_header: str) -> None:
        has_context = has_method(monitor, "context")
        check_type("monitor", monitor, monitor is None or has_context, "an ErrorMonitor or None")
        check_number("deadline", seconds, or_none=True)
        check_header_name("deadline_header", deadline_header)
        self.monitor: HasContext | None = monitor
        self.seconds: float | None = seconds
        self.header: str = deadline_header

    def enter(self, stack: ExitStack, timeouts: list[str], ids: list[str], method: str, path: str) -> None:
        """Enter the deadline and the context of one request.

        Args:
            stack: Leaves them again.
            timeouts: The values of its deadline header.
            ids: The values of its `X-Request-ID`.
            method: Its HTTP method.
            path: Its path, without the query.
        """
        limits = [self.seconds, *(milliseconds(value) for value in timeouts)]
        seconds = min((limit for limit in limits if limit is not None), default=None)
        if seconds is not None:
            stack.enter_context(deadline(seconds))
        if self.monitor is not None:
            given = ids[0] if ids else ""
            is_usable = 1 <= len(given) <= _ID_LENGTH and given.isascii() and given.isprintable()
            request_id = given if is_usable else uuid.uuid4().hex
            stack.enter_context(self.monitor.context(request_id=request_id, method=method, path=path))


def milliseconds(value: str) -> float | None:
    """Return the seconds that a deadline header gives: whole milliseconds, 1 to 3,600,000. None for anything else."""
    if not _WHOLE.fullmatch(value):
        return None
    return int(value) / 1000 if 1 <= int(value) <= _LONGEST else None


class Edge(Generic[App]):
    """What the middlewares share: their settings."""

    def __init__(
        self,
        app: App,
        *,
        monitor: HasContext | None = None,
        deadline: float | None = None,
        deadline_header: str = DEADLINE_HEADER,
    ) -> None:
        check_type("app", app, callable(app), "an application")
        self._app: App = app
        self._requests = Requests(monitor, deadline, deadline_header)


class Resilience(Edge[ASGIApp]):
    """ASGI middleware: `app.add_middleware(Resilience, monitor=monitor, deadline=5.0)`.

    The incoming header and `deadline` bound the request: whichever is less is its deadline, which everything called
    inside sees. Nothing is cut off. An error that comes out is answered with `problem_for`, if that knows it and no
    response has begun; else it goes on to the framework. Records that `monitor` makes meanwhile have the request's
    `request_id`, `method` and `path` in their context. Websockets and lifespan pass untouched.

    Args:
        app: The application.
        monitor: The `ErrorMonitor` whose records get the context, or None.
        deadline: Seconds for each request, 0 or more; None for no deadline but the header's.
        deadline_header: The request header that brings a deadline, in whole milliseconds from 1 to 3,600,000.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of its range.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def observed(message: Message) -> None:
            nonlocal has_begun
            has_begun = has_begun or message["type"] == "http.response.start"
            await send(message)

        requests = self._requests
        with ExitStack() as stack:
            timeouts, ids = headers_of(scope, requests.header), headers_of(scope, "X-Request-ID")
            requests.enter(stack, timeouts, ids, scope["method"], scope["path"])
            try:
                await self._app(scope, receive, observed)
            except Exception as error:
                problem = None if has_begun else problem_for(error)
                if problem is None:
                    raise
                await send_problem(send, problem)


class ResilienceWSGI(Edge[WSGIApp]):
    """WSGI middleware with the arguments of `Resilience`.

    Flask: `app.wsgi_app = ResilienceWSGI(app.wsgi_app, monitor=monitor)`.

    The application runs in a context of its own, its response too: when the server reads it late, or never, no
    deadline is left behind in the server's thread.
    """

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        requests, context, stack = self._requests, contextvars.copy_context(), ExitStack()
        timeouts, ids = ([environ[name]] if name in environ else [] for name in self._names())
        context.run(requests.enter, stack, timeouts, ids, environ.get("REQUEST_METHOD", ""), path_of(environ))
        has_begun = has_written = False

        def observed(*args: Any, **kwargs: Any) -> Any:
            nonlocal has_begun
            write = start_response(*args, **kwargs)
            has_begun = True

            def observed_write(data: bytes) -> object:
                nonlocal has_written
                has_written = True
                return write(data)

            return observed_write

        def instead(error: Exception) -> list[bytes] | None:
            problem = None if has_written else context.run(problem_for, error)
            return None if problem is None else answer(environ, start_response, problem, again=has_begun)

        try:
            chunks = context.run(self._app, environ, observed)
        except Exception as error:
            replaced = instead(error)
            if replaced is None:
                raise
            return replaced
        return Body(context, chunks, instead, stack)

    def _names(self) -> tuple[str, str]:
        return environ_name(self._requests.header), environ_name("X-Request-ID")
