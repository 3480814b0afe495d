"""The server itself: a listening socket on the loopback, a thread for each connection, and faults on the wire."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import h11

from booking_resilience import clock
from booking_resilience.settings import check, is_text
from booking_resilience.testing.appwrite_server.api import Answer, Api, Request
from booking_resilience.testing.appwrite_server.dialect import ApiError
from booking_resilience.testing.faults import TYPES, Fault, Faults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

    from booking_resilience.appwrite import AppwriteClient

_HEADERS = {
    "Server": "Appwrite",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Expires": "0",
    "Pragma": "no-cache",
}
_PROXY_PAGE = b"<html><head><title>%d</title></head><body><center><h1>%d</h1></center><hr></body></html>"
_KEPT_REQUESTS = 10_000
_DRIP = 20  # pieces in which a slow body comes


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
    ) -> None:
        check("port", port, isinstance(port, int) and 0 <= port <= 65535, "a port from 0 to 65535")
        check("project", project, is_text(project), "a text that is not empty")
        check("key", key, is_text(key), "a text that is not empty")
        check("unique_violation", unique_violation, unique_violation in ("legacy", "new"), "'legacy' or 'new'")
        self.faults: Faults = Faults()
        self.api: Api = Api(project, key, unique_violation)
        self._port, self._project, self._key = port, project, key
        self._requests: deque[RecordedRequest] = deque(maxlen=_KEPT_REQUESTS)
        self._listener: socket.socket | None = None
        self._acceptor: threading.Thread | None = None
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._stopping = threading.Event()

    def start(self) -> Self:
        """Begin to listen.

        Raises:
            OSError: If the port is taken.
        """
        self._stopping.clear()
        self._listen()
        return self

    def stop(self) -> None:
        """End all connections and threads. What is stored stays, until the object goes."""
        self._stopping.set()
        self._refuse()
        for connection, thread in self._connections():
            _end(connection, reset=True)
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
        """Return a client with this server's endpoint, project and key."""
        from booking_resilience.appwrite import AppwriteClient

        client: Any = AppwriteClient()  # the SDK's setters have no annotations
        client.set_endpoint(self.endpoint).set_project(self._project).set_key(self._key)
        return cast("AppwriteClient", client)

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Be down for the length of the block: open connections are reset, new ones refused."""
        self._refuse()
        with self._lock:
            ended = list(self._open)
            self._open.clear()  # what a client sends before the connection's thread wakes must not be carried out
        for connection in ended:
            _end(connection, reset=True)
        try:
            yield
        finally:
            self._listen()

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        self._port = listener.getsockname()[1]
        self._listener = listener
        self._acceptor = threading.Thread(target=self._accept, args=(listener,), name="appwrite-accept", daemon=True)
        self._acceptor.start()

    def _refuse(self) -> None:
        listener, acceptor, self._listener = self._listener, self._acceptor, None
        if listener is not None and acceptor is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
            acceptor.join()

    def _connections(self) -> list[tuple[socket.socket, threading.Thread]]:
        with self._lock:
            return list(self._open.items())

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection,), name="appwrite-connection", daemon=True)
            with self._lock:
                self._open[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            wire = Wire(connection, self._stopping)
            while (request := wire.next_request()) is not None and connection in self._open:
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
        fault = self.faults.next_for(request.method, request.path)
        answer: Answer | None = None
        if fault is None or fault.after_commit:
            answer = self.api.handle(request)
        shown = answer if fault is None else _faulty(fault, answer)
        path = f"{request.path}?{request.query}" if request.query else request.path
        status = None if shown is None else shown.status
        self._requests.append(RecordedRequest(request.method, path, _json(request.raw_body), status, fault))
        if fault is not None and fault.kind == "hang":
            self._stopping.wait(fault.seconds)
        if shown is None or fault is None:
            if shown is not None:
                return wire.send(shown, head_only=request.method == "HEAD")
            _end(wire.connection, reset=fault is not None and fault.kind == "reset")
            return False
        if fault.kind == "cut_body":
            wire.send_cut(shown)
            return False
        if fault.kind == "slow_body":
            return wire.send_slowly(shown, fault.seconds)
        return wire.send(shown)


def _faulty(fault: Fault, answer: Answer | None) -> Answer | None:
    """Return what a fault makes of an answer; None if nothing is answered."""
    if fault.kind in ("reset", "close", "hang"):
        return None
    if fault.kind == "rate_limited":
        limit = ApiError(
            429, TYPES[429], "Rate limit for the current endpoint has been exceeded. Please try again after some time."
        )
        reset = str(int(-(-(clock.utc_now().timestamp() + fault.reset_in) // 1)))
        headers = {"X-Ratelimit-Limit": "120", "X-Ratelimit-Remaining": "0", "X-Ratelimit-Reset": reset}
        return Answer(429, limit.body(), headers)
    if fault.kind == "status":
        return _status(fault)
    if fault.kind == "invalid_json":
        return Answer(201 if answer is not None and answer.status == 201 else 200, b'{"$id": "')
    return answer or Answer(500, ApiError(500, TYPES[500], "Server Error").body())


def _status(fault: Fault) -> Answer:
    if fault.html:
        body: Any = _PROXY_PAGE % (fault.code, fault.code)
        natural = "text/html"
    else:
        type_ = fault.type or TYPES.get(
            fault.code, "general_unknown" if fault.code >= 500 else "general_argument_invalid"
        )
        body = ApiError(
            fault.code, type_, "Server Error" if fault.code >= 500 else "A fault of the embedded server."
        ).body()
        natural = "application/json; charset=UTF-8"
    content_type = natural if fault.content_type == "" else fault.content_type
    return Answer(fault.code, body, content_type=content_type or "")


class Wire:
    """HTTP/1.1 over one connection, with the socket in hand."""

    def __init__(self, connection: socket.socket, stopping: threading.Event) -> None:
        self.connection = connection
        self._stopping = stopping
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)

    def next_request(self) -> Request | None:
        """Return the next request; None if there will be none."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        elif self._http.our_state is not h11.IDLE:
            return None
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if head is not None and self._http.they_are_waiting_for_100_continue:
                    self._send(h11.InformationalResponse(status_code=100, headers=[]))
                self._http.receive_data(self.connection.recv(65_536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                path, _, query = head.target.decode("latin-1").partition("?")
                headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
                return Request(head.method.decode(), path, query, headers, bytes(body))
            else:
                return None

    def send(self, answer: Answer, *, head_only: bool = False) -> bool:
        """Send an answer; tell whether the connection goes on."""
        payload = answer.payload()
        data = self._head(answer, len(payload))
        if not head_only and answer.status != 204:
            data += self._http.send(h11.Data(data=payload)) or b""
        data += self._http.send(h11.EndOfMessage()) or b"" if not head_only else b""
        self.connection.sendall(data)
        return self._http.our_state is not h11.MUST_CLOSE and not head_only

    def send_cut(self, answer: Answer) -> None:
        """Send half of an answer, and close."""
        payload = answer.payload() or b"{}"
        self.connection.sendall(self._head(answer, len(payload)) + payload[: len(payload) // 2])
        _end(self.connection, reset=False)

    def send_slowly(self, answer: Answer, seconds: float) -> bool:
        """Send an answer's body in drips over so many seconds; tell whether the connection goes on."""
        payload = answer.payload() or b"{}"
        self.connection.sendall(self._head(answer, len(payload)))
        size = -(-len(payload) // _DRIP)
        for place in range(0, len(payload), size):
            if self._stopping.wait(seconds / _DRIP):
                return False
            self.connection.sendall(payload[place : place + size])
        return False

    def _head(self, answer: Answer, length: int) -> bytes:
        headers = {**_HEADERS, **answer.headers}
        if answer.content_type:
            headers["Content-Type"] = answer.content_type
        if answer.status != 204:
            headers["Content-Length"] = str(length)
        response = h11.Response(status_code=answer.status, headers=list(headers.items()))
        return self._http.send(response) or b""

    def _send(self, event: h11.InformationalResponse) -> None:
        self.connection.sendall(self._http.send(event) or b"")


def _end(connection: socket.socket, *, reset: bool) -> None:
    """Close a connection, by FIN or by RST; the thread that reads it finds out."""
    with contextlib.suppress(OSError):
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RD)
        else:
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return None
