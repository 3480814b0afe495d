"""Connections whose every wait is bounded by what the current operation has left, and the pool that keeps them.

A socket's own timeout starts anew with each byte that drips in. Here it is set again before each read and write, from
`remaining_time()` of the calling thread, so that headers and bodies that drip end with the deadline as well.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection

from booking_resilience import clock
from booking_resilience.appwrite.routes import Place
from booking_resilience.deadlines import remaining_time
from booking_resilience.locks import fork_safe_lock

_LOCK = fork_safe_lock()  # one for all pools: it is held for the look at a list


def bounded(seconds: float) -> float:
    """Return the seconds to wait: `seconds`, or what the operation has left, if that is less.

    Raises:
        TimeoutError: If nothing is left.
    """
    left = remaining_time()
    if left is None or left > seconds:
        return seconds
    if left <= 0:
        raise TimeoutError("the deadline of the operation has passed")
    return left


class BoundedSocket:
    """A connected socket that waits no longer than `timeout`, nor than the operation lasts, at each turn.

    Attributes:
        has_leftovers: Whether more came than the answer that was read: what follows is not to be trusted.
    """

    def __init__(self, sock: Any, timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout
        self.has_leftovers = False

    def limit(self) -> None:
        """Set the socket's timeout for the next wait."""
        self._sock.settimeout(bounded(self._timeout))

    def sendall(self, data: Any) -> None:
        """Send everything; the timeout is that of the whole."""
        self.limit()
        self._sock.sendall(data)

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        """Return a file to read from; it keeps the socket open until it is closed itself, as any socket's does."""
        return _AnswerFile(_BoundedReader(self, self._sock.makefile("rb", buffering=0)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _BoundedReader(io.RawIOBase):
    def __init__(self, owner: BoundedSocket, raw: io.RawIOBase) -> None:
        self.owner, self._raw = owner, raw
        self.is_over = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.is_over:
            return 0
        self.owner.limit()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _AnswerFile(io.BufferedReader):
    """Tells a head that is cut from a whole one, and, when it is closed, whether anything is left unread."""

    raw: Any

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line: of the head, or the length of a chunk. http.client takes the connection's end for an empty one.

        Raises:
            RemoteDisconnected: If the connection ends before the line does.
        """
        line = super().readline(size)
        if not line.endswith(b"\n") and len(line) != size:
            raise http.client.RemoteDisconnected("the server closed the connection before the end of its answer")
        return line

    def close(self) -> None:
        if not self.closed:
            self.raw.is_over = True
            self.raw.owner.has_leftovers = bool(self.peek(1))
        super().close()


class Connection(HTTPConnection):
    """A connection of urllib3 with bounded waits; `timeout` is that of the whole connecting."""

    read_timeout: float = 10.0
    proxy_headers: Mapping[str, str] | None = None  # None: no proxy that has to be told the whole address

    def connect(self) -> None:
        """Connect, within `timeout` and what the operation has left."""
        super().connect()
        self.sock: Any = BoundedSocket(self.sock, self.read_timeout)

    def _new_conn(self) -> socket.socket:
        return open_socket(self._dns_host, self.port, self.timeout, self.socket_options)


class SecureConnection(Connection, HTTPSConnection):
    """A connection with TLS; the handshake has what connecting has left of its time."""

    def _tunnel(self) -> None:
        """Ask a proxy for the way, with every wait bounded as well."""
        plain, timeout = self.sock, bounded(self.read_timeout)
        self.sock = BoundedSocket(plain, timeout)
        try:
            super()._tunnel()
        finally:
            if self.sock is not None:
                self.sock = plain


def open_socket(host: str, port: int, timeout: Any, options: Any) -> socket.socket:
    """Return a socket connected to the first address of the host that answers.

    All addresses together have the timeout; only the look-up of the name, which the system does, is not bounded.

    Raises:
        OSError: If none answers; the error of the last address. `TimeoutError` if there is no time for the next.
    """
    end = clock.monotonic() + timeout
    failure: OSError = OSError(f"no address for {host!r}")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        left = bounded(end - clock.monotonic())
        if left <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            for option in options or ():
                sock.setsockopt(*option)
            sock.settimeout(left)
            sock.connect(address)
            sock.settimeout(bounded(max(0.001, end - clock.monotonic())))
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    try:
        raise failure
    finally:
        del failure  # its traceback leads back to this frame


class ConnectionPool:
    """Connections that are idle, to be used again; safe to share between threads, and across `fork`.

    Args:
        size: Idle connections kept for one place at most; more may be in use at the same time.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: dict[Place, deque[Connection]] = {}
        self._process = os.getpid()

    def take(self, place: Place, connect: Callable[[], Connection]) -> Connection:
        """Return an idle connection that the server has not closed, the latest used first; else a new one."""
        self._after_fork()
        while True:
            with _LOCK:
                idle = self._idle.get(place)
                connection = idle.pop() if idle else None
            if connection is None:
                return connect()
            if connection.is_connected:
                return connection
            connection.close()

    def give(self, place: Place, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end; closed if there are enough, or another process's."""
        if connection.sock is None:
            return
        with _LOCK:
            idle = self._idle.setdefault(place, deque())
            if len(idle) < self._size and self._process == os.getpid():
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; the pool can still be used."""
        with _LOCK:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def _after_fork(self) -> None:
        """Drop the parent's connections in a child: two processes on one connection would get each other's answers."""
        if self._process != os.getpid():
            self.close()
            self._process = os.getpid()
