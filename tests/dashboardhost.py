"""Serves a dashboard in a thread of the test, below a prefix, and fills a monitor with errors of every kind."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import shift_path_info

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from booking_resilience import CircuitBreaker, CircuitOpenError, ErrorMonitor
from demohost import until

PREFIX = "/ops/errors"


class DashboardHost:
    """A dashboard that is being served.

    Attributes:
        url: Where, with a slash at the end.
        port: The port.
    """

    def __init__(self, app: Any, *, port: int = 0, **settings: Any) -> None:
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}{PREFIX}/"
        config = uvicorn.Config(
            Starlette(routes=[Mount(PREFIX, app=app)]), lifespan="off", log_config=None, access_log=False, ws="none",
            **settings,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listening]})
        self._thread.start()
        until(lambda: self._server.started, "the server to start")

    def stop(self) -> None:
        """Stop it, as a signal would: what is open must not hold it up. Stopping twice is harmless."""
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server does not stop"


@contextlib.contextmanager
def dashboard_host(app: Any, **settings: Any) -> Iterator[DashboardHost]:
    """Serve a dashboard."""
    host = DashboardHost(app, **settings)
    try:
        yield host
    finally:
        host.stop()


class _Quiet(WSGIRequestHandler):
    """Logs no requests."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - that is how it is called
        pass


class WsgiHost:
    """A WSGI dashboard that is being served by the standard library's server, which tells no peer's port.

    Attributes:
        url: Where, with a slash at the end.
    """

    def __init__(self, app: Any) -> None:
        def below(environ: dict[str, Any], start_response: Any) -> Any:
            for _ in PREFIX.strip("/").split("/"):
                shift_path_info(environ)
            return app(environ, start_response)

        self._server = make_server("127.0.0.1", 0, below, handler_class=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}{PREFIX}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()


@contextlib.contextmanager
def wsgi_host(app: Any) -> Iterator[WsgiHost]:
    """Serve a WSGI dashboard."""
    host = WsgiHost(app)
    try:
        yield host
    finally:
        host.stop()


def charge(amount: str) -> None:
    """Fail in own code, by way of a library's, with causes and notes."""
    try:
        json.loads(amount)
    except ValueError as error:
        refused = RuntimeError("the card was refused")
        refused.add_note("seen twice today")
        raise refused from error


def fail_all(monitor: ErrorMonitor, breaker: CircuitBreaker | None = None) -> None:
    """Record an error of every severity and outcome that a monitor gets without retries."""
    charging = monitor.capture("chargeCard", category="payment", severity="critical", booking_id="b-17", tries=3)
    with contextlib.suppress(RuntimeError), charging:
        charge("{")
    for number in range(4):
        monitor.log_network_error("lookUpSlots", TimeoutError(f"no answer from slot server {number}"))
    monitor.record(ConnectionError("connection reset"), operation="sendWelcomeMessage", category="chat",
                   severity="warning", attempts=3, outcome="recovered")  # fmt: skip
    monitor.record(ValueError("no locale"), operation="formatPrice", category="booking", severity="info")
    if breaker is not None:
        for _ in range(5):
            with contextlib.suppress(ConnectionError):
                breaker.call(_refuse)
        try:
            breaker.call(_refuse)
        except CircuitOpenError as error:
            monitor.record(error, operation="createBooking", category="booking", outcome="refused")


def _refuse() -> None:
    raise ConnectionError("refused")
