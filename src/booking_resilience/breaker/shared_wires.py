"""How a Redis is reached: what its connections are made with, what it's called in logs, and what a fork waits for."""

from __future__ import annotations

import re
import sys
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

from booking_resilience.locks import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

TIMEOUT = 2.0  # seconds without an answer after which a Redis counts as gone
CONNECT_TIMEOUT = 1.0  # seconds for the connection itself, so that one is back within 2 seconds of the Redis
PATIENCE = 0.1  # seconds that a fork waits for a connection that is being made
LONGEST_IMPORT = 5.0  # seconds that it waits for an import
_OF_THE_POOL = ("maint_", "oss_", "orig_", "event_dispatcher")  # what only a pool with push messages makes use of


def settings_of(url: str, client: redis.Redis | None) -> tuple[Callable[..., Any], dict[str, Any]]:
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


class ForkGate:
    """Held while connecting, and so over a fork.

    A client imports modules when it first connects, and a child that is forked in the middle of an import has a module
    that nobody will ever finish. So a fork waits for an import, but only a moment for a Redis that does not answer.
    """

    def __init__(self) -> None:
        self._lock = new_lock()
        self._thread = 0  # that connects
        self._is_held = False  # by a fork

    def __enter__(self) -> None:
        self._lock.acquire()
        self._thread = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait until it is safe to fork."""
        begin = imported = time.monotonic()
        while not self._lock.acquire(timeout=0.005):
            now = time.monotonic()
            imported = now if self._imports() else imported
            if now - imported > PATIENCE or now - begin > LONGEST_IMPORT:
                return
        self._is_held = True

    def after_fork(self) -> None:
        """Go on, in the parent."""
        if self._is_held:
            self._is_held = False
            self._lock.release()

    def _imports(self) -> bool:
        frame = sys._current_frames().get(self._thread)
        while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
            frame = frame.f_back
        return frame is not None
