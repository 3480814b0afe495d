"""Connections to a Redis, of the official client: one to ask on (`Wire`), and one that hears of changes (`Bell`).

The client's connections are used without its pool, its retries and its settings of answers, so that a Redis that
does not answer is noticed in time, an error of one breaker is no other's, and a client that was given stays as it was.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import re
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import redis

Connection: TypeAlias = Any  # the client's; its annotations differ from version to version

TIMEOUT = 2.0  # seconds without an answer after which a Redis counts as gone
CONNECT_TIMEOUT = 1.0  # seconds for the connection itself, so that one is back within 2 seconds of the Redis
RETRY_EVERY = 0.3  # seconds between two attempts to reach a Redis that is gone
LOOK_EVERY = 0.25  # seconds between two looks of a bell at which channels are wanted
KNOCK_EVERY = 1.0  # seconds between two signs of life that a bell asks for
_OF_THE_POOL = ("maint_", "oss_", "orig_", "event_dispatcher")  # what only a pool with push messages makes use of


def connector(url: str, client: redis.Redis | None) -> Callable[[], Connection]:
    """Return a function that makes a connection, not yet connected, as the client or the URL says.

    Raises:
        ValueError: If it isn't a URL.
    """
    kind, settings = settings_of(url, client)
    return functools.partial(kind, **settings)


def settings_of(url: str, client: redis.Redis | None) -> tuple[Callable[..., Connection], dict[str, Any]]:
    """Return the class of connections, and what to make them with, as the client or the URL says.

    Raises:
        ValueError: If it isn't a URL; the message has nothing of it, since it may hold a password.
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
            raise ValueError("url must be a complete URL that begins with redis://, rediss:// or unix://") from None
    kind: Callable[..., Any] = pool.connection_class
    given = {name: value for name, value in pool.connection_kwargs.items() if not name.startswith(_OF_THE_POOL)}
    ours = {
        "socket_timeout": TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "retry_on_timeout": False,
        "retry_on_error": [],
        "health_check_interval": 0,
        "decode_responses": False,
        "encoding": "utf-8",
        "encoding_errors": "strict",
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
    }
    return kind, {**given, **ours}


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


class Wire:
    """A connection, from the call to `close`. What fails raises the client's errors or an `OSError`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        connection.connect()
        self._identity = self._descriptor()

    def send(self, commands: Sequence[tuple[str, ...]]) -> None:
        """Send commands, whose answers `read` gives in order."""
        self._check()
        self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)

    def read(self, seconds: float | None = None) -> Any:
        """Return the next answer, which may be an error; None if none comes within so many seconds."""
        self._check()
        if seconds is not None and not self._connection.can_read(seconds):
            return None
        try:
            return self._connection.read_response()
        except importlib.import_module("redis").ResponseError as error:
            return error

    def close(self) -> None:
        """Close it; in a child process only its own end, so that its parent can go on to use it."""
        with contextlib.suppress(Exception):
            self._check()
        with contextlib.suppress(Exception):
            self._connection.disconnect()

    def _check(self) -> None:
        """Raise an error if somebody closed the descriptor, as daemons do; its number may be another file's by now."""
        if self._descriptor() != self._identity:
            with contextlib.suppress(Exception):
                self._connection._sock.detach()  # or the client would write to, and close, what is not its own
            raise ConnectionError("the connection was closed by somebody else")

    def _descriptor(self) -> tuple[int, int] | None:
        try:
            found = os.fstat(self._connection._sock.fileno())
        except (AttributeError, OSError):  # it is closed; or a descriptor is no file here, as on Windows
            return None
        return found.st_dev, found.st_ino


class Bell:
    """Listens to channels, until it is stopped, and rings when something was announced. Runs on a thread of its own.

    Args:
        connect: Makes the connection.
        wanted: Returns the channels to listen to.
        ring: Called with the channel; also once it is listened to, since something may have changed before.
        refused: Called with the error if Redis does not let it listen.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        wanted: Callable[[], Iterable[str]],
        ring: Callable[[str], None],
        refused: Callable[[Exception], None],
    ) -> None:
        self._connect, self._wanted, self._ring, self._refused = connect, wanted, ring, refused
        self.is_stopped: bool = False
        self.wire: Wire | None = None

    def run(self) -> None:
        """Listen; after an error anew, after a pause."""
        while not self.is_stopped:
            try:
                self.wire = Wire(self._connect())
                self._listen(self.wire)
            except Exception:  # noqa: BLE001 - whatever it is: changes are read once a second all the same
                time.sleep(RETRY_EVERY)
            finally:
                if self.wire is not None:
                    self.wire.close()

    def _listen(self, wire: Wire) -> None:
        heard, knocked = time.monotonic(), float("-inf")
        before: set[str] = set()
        listened: set[str] = set()
        while not self.is_stopped:
            now, wanted = time.monotonic(), set(self._wanted())
            if wanted != before or now - knocked >= KNOCK_EVERY:
                # One is asked for again, to hear a sign of life; a PING would need one right more.
                new = [("SUBSCRIBE", channel) for channel in (wanted - listened) | set(sorted(listened & wanted)[:1])]
                wire.send([*new, *(("UNSUBSCRIBE", channel) for channel in listened - wanted)])
                before, knocked = wanted, now
                listened &= wanted
            answer = wire.read(LOOK_EVERY)
            if answer is None and wanted and now - heard > KNOCK_EVERY + TIMEOUT:
                raise TimeoutError("no answer")
            if answer is None and wanted:
                continue
            heard = now
            if isinstance(answer, Exception):
                self._refused(answer)
            elif answer is not None and answer[0] in (b"message", b"subscribe"):
                channel = answer[1].decode()
                if answer[0] == b"message" or channel not in listened:
                    self._ring(channel)
                listened.add(channel)
