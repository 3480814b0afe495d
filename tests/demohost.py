"""Starts the demo's application on a free port, in a thread of the test, and a clock that a test can move."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import requests

from booking_resilience import clock
from booking_resilience.testing import AppwriteServer

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

BOOKING = {
    "therapistId": "t1",
    "therapistName": "Ada",
    "userId": "u1",
    "bookingType": "immediate",
    "duration": 60,
}


class MovedClock(clock.SystemClock):
    """The machine's clock, as far ahead as the test has moved it. Sleeps are real."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def advance(self, seconds: float) -> None:
        """Move it forward."""
        self.ahead += seconds

    def monotonic(self) -> float:
        """Return seconds."""
        return super().monotonic() + self.ahead

    def utc_now(self) -> datetime.datetime:
        """Return the moment."""
        return super().utc_now() + datetime.timedelta(seconds=self.ahead)


@contextlib.contextmanager
def moved_clock() -> Iterator[MovedClock]:
    """Give the process a clock that the test can move."""
    moved = MovedClock()
    before = clock.install(moved)
    try:
        yield moved
    finally:
        clock.install(before)


class DemoHost:
    """A demo that is being served.

    Attributes:
        url: Where, without a slash at the end.
        demo: Its parts.
        appwrite: The embedded Appwrite server behind it.
    """

    def __init__(
        self,
        appwrite: AppwriteServer,
        *,
        port: int = 0,
        interval: float = 0.1,
        send_buffer: int | None = None,
        durable: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        import booking_flow
        import demo_app
        import demo_parts
        import demo_server
        import demo_stream

        self.appwrite = appwrite
        booking_flow.bootstrap(appwrite.client())
        self.demo = demo_parts.Demo(appwrite.async_client(), **settings)
        if durable is not None:
            self.demo.keep_bookings(client=appwrite.client(), **durable).durable.start()
        self.hub = demo_stream.Hub(self.demo, interval=interval)
        self._listening = demo_server.listen("127.0.0.1", port)
        if send_buffer is not None:  # accepted connections have it from the listening one
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.port = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = demo_server.DemoServer(demo_app.create_app(self.demo, self.hub), self.hub)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="demo host")
        self._thread.start()
        until(lambda: self.server.started, "the server to start")

    def _run(self) -> None:
        async def serve() -> None:
            self.loop = asyncio.get_running_loop()
            await self.server.serve(sockets=[self._listening])

        asyncio.run(serve())

    def stop(self) -> float:
        """Stop it; return the seconds that it took."""
        started = time.perf_counter()
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server does not stop"
        if self.demo.kept is not None:
            self.demo.kept.durable.stop(timeout=2.0)
        return time.perf_counter() - started

    def call(self, fn: Callable[[], Any]) -> Any:
        """Call a function on the server's event loop."""
        assert self.loop is not None

        async def inside() -> Any:
            return fn()

        return asyncio.run_coroutine_threadsafe(inside(), self.loop).result(10)

    def get(self, path: str, **options: Any) -> requests.Response:
        """GET."""
        return requests.get(self.url + path, timeout=20, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        """POST."""
        return requests.post(self.url + path, timeout=20, **options)


@contextlib.contextmanager
def demo_host(**settings: Any) -> Iterator[DemoHost]:
    """Serve a demo over an embedded Appwrite server of its own."""
    with AppwriteServer() as appwrite:
        host = DemoHost(appwrite, **settings)
        try:
            yield host
        finally:
            host.stop()


class Viewer:
    """Somebody who watches the stream, on a plain socket; reads only when asked to.

    Attributes:
        tail: The last bytes that it has read.
    """

    opened: ClassVar[list[Viewer]] = []

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", port))
        self._socket.sendall(f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        self._file = self._socket.makefile("rb")
        self.tail = b""
        self.opened.append(self)

    def events(self) -> Iterator[tuple[str, Any]]:
        """Yield the events' names and data; ends with the stream."""
        name = ""
        for line in self._file:
            self.tail = (self.tail + line)[-16:]
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                yield name, json.loads(line[6:])

    def until(self, wanted: Callable[[str, Any], bool]) -> Any:
        """Read until an event that is wanted; return its data."""
        for name, data in self.events():
            if wanted(name, data):
                return data
        raise AssertionError("the stream ended before it")

    def close(self) -> None:
        """Go away."""
        self._file.close()
        self._socket.close()


def until(condition: Callable[[], bool], what: str, *, seconds: float = 90.0) -> None:
    """Wait for a condition that other threads or processes bring about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.01)
