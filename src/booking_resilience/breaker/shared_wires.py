"""Two connections to a Redis, of the official client: one to ask on, one that rings when something changed.

The client's connections are used without its pool, its retries and its timeouts, so that a Redis that does not answer
is noticed in time and a client that was given stays as it was.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import urllib.parse
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from booking_resilience.breaker.shared_script import SCRIPT, SHA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import redis

Connection: TypeAlias = Any  # the client's; its annotations differ from version to version

TIMEOUT = 2.0  # seconds without an answer after which a Redis counts as gone
CONNECT_TIMEOUT = 1.0  # seconds for the connection itself, so that one is back within 2 seconds of the Redis


def connector(url: str, client: redis.Redis | None) -> Callable[[], Connection]:
    """Return a function that makes a connection, not yet connected, as the client or the URL says.

    Raises:
        ValueError: If the URL is none; the message has nothing of it, since it may hold a password.
    """
    from redis.backoff import NoBackoff
    from redis.connection import ConnectionPool
    from redis.retry import Retry

    if client is not None:
        pool = client.connection_pool
    else:
        try:
            pool = ConnectionPool.from_url(url)
        except ValueError:
            raise ValueError("url must begin with redis://, rediss:// or unix:// and be a whole URL") from None
    kind: Callable[..., Any] = pool.connection_class
    given = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_OF_THE_POOL)}
    ours = {
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        "decode_responses": False,
        "protocol": 2,
    }

    def connect() -> Connection:
        return kind(**{**given, **ours, "retry": Retry(NoBackoff(), 0)})

    return connect


_OF_THE_POOL = ("maint_", "oss_", "orig_", "event_dispatcher")  # what only a pool with push messages makes use of


def place_of(url: str) -> str:
    """Return where the Redis is, for people: without user, password and parameters.

    Passwords come unquoted, too, and may have any character in them. So nothing before the last `@` is told; and
    nothing at all if there is one behind a `?` or `#`, where it may end a password or be part of one.
    """
    try:
        urllib.parse.urlsplit(url)
    except ValueError:
        return "?"
    scheme, mark, rest = url.partition("://")
    if not (mark and scheme.isalpha()):
        scheme, mark, rest = "", "", url
    place, *parameters = re.split("[?#]", rest, maxsplit=1)
    if "@" in "".join(parameters):
        return f"{scheme}{mark}?"
    return f"{scheme}{mark}{place.rpartition('@')[2]}"


class Waker:
    """A pipe by which any thread, or a signal handler, wakes the one that waits for the wires."""

    def __init__(self) -> None:
        ends: tuple[int, int] = os.pipe()
        self.descriptor: int = ends[0]
        self._far: int = ends[1]
        for end in (self.descriptor, self._far):
            os.set_blocking(end, False)
        self._is_rung = False
        self._finalizer = weakref.finalize(self, _close, self.descriptor, self._far)
        self._finalizer.atexit = False  # the thread may still wait for it

    def ring(self) -> None:
        """Wake who waits, or who waits next; never blocks."""
        if not self._is_rung:
            self._is_rung = True
            with contextlib.suppress(OSError):
                os.write(self._far, b"\0")

    def rearm(self) -> None:
        """Take note of rings from now on; to be called before looking at what they are about."""
        self._is_rung = False

    def wait(self, seconds: float) -> None:
        """Wait until it rings or the time is over."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        if poll.poll(seconds * 1000):
            self.drain()

    def drain(self) -> None:
        """Read away what rang."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self.descriptor, 4096)) == 4096:
                pass

    def close(self) -> None:
        """Close this process's ends."""
        self._finalizer()


class Wires:
    """The two connections, from `open` to `close`. What fails raises the client's errors or an `OSError`."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._talk, self._bell = connect(), connect()
        self._channels: frozenset[str] = frozenset()

    def open(self) -> None:
        """Connect both, and leave the script with the Redis."""
        self._talk.connect()
        self._bell.connect()
        self._load()

    def run(self, calls: Sequence[tuple[str, ...]]) -> list[list[bytes]]:
        """Run the script once with each of the keys and arguments; return the replies in order."""
        replies = self._exchange([("EVALSHA", SHA, *call) for call in calls])
        if any(type(reply).__name__ == "NoScriptError" for reply in replies):  # somebody flushed the scripts
            self._load()
            again = [place for place, reply in enumerate(replies) if type(reply).__name__ == "NoScriptError"]
            for place, reply in zip(again, self._exchange([("EVALSHA", SHA, *calls[at]) for at in again]), strict=True):
                replies[place] = reply
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def listen(self, channels: Iterable[str]) -> None:
        """Have it ring for these channels and no other."""
        wanted = frozenset(channels)
        for command, names in (("SUBSCRIBE", wanted - self._channels), ("UNSUBSCRIBE", self._channels - wanted)):
            if names:
                self._bell.send_command(command, *sorted(names))
        self._channels = wanted

    def wait(self, waker: Waker, seconds: float) -> set[str]:
        """Wait until it rings, the waker does, or the time is over; return the channels that rang."""
        poll = select.poll()
        for descriptor in (waker.descriptor, _descriptor(self._talk), _descriptor(self._bell)):
            poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(max(seconds, 0.0) * 1000)}
        if waker.descriptor in ready:
            waker.drain()
        if _descriptor(self._talk) in ready and self._talk.can_read(0):
            raise ConnectionError("an answer that nobody asked for")
        rang = set()
        while _descriptor(self._bell) in ready and self._bell.can_read(0):
            message = self._bell.read_response()
            if message[0] == b"message":
                rang.add(message[1].decode())
        return rang

    def close(self) -> None:
        """Close both."""
        for connection in (self._talk, self._bell):
            with contextlib.suppress(Exception):
                connection.disconnect()

    def forget(self) -> None:
        """Drop, in a child process, what its parent goes on to use: no word to the Redis."""
        for connection in (self._talk, self._bell):
            with contextlib.suppress(Exception):
                if connection._sock is not None:
                    connection._sock.close()
                    connection._sock = None

    def _load(self) -> None:
        for reply in self._exchange([("SCRIPT", "LOAD", SCRIPT)]):
            if isinstance(reply, Exception):
                raise reply

    def _exchange(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        from redis.exceptions import ResponseError

        talk = self._talk
        talk.send_packed_command(talk.pack_commands(commands), check_health=False)
        replies: list[Any] = []
        for _ in commands:
            if not talk.can_read(TIMEOUT):
                raise TimeoutError("no answer")
            try:
                replies.append(talk.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies


def _descriptor(connection: Connection) -> int:
    sock = connection._sock
    if sock is None:
        raise ConnectionError("the connection is closed")
    return int(sock.fileno())


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
