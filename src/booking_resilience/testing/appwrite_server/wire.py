"""HTTP/1.1 over one connection, parsed by h11, with the socket in hand: what is cut, dripped or reset really is."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING

import h11

from booking_resilience.testing.appwrite_server.exchange import Answer, Request

if TYPE_CHECKING:
    import threading

_DRIP = 20  # pieces in which a slow body comes


class Wire:
    """HTTP/1.1 over one connection, with the socket in hand.

    Attributes:
        gone: Set when the connection is cut off from outside.
    """

    def __init__(self, connection: socket.socket, gone: threading.Event) -> None:
        self.connection = connection
        self.gone = gone
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
        head, body = self._parts(answer, head_only=head_only)
        self.connection.sendall(head + body)
        return self._goes_on(head_only=head_only)

    def send_cut(self, answer: Answer) -> None:
        """Send half of an answer, and close."""
        head, body = self._parts(answer)
        self.connection.sendall(head + body[: len(body) // 2])
        end(self.connection, reset=False)

    def send_slowly(self, answer: Answer, seconds: float) -> bool:
        """Send an answer's body in drips over so many seconds; tell whether the connection goes on."""
        head, body = self._parts(answer)
        self.connection.sendall(head)
        size = -(-len(body) // _DRIP) or 1
        for place in range(0, len(body), size):
            if self.gone.wait(seconds / _DRIP):
                return False
            self.connection.sendall(body[place : place + size])
        return self._goes_on()

    def _parts(self, answer: Answer, *, head_only: bool = False) -> tuple[bytes, bytes]:
        """Return the bytes of head and body."""
        payload = answer.payload()
        head = self._head(answer, len(payload))
        if head_only:
            return head, b""
        body = b"" if answer.status == 204 else self._http.send(h11.Data(data=payload)) or b""
        return head, body + (self._http.send(h11.EndOfMessage()) or b"")

    def _goes_on(self, *, head_only: bool = False) -> bool:
        return self._http.our_state is not h11.MUST_CLOSE and not head_only

    def _head(self, answer: Answer, length: int) -> bytes:
        headers = answer.all_headers()
        if answer.content_type:
            headers["Content-Type"] = answer.content_type
        if answer.status != 204:
            headers["Content-Length"] = str(length)
        response = h11.Response(status_code=answer.status, headers=list(headers.items()))
        return self._http.send(response) or b""

    def _send(self, event: h11.InformationalResponse) -> None:
        self.connection.sendall(self._http.send(event) or b"")


def end(connection: socket.socket, *, reset: bool) -> None:
    """Close a connection, by FIN or by RST; the thread that reads it finds out."""
    with contextlib.suppress(OSError):
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.shutdown(socket.SHUT_RD)
        else:
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
