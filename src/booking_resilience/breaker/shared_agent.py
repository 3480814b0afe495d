"""The thread that talks to Redis for all shared breakers of a process: one for each Redis, which is one as a rule.

It sleeps until a breaker has something to tell, Redis rings, or a second is over. Redis rings by pub/sub, and says no
more than that something changed: what is so is always read, so that no message can come late or out of order. If
anything fails, it begins anew.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import os
import threading
import time
import uuid
import weakref
from typing import TYPE_CHECKING, TypeAlias

from booking_resilience.breaker.breaker import _LOCK
from booking_resilience.breaker.shared_link import Message
from booking_resilience.breaker.shared_news import arguments, collect, forked, hear, left, wants_lease
from booking_resilience.breaker.shared_script import Fact
from booking_resilience.breaker.shared_wires import Connection, Waker, Wires
from booking_resilience.breaker.telling import deliver, logger
from booking_resilience.locks import fork_safe_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from booking_resilience.breaker.breaker import CircuitBreaker
    from booking_resilience.breaker.shared import RedisBreaker
    from booking_resilience.breaker.shared_link import Link

READ_EVERY = 1.0  # seconds
RETRY_EVERY = 0.3  # seconds between two attempts to reach a Redis that is gone
FAREWELL = 1.0  # seconds that an end waits for what is still to be told

Entry: TypeAlias = "tuple[weakref.ref[CircuitBreaker], Link]"

_REGISTRY = fork_safe_lock()
# Held while connecting, and so over every fork: a client imports modules when it first connects, and a child that is
# forked in the middle of an import has a module that nobody will ever finish.
_CONNECTING = fork_safe_lock()
_AGENTS: dict[object, Agent] = {}
_reporter = uuid.uuid4().hex  # this process among those that report: one, by however many ways it reaches a Redis


def agent_for(key: object, connect: Callable[[], Connection], place: str, owner: RedisBreaker) -> Agent:
    """Return the agent of that Redis, started if there is none yet; it lives as long as one of its owners."""
    with _REGISTRY:
        agent = _AGENTS.get(key)
        if agent is None:
            agent = _AGENTS[key] = Agent(key, connect, place)
        agent._owners = (*agent._owners, weakref.ref(owner))
        agent.start()
    return agent


class Agent:
    """What one process has to do with one Redis."""

    def __init__(self, key: object, connect: Callable[[], Connection], place: str) -> None:
        self._key, self._connect, self._place = key, connect, place
        self._owners: tuple[weakref.ref[RedisBreaker], ...] = ()
        self._entries: tuple[Entry, ...] = ()
        self.is_connected: bool = False
        self._heard = float("-inf")  # when Redis last answered, in real monotonic seconds
        self._is_warned = False
        self._ending: float | None = None  # until when it tells what is left to tell; None while it has an owner
        self._thread: threading.Thread | None = None
        self._wires: Wires | None = None
        self._begin_life()

    # -- for breakers

    def is_fresh(self, seconds: float) -> bool:
        """Tell whether Redis answered within so many seconds, and was not found gone since."""
        return time.monotonic() - self._heard < seconds

    def wake(self) -> None:
        """Have it look at once at what there is to tell; no call of the network, and it never blocks."""
        self._waker.ring()

    def join(self, breaker: CircuitBreaker, link: Link) -> None:
        """Take a breaker in."""
        with _REGISTRY:
            self._entries = (*self._entries, (weakref.ref(breaker), link))
        self.wake()

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            name = f"booking-resilience {self._place}"
            thread = threading.Thread(target=self._run, args=(self._process,), name=name, daemon=True)
            thread.start()
            self._thread = thread

    def leave(self, owner: RedisBreaker) -> None:
        """Let an owner that is closed go, once what it had to tell is told or `FAREWELL` is over."""
        self.wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            end = time.monotonic() + FAREWELL
            owner._has_left.wait(FAREWELL)
            if self._ending is not None:
                thread.join(max(end - time.monotonic(), 0.1))

    # -- the thread

    def _begin_life(self) -> None:
        """Be what each process has of its own: a name for this life, a pipe, a thread."""
        self._process, self._numbers, self._waker = uuid.uuid4().hex, itertools.count(), Waker()

    def _run(self, process: str) -> None:
        while self._process == process:
            try:
                with _CONNECTING:
                    if self._process != process:  # forked from within a listener: this thread is the child's main one
                        return
                    self._wires = Wires(self._connect)
                    self._wires.open()
                    self._listen()
                    told = self._talk(set(), everyone=True, is_first=True)
                try:
                    told += self._talk(set(), everyone=False)  # one that refuses what there is to tell is not back
                    self._reached()
                finally:
                    self._tell(told)
                self._serve(process)
            except Exception as error:  # noqa: BLE001 - whatever it is, the breakers go on by themselves
                if self._process == process:
                    self._lost(error)
            finally:
                if self._process == process and self._wires is not None:
                    self._wires.close()
                    self._wires = None
            if self._process != process or self._is_over():
                return
            self._pause(process)

    def _serve(self, process: str) -> None:
        """Talk until there is nobody left to talk for."""
        rang: set[str] = set()
        next_read = time.monotonic() + READ_EVERY
        while self._process == process and not self._is_over():
            self._listen()
            self._waker.rearm()
            now = time.monotonic()
            is_due = now >= next_read
            next_read = now + READ_EVERY if is_due else next_read
            self._tell(self._talk(rang, everyone=is_due))
            if self._process != process:
                return
            wires = self._wires
            if wires is not None and not self._is_over():
                rang = wires.wait(self._waker, self._time_left(next_read))

    def _listen(self) -> None:
        if self._wires is not None:
            self._wires.listen(link.owner.channel(link.name) for _, link in self._entries)

    def _talk(self, rang: set[str], *, everyone: bool, is_first: bool = False) -> list[CircuitBreaker]:
        """Tell Redis what there is to tell, read what is due, and follow it; return the breakers with new moves."""
        now, batch = time.monotonic(), []
        for ref, link in self._entries:
            with _LOCK:
                if link.owner._closed or ref() is None:
                    left(link)
                messages = [] if is_first else collect(link, now)
            if not messages and (link.fact is None or everyone or link.owner.channel(link.name) in rang):
                messages = [Message("read", now)]
            batch += [(ref, link, message) for message in messages]
        if not batch or self._wires is None:
            return []
        replies = self._wires.run([self._call(link, message) for _, link, message in batch])
        self._heard = time.monotonic()
        moved = []
        for (ref, link, message), reply in zip(batch, replies, strict=True):
            fact, breaker = Fact.parse(reply), ref()
            with _LOCK:
                hear(link, message, fact)
            if breaker is not None and breaker._machine.moves and breaker not in moved:
                moved.append(breaker)
        return moved

    def _call(self, link: Link, message: Message) -> tuple[str, ...]:
        owner, fresh = link.owner, f"{self._process}-{next(self._numbers)}-"
        facts = _reporter, link.identity, fresh, owner.channel(link.name)
        subject, detail = arguments(message, time.monotonic())
        keys = owner.key(link.name, "fleet"), owner.key(link.name, "reports")
        return "2", *keys, message.kind, *facts, *link.settings.arguments(), subject, detail

    def _tell(self, breakers: list[CircuitBreaker]) -> None:
        """Tell the listeners; called with no lock held, since they are user code."""
        for breaker in breakers:
            for _ in breaker._machine.moves:
                with contextlib.suppress(BaseException):  # a listener's SystemExit must not end the sharing
                    deliver(breaker, _LOCK)
        breakers.clear()

    def _time_left(self, next_read: float) -> float:
        now, due = time.monotonic(), next_read
        for _, link in self._entries:
            with _LOCK:
                if link.is_urgent:
                    due = now
                elif wants_lease(link, now):
                    due = min(due, max(link.next_ask, now + 0.001))
        return due - now

    def _is_over(self) -> bool:
        """Let go who has left, and tell whether nobody is left; the agent's life ends with that."""
        now = time.monotonic()
        with _REGISTRY:
            kept = []
            for ref, link in self._entries:
                is_gone = ref() is None or link.owner._closed
                is_done = link.command is None and (link.lease is None or not self.is_connected)
                if not is_gone or not (is_done or (self._ending is not None and now >= self._ending)):
                    kept.append((ref, link))
            self._entries = tuple(kept)
            owners = [owner for owner in (ref() for ref in self._owners) if owner is not None]
            busy = {id(link.owner) for _, link in kept}
            for owner in owners:
                if owner._closed and id(owner) not in busy:
                    owner._has_left.set()
            owners = [owner for owner in owners if not owner._closed]
            self._owners = tuple(weakref.ref(owner) for owner in owners)
            if owners:
                self._ending = None
                return False
            if self._ending is None:
                self._ending = now + FAREWELL
            if kept and now < self._ending:
                return False
            if _AGENTS.get(self._key) is self:
                del _AGENTS[self._key]
            return True

    def _pause(self, process: str) -> None:
        """Wait before the next attempt; what wakes it is not gone into, an end is."""
        end = time.monotonic() + RETRY_EVERY
        while self._process == process and (left := end - time.monotonic()) > 0:
            self._waker.rearm()
            self._waker.wait(left)
            if self._ending is None and all(owner is None or owner._closed for owner in (r() for r in self._owners)):
                return

    def _reached(self) -> None:
        self.is_connected, self._heard = True, time.monotonic()
        if self._is_warned:
            self._is_warned = False
            self._log(logging.INFO, "Redis at %s is back: its breakers are shared again", None)

    def _lost(self, error: BaseException) -> None:
        self.is_connected, self._heard = False, float("-inf")
        if not self._is_warned:
            self._is_warned = True
            self._log(logging.WARNING, "Redis at %s cannot be reached (%s): each process goes by itself", error)

    def _log(self, level: int, text: str, error: BaseException | None) -> None:
        """Log a line; of an error its type alone, since texts hold secrets."""
        kind = type(error).__name__
        with contextlib.suppress(Exception):  # a logging handler that raises
            facts = (self._place,) if error is None else (self._place, kind)
            logger.log(level, text, *facts, extra={"redis": self._place, "error": None if error is None else kind})

    def _reborn(self) -> None:
        """Begin anew in a child process; what there was to tell is its parent's to tell."""
        self._waker.close()
        if self._wires is not None:
            self._wires.forget()
            self._wires = None
        self.is_connected, self._is_warned, self._thread, self._ending = False, False, None, None
        for owner in [ref() for ref in self._owners]:
            if owner is not None:
                owner._has_left = threading.Event()  # a thread that is no more may have held the old one's lock
        for _, link in self._entries:
            forked(link)
        self._begin_life()
        with contextlib.suppress(RuntimeError):  # no more threads: then the child goes by itself
            self.start()


def _after_fork() -> None:
    global _reporter
    _reporter = uuid.uuid4().hex
    for agent in list(_AGENTS.values()):
        agent._reborn()


def _at_exit() -> None:
    """Give back what is held and tell what was asked for by hand, within a second."""
    owners = [(agent, owner) for agent in list(_AGENTS.values()) for ref in agent._owners if (owner := ref())]
    for agent, owner in owners:
        owner._closed = True
        agent.wake()
    end = time.monotonic() + FAREWELL
    for _, owner in owners:
        owner._has_left.wait(max(end - time.monotonic(), 0.0))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
