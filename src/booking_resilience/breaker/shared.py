"""A circuit breaker that many processes share through Redis; extra `redis`.

Each process has its own breaker, which decides every call. What is shared is that it opened, that the fleet is open,
and whose turn the trial is. A thread in the background talks to Redis; a call never does.
"""

from __future__ import annotations

import importlib
import select
import threading
from typing import TYPE_CHECKING

from booking_resilience.breaker.breaker import _LOCK
from booking_resilience.breaker.permits import SharedSnapshot as SharedSnapshot  # the type of `snapshot().shared`
from booking_resilience.breaker.shared_agent import agent_for
from booking_resilience.breaker.shared_link import Link
from booking_resilience.breaker.shared_script import Settings, clean
from booking_resilience.breaker.shared_wires import connector, place_of
from booking_resilience.checks import check, is_text, is_whole

if TYPE_CHECKING:
    import redis

    from booking_resilience.breaker.breaker import CircuitBreaker

__all__ = ["RedisBreaker"]


class RedisBreaker:
    """Shares breakers between processes: `CircuitBreaker("appwrite", shared=RedisBreaker(url))`.

    The breakers of one name and one prefix are a fleet. A process whose breaker opens reports it. When `min_reporters`
    processes have reported within one cooldown, the breakers of all processes open; with fewer only those that failed.
    An open fleet makes one trial in all: success closes everyone, failure opens everyone for another cooldown. While
    Redis is out of reach each process goes by its own breaker. One object serves any number of breakers.

    Making it neither waits for Redis nor raises if there is none: a thread connects in the background, and a forked
    child starts its own.

    Args:
        url: Where the Redis is: `redis://`, `rediss://` (TLS) or `unix://`, with user, password and database if
            need be. With a `client` it only names the Redis in logs.
        prefix: What its keys and channels begin with.
        min_reporters: Processes that must have reported before all open; a whole number, 1 or more.
        client: A `redis.Redis`, for its connection settings (Sentinel, certificates, credential providers). It is
            neither used for calls nor closed.

    Raises:
        ValueError: If a setting is out of its range.
        ImportError: If the extra `redis` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "booking-resilience",
        min_reporters: int = 2,
        client: redis.Redis | None = None,
    ) -> None:
        if not is_text(url):
            raise ValueError("url must be a text that is not empty")
        check("prefix", prefix, is_text(prefix), "a text that is not empty")
        check("min_reporters", min_reporters, is_whole(min_reporters), "a whole number, 1 or more")
        library = importlib.import_module("redis")  # now: a thread that imports is in the way of a fork
        if client is not None and not isinstance(client, library.Redis):
            raise ValueError(f"client must be a redis.Redis or None, not a {type(client).__qualname__}")
        if not hasattr(select, "poll"):
            raise ImportError("sharing a breaker needs a system with poll(), which Windows has not")
        self._prefix, self._min_reporters = prefix, min_reporters
        self._closed, self._has_left = False, threading.Event()
        self._agent = agent_for(url if client is None else client, connector(url, client), place_of(url), self)

    def close(self) -> None:
        """End the sharing: from now on each of its breakers goes by itself. Closing twice is harmless.

        It waits up to a second for what was asked for with `fleet=True` to be told.
        """
        with _LOCK:
            was_closed, self._closed = self._closed, True
        if not was_closed:
            self._agent.leave(self)

    def __repr__(self) -> str:
        return f"<RedisBreaker {self._agent._place} prefix={self._prefix!r} min_reporters={self._min_reporters}>"

    def key(self, name: str, kind: str) -> str:
        """Return the Redis key of a breaker's facts; the braces keep a fleet's keys in one slot of a cluster."""
        return clean(f"{self._prefix}:{{{name}}}:{kind}")

    def channel(self, name: str) -> str:
        """Return the channel on which changes of a breaker's fleet are announced."""
        return self.key(name, "changed")

    def _join(self, breaker: CircuitBreaker) -> Link:
        """Share a breaker, which is made just now."""
        check("shared", self, not self._closed, "a RedisBreaker that is not closed")
        machine = breaker._machine
        settings = Settings(
            cooldown=machine.cooldown,
            max_cooldown=machine.max_cooldown,
            trial_calls=machine.trial_calls,
            trial_timeout=machine.trial_timeout,
            min_reporters=self._min_reporters,
        )
        link = Link(breaker.name, machine, self, settings)
        self._agent.join(breaker, link)
        return link


def __dir__() -> list[str]:
    return sorted(__all__)
