"""`dashboard` and `dashboard_wsgi`: the page as an application to mount. Starlette is loaded when one is called."""

from __future__ import annotations

import importlib
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import quote

from booking_resilience.checks import check, check_text, check_type
from booking_resilience.dashboard.readiness import Breakers, Limits

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
WsgiApp: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Authorize: TypeAlias = Callable[[Scope], Any]
"""Given the request's ASGI scope; returns whether to let it in, or the visitor's name. May be asynchronous."""

_ASCII = bytes(range(128)).decode()
_ASKED = ("stats", "recent", "groups", "history", "to_json", "to_csv")


def dashboard(
    monitor: Any,
    *,
    breakers: Breakers = (),
    limits: Limits = (),
    title: str = "Errors",
    authorize: Authorize | None = None,
    secret: str | bytes | None = None,
) -> AsgiApp:
    """Return the dashboard as an ASGI application, to mount below any prefix.

    Args:
        monitor: An `ErrorMonitor`, or a `FleetMonitor` for all processes.
        breakers: The breakers to show, in an iterable or a mapping. A collection that grows is looked at anew each
            time.
        limits: The limits and rates to show, likewise.
        title: The page's title.
        authorize: Decides who may see the page, on every request. Falsy or raising means 403. A string is the
            visitor's name, which goes into the reason of `isolate` and `reset`. Without it only requests from this
            machine's loopback that came through no proxy are answered.
        secret: What the page's token is made of; give the same to all workers. By default it is kept in the journal
            if there is one, else made anew for each process.

    Raises:
        ImportError: If the extra `dashboard` isn't installed.
        TypeError: If an argument is of the wrong type.
        ValueError: If the title or secret is empty.
    """
    _check(monitor, title, authorize, secret)
    made: AsgiApp = _load("booking_resilience.dashboard.app").Dashboard(
        monitor, breakers, limits, title, authorize, secret
    )
    return made


def dashboard_wsgi(
    monitor: Any,
    *,
    breakers: Breakers = (),
    limits: Limits = (),
    title: str = "Errors",
    authorize: Authorize | None = None,
    secret: str | bytes | None = None,
) -> WsgiApp:
    """Return the dashboard as a WSGI application, for Flask and Django; the arguments are those of `dashboard`.

    `authorize` gets an ASGI scope whose `wsgi_environ` is the request's environment.

    Raises:
        ImportError: If the extra `dashboard` isn't installed.
        TypeError: If an argument is of the wrong type.
        ValueError: If the title or secret is empty.
    """
    app = dashboard(monitor, breakers=breakers, limits=limits, title=title, authorize=authorize, secret=secret)
    bridge = _load("a2wsgi").ASGIMiddleware
    made: dict[int, WsgiApp] = {}

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        bridged = made.get(os.getpid())
        if bridged is None:  # its thread doesn't outlive a fork, so each process makes its own
            bridged = made.setdefault(os.getpid(), bridge(app))
        return bridged(_bridgeable(environ), start_response)

    return answer


def _bridgeable(environ: dict[str, Any]) -> dict[str, Any]:
    """Return a request's environment as the bridge can read it, whatever the client sent.

    It raises for a path that isn't UTF-8, a query that isn't ASCII, and ports that servers on sockets without ports
    leave empty; and it knows a peer only by address and port, which some leave out.
    """
    found = dict(environ)
    for name in ("SCRIPT_NAME", "PATH_INFO"):
        raw = str(environ.get(name, "")).encode("latin-1", "replace")
        found[name] = raw.decode("utf-8", "replace").encode().decode("latin-1")
    found["QUERY_STRING"] = quote(str(environ.get("QUERY_STRING", "")).encode("latin-1", "replace"), safe=_ASCII)
    for name in ("REMOTE_PORT", "SERVER_PORT"):
        found[name] = environ.get(name) or "0"
    return found


def _check(monitor: Any, title: object, authorize: object, secret: object) -> None:
    has_all = all(callable(getattr(monitor, name, None)) for name in _ASKED)
    check_type("monitor", monitor, has_all and not isinstance(monitor, type), "an ErrorMonitor or a FleetMonitor")
    check_text("title", title)
    if authorize is not None:
        check_type("authorize", authorize, callable(authorize), "a function of the scope, or None")
    if secret is not None:
        check_type("secret", type(secret), isinstance(secret, (str, bytes)), "a string, bytes or None")
        check("secret", secret, bool(secret), "a string or bytes that aren't empty, or None")


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        text = f"the dashboard needs {error.name}: install the extra, booking-resilience[dashboard]"
        raise ImportError(text, name=error.name) from error
