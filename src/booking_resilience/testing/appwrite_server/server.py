"""The server itself: a listening socket on the loopback, a thread for each connection, and faults on the wire."""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import h11

from booking_resilience.appwrite import AppwriteClient, AsyncAppwriteClient
from booking_resilience.checks import check, check_text, check_type
from booking_resilience.locks import new_lock
from booking_resilience.testing.appwrite_server.api import Api
from booking_resilience.testing.appwrite_server.exchange import Answer, Request
from booking_resilience.testing.appwrite_server.wire import Wire, end
from booking_resilience.testing.appwrite_server.wrong import faulty
from booking_resilience.testing.faults import Fault, Faults

_KEPT_REQUESTS = 10_000
_PATIENCE = 1.0  # seconds for a thread that sends to a client that does not read


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request that the server got.

    Attributes:
        method: Its method.
        path: Its path, with the query as it was sent.
        body: Its JSON, or None.
        status: The status that was answered; None if nothing was.
        fault: What was made to go wrong with it, or None.
    """

    method: str
    path: str
    body: Any
    status: int | None
    fault: Fault | None


class AppwriteServer:
    """An Appwrite server inside this process, for tests and examples; a context manager.

    Binds the loopback only. Safe to use from many threads.

    Args:
        port: The port; 0 for a free one.
        project: The only project's ID.
        key: The only key that it takes.
        unique_violation: How it tells of a violated unique index: `legacy`, as Appwrite up to 1.9.6 does, by the same
            409 as for an ID that is taken; or `new`, by a type of its own.
        transactions: Whether it has transactions; without, their routes are unknown ones, as of a server before 1.8.

    Attributes:
        faults: What is made to go wrong.

    >>> with AppwriteServer() as server:
    ...     server.endpoint.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        *,
        port: int = 0,
        project: str = "demo",
        key: str = "demo-key",
        unique_violation: Literal["legacy", "new"] = "legacy",
        transactions: bool = True,
    ) -> None:
        check_type("port", port, isinstance(port, int) and not isinstance(port, bool), "a port from 0 to 65535")
        check("port", port, 0 <= port <= 65535, "a port from 0 to 65535")
        check_text("project", project)
        check_text("key", key)
        check_text("unique_violation", unique_violation)
        check("unique_violation", unique_violation, unique_violation in ("legacy", "new"), "'legacy' or 'new'")
        check_type("transactions", transactions, isinstance(transactions, bool), "true or false")
        self.faults: Faults = Faults()
        self.api: Api = Api(project, key, unique_violation, transactions)
        self._port, self._project, self._key = port, project, key
        self._requests: deque[RecordedRequest] = deque(maxlen=_KEPT_REQUESTS)
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._lock = new_lock()
        self._open: dict[socket.socket, threading.Event] = {}  # the event ends what its thread waits for
        self._threads: set[threading.Thread] = set()

    def start(self) -> Self:
        """Begin to listen.

        Raises:
            OSError: If the port is taken.
        """
        self._listen()
        return self

    def stop(self) -> None:
        """End all connections and threads. What is stored stays, until the object goes."""
        self._refuse()
        for connection in self._cut_off():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # wakes its thread, also one that sends to nobody
        for thread in self._running():
            thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """The endpoint for the SDK's `set_endpoint`."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, oldest first; the last 10,000."""
        return list(self._requests)

    def client(self) -> AppwriteClient:
        """Return an `AppwriteClient` with this server's endpoint, project and key.

        Raises:
            RuntimeError: If its port is not known yet, because it was to be any and the server never started.
        """
        self._lead_here(client := AppwriteClient())
        return client

    def async_client(self) -> AsyncAppwriteClient:
        """Return an `AsyncAppwriteClient` with this server's endpoint, project and key; needs `appwrite-async`.

        Raises:
            RuntimeError: As `client`.
        """
        self._lead_here(client := AsyncAppwriteClient())
        return client

    def _lead_here(self, client: Any) -> None:
        if self._port == 0:
            raise RuntimeError("the server's port is known when it has started: use `with AppwriteServer() as server`")
        client.set_endpoint(self.endpoint).set_project(self._project).set_key(self._key)

    def outage(self) -> Outage:
        """Return a context manager: inside of it open connections are reset and new ones refused. Blocks nest."""
        return Outage(self)

    def _go_down(self) -> bool:
        """Refuse and reset everything; tell whether it was up."""
        was_up = self._listener is not None
        self._refuse()
        for connection in self._cut_off():
            end(connection, reset=True)
        for thread in self._running():
            thread.join(_PATIENCE)  # it is reset when its thread has let go of it
        return was_up

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._acceptor = _thread(functools.partial(self._accept, listener), "appwrite-accept")
        self._acceptor.start()

    def _refuse(self) -> None:
        listener, acceptor, self._listener = self._listener, self._acceptor, None
        if listener is not None and acceptor is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
            acceptor.join()

    def _cut_off(self) -> list[socket.socket]:
        """Return the open connections, whose threads carry out nothing any more and wait for nothing."""
        with self._lock:
            ended = dict(self._open)
            self._open.clear()
        for gone in ended.values():
            gone.set()
        return list(ended)

    def _running(self) -> list[threading.Thread]:
        with self._lock:
            return list(self._threads)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            gone = threading.Event()
            thread = _thread(functools.partial(self._serve, connection, gone), "appwrite-connection")
            with self._lock:
                self._open[connection] = gone
                self._threads = {other for other in self._threads if other.is_alive()} | {thread}
            thread.start()

    def _serve(self, connection: socket.socket, gone: threading.Event) -> None:
        try:
            wire = Wire(connection, gone)
            while (request := wire.next_request()) is not None and not gone.is_set():
                if not self._answer(wire, request):
                    break
        except (OSError, h11.ProtocolError):
            pass
        finally:
            with self._lock:
                self._open.pop(connection, None)
            connection.close()

    def _answer(self, wire: Wire, request: Request) -> bool:
        """Answer a request, rightly or not; tell whether the connection goes on."""
        content = request.query.encode() + b"\0" + request.raw_body
        fault = self.faults.next_for(request.method, request.path, content, commits=_commits(request))
        answer: Answer | None = None
        if fault is None or fault.after_commit:
            torn = (fault.kept, fault.told) if fault is not None and fault.kind == "torn_commit" else None
            answer = self.api.handle(request, torn)
        shown = answer if fault is None else faulty(fault, answer)
        path = f"{request.path}?{request.query}" if request.query else request.path
        status = None if shown is None else shown.status
        self._requests.append(RecordedRequest(request.method, path, _json(request.raw_body), status, fault))
        if fault is not None and fault.kind == "hang":
            wire.gone.wait(fault.seconds)
        if shown is None or fault is None:
            if shown is not None:
                return wire.send(shown, head_only=request.method == "HEAD")
            end(wire.connection, reset=fault is not None and fault.kind == "reset")
            return False
        if fault.kind == "cut_body":
            wire.send_cut(shown)
            return False
        if fault.kind == "slow_body":
            return wire.send_slowly(shown, fault.seconds)
        return wire.send(shown)


class Outage:
    """A block in which a server is down; a context manager."""

    def __init__(self, server: AppwriteServer) -> None:
        self._server = server
        self._was_up: list[bool] = []

    def __enter__(self) -> None:
        self._was_up.append(self._server._go_down())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._was_up.pop():  # else an outer block still holds it down
            self._server._listen()


def _thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Return a thread that doesn't keep the interpreter alive, where there are such: subinterpreters have none."""
    try:
        return threading.Thread(target=target, name=name, daemon=True)
    except RuntimeError:
        return threading.Thread(target=target, name=name, daemon=False)


def _commits(request: Request) -> bool:
    """Tell whether a request commits a transaction."""
    body = _json(request.raw_body) if request.method == "PATCH" and "/transactions/" in request.path else None
    return isinstance(body, dict) and body.get("commit") is True


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None
