"""A circuit breaker that many processes share through Redis; extra `redis`.

Each process has its own breaker, which decides every call. What is shared is that it opened, that the fleet is open,
and whose turn the trial is. A thread in the background talks to Redis; a call never does.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import pathlib
import platform
import time
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

from booking_resilience.breaker.core import Core
from booking_resilience.breaker.shared_agent import AGENTS, REGISTRY, Agent
from booking_resilience.breaker.shared_link import Link
from booking_resilience.breaker.shared_script import clean, settings_arguments
from booking_resilience.breaker.shared_wires import place_of, settings_of
from booking_resilience.breaker.snapshots import SharedSnapshot as SharedSnapshot  # the type of `snapshot().shared`
from booking_resilience.checks import check, check_text, check_type, check_whole

__all__ = ["RedisBreaker"]

FAREWELL = 1.0  # seconds that an end waits for what is still to be told


class RedisBreaker:
    """Shares breakers between processes: `CircuitBreaker("appwrite", shared=RedisBreaker(url))`.

    The breakers of one name and one prefix are a fleet. A process whose breaker opens reports it. When processes of
    `min_reporters` machines have reported within one cooldown, the breakers of all processes open; with fewer only
    those that failed. An open fleet makes one trial in all: success closes everyone, failure opens everyone for
    another cooldown. Without Redis each process relies on its own breaker. One object serves any number of
    breakers.

    Making it neither waits for Redis nor raises if there is none: a thread connects in the background, and a forked
    child starts its own.

    Args:
        url: Where the Redis is: `redis://`, `rediss://` (TLS) or `unix://`, with user, password and database if
            need be. With a `client` it only names the Redis in logs.
        prefix: What its keys and channels begin with.
        min_reporters: Machines that must have reported before all open; a whole number, 1 or more.
        machine: What the machine is called that this process counts as; None for the host's own identity, which its
            containers share.
        client: A `redis.Redis`, for its connection settings (Sentinel, certificates, credential providers). It is
            neither used for calls nor closed.

    Raises:
        TypeError: If a setting is of the wrong type.
        ValueError: If a setting is out of its range.
        ImportError: If the extra `redis` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "booking-resilience",
        min_reporters: int = 2,
        machine: str | None = None,
        client: Any = None,
    ) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a string, not a {type(url).__qualname__}")
        if not url:
            raise ValueError("url must be a string that isn't empty")
        check_text("prefix", prefix)
        check_whole("min_reporters", min_reporters)
        if machine is not None:
            check_text("machine", machine)
        library = importlib.import_module("redis")  # now: a thread that imports is in the way of a fork
        is_client = client is None or isinstance(client, library.Redis)
        check_type("client", type(client), is_client, "a redis.Redis or None")
        self._prefix, self._min_reporters = prefix, min_reporters
        self._machine: str = clean(machine or host_identity())
        kind, settings = settings_of(url, client)
        key = url if client is None else client
        with REGISTRY:
            if key not in AGENTS:
                AGENTS[key] = Agent(key, functools.partial(kind, **settings), place_of(url))
            self._agent: Agent = AGENTS[key]
            self._agent.owners.add(self)
            self._agent.start()

    def close(self) -> None:
        """End the sharing: from now on each of its breakers is on its own. Closing twice is harmless.

        It waits up to a second for what was asked for with `fleet=True` to be told.
        """
        if self in self._agent.owners:
            end = time.monotonic() + FAREWELL
            _close([self], end)
            self._agent.wait(end)

    def __repr__(self) -> str:
        return f"<RedisBreaker {self._agent.place} prefix={self._prefix!r} min_reporters={self._min_reporters}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a RedisBreaker can't be copied or pickled: make one in each process, of the same URL")

    def key(self, name: str, kind: str) -> str:
        """Return the Redis key of a breaker's facts; the braces keep a fleet's keys in one slot of a cluster."""
        return clean(f"{self._prefix}:{{{name}}}:{kind}")

    def channel(self, name: str) -> str:
        """Return the channel on which changes of a breaker's fleet are announced."""
        return self.key(name, "changed")

    def _join(self, core: Core) -> Link:
        """Share a breaker, which is made just now."""
        keys, channel = (self.key(core.name, "fleet"), self.key(core.name, "none")), self.channel(core.name)
        settings = self._machine, channel, *settings_arguments(core.machine, self._min_reporters)
        link = Link(weakref.ref(core), self, self._agent.contact, core.name, keys, channel, settings)
        with REGISTRY:
            check("shared", self, self in self._agent.owners, "a RedisBreaker that is not closed")
            self._agent.links = (*self._agent.links, link)
            self._agent.start()
        self._agent.contact.signal.wake()
        return link


def host_identity() -> str:
    """Return what all processes of this host have in common, those in its containers too."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or platform.node()
    except OSError:
        return platform.node()


def _close(owners: list[RedisBreaker], end: float) -> None:
    """Have them tell what was asked for by hand, and free what they hold, until that moment at most."""
    with REGISTRY:
        links = [(owner, link) for owner in owners for link in owner._agent.links if link.owner is owner]
        for owner in owners:
            owner._agent.owners.discard(owner)
        for _, link in links:
            link.is_open = False
            link.contact.signal.wake()
    try:
        while any(owner._agent.is_running and not link.is_told for owner, link in links) and time.monotonic() < end:
            time.sleep(0.002)
    finally:
        for owner in owners:
            owner._agent.leave(owner)


def _at_exit() -> None:
    _close([owner for agent in list(AGENTS.values()) for owner in agent.owners], time.monotonic() + FAREWELL)


def _for_each_agent(act: Callable[[Agent], object]) -> None:
    for agent in list(AGENTS.values()):
        act(agent)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _for_each_agent(lambda agent: agent.gate.before_fork()),
        after_in_parent=lambda: _for_each_agent(lambda agent: agent.gate.after_fork()),
        after_in_child=lambda: _for_each_agent(Agent.reborn),
    )
atexit.register(_at_exit)


def __dir__() -> list[str]:
    return sorted(__all__)
