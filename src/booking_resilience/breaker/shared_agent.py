"""What one process has to do with one Redis: a thread that talks to it for all breakers that are shared through it.

It sleeps until a breaker has something to tell, Redis rings, or a second is over. Pub/sub only notifies; the state is
always read, so that no message can come late or out of order. If anything fails, it begins anew. Listeners are told on
threads of their own, one for each breaker that has something to tell.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import threading
import time
import uuid
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from booking_resilience.breaker.shared_link import Link
from booking_resilience.breaker.shared_parts import Contact, Message, Owner
from booking_resilience.breaker.shared_script import SCRIPT, SHA, Fact
from booking_resilience.breaker.shared_threads import ForkGate, start_thread
from booking_resilience.breaker.shared_wires import RETRY_EVERY, Bell, Wire
from booking_resilience.locks import fork_safe_lock
from booking_resilience.signals import ThreadSignal

if TYPE_CHECKING:
    from collections.abc import Callable

    from booking_resilience.breaker.core import Core
    from booking_resilience.breaker.shared_wires import Connection

READ_EVERY = 1.0  # seconds
FAREWELL = 1.0  # seconds that an end waits for what is still to be told
SETTLE = 0.1  # seconds after a fork before a child connects: a daemon closes all descriptors first
logger: logging.Logger = logging.getLogger("booking_resilience.breaker")

REGISTRY = fork_safe_lock()  # held while agents, their owners and their links change
AGENTS: dict[object, Agent] = {}


class Agent:
    """The thread, and what it needs; it lives as long as one of its owners."""

    def __init__(self, key: object, connect: Callable[[], Connection], place: str) -> None:
        self.place: str = place
        self._key = key
        self._connect = connect
        self._owners: tuple[weakref.ref[Owner], ...] = ()
        self.links: tuple[Link, ...] = ()
        self.contact: Contact = Contact()
        self._begin_life(0.0)

    def _begin_life(self, settle: float) -> None:
        """Be what each process has of its own."""
        self._life, self._numbers, self._settle = uuid.uuid4().hex, itertools.count(), settle
        self.contact.rang, self.contact.signal, self.contact.is_connected = deque(), ThreadSignal(), False
        self.gate: ForkGate = ForkGate()
        self._warned: set[str] = set()
        self._ending: float | None = None  # until when it tells what is left to tell; None while it has an owner
        self._wire: Wire | None = None
        self._bell: Bell = Bell(
            self._connect, lambda: [link.channel for link in self.links], self.contact.ring, self._deaf
        )
        self._thread: threading.Thread | None = None
        self._listener: threading.Thread | None = None

    # -- for breakers and their owners

    def own(self, owner: Owner) -> None:
        """Live for this owner, too."""
        self._owners = (*self._owners, weakref.ref(owner))
        if self._thread is None:
            run = functools.partial(self._run, self._life)
            try:
                self._thread = start_thread(run, f"booking-resilience {self.place}")
            except RuntimeError as error:  # no more threads, or none in this subinterpreter
                self._lost(error)

    def owners(self) -> list[Owner]:
        """Return its owners, those that are closed and not yet let go, too."""
        return [owner for owner in [ref() for ref in self._owners] if owner is not None]

    def join(self, link: Link) -> None:
        """Take a breaker in."""
        with REGISTRY:
            self.links = (*self.links, link)
        self.contact.ring()

    def leave(self, owner: Owner) -> None:
        """Let an owner that is closed go, once what it had to tell is told or `FAREWELL` is over."""
        self.contact.ring()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            end = time.monotonic() + FAREWELL
            while thread.is_alive() and any(link.owner is owner for link in self.links) and time.monotonic() < end:
                time.sleep(0.002)
            if all(other._closed for other in self.owners()):
                thread.join(max(end - time.monotonic(), 0.1))

    def reborn(self) -> None:
        """Begin anew in a child process; what there was to tell is its parent's to tell."""
        for wire in (self._wire, self._bell.wire):
            if wire is not None:
                wire.close()
        owners, self._owners = self.owners(), ()
        self._begin_life(SETTLE)
        for link in self.links:
            link.forked()
        for owner in owners:
            self.own(owner)

    # -- the thread

    def _run(self, life: str) -> None:
        time.sleep(self._settle)
        while True:
            try:
                with self.gate:
                    self._wire = Wire(self._connect())
                self._talk(set(), everyone=True)
                self._reached()
                self._tell()
                self._serve(life)
            except Exception as error:  # noqa: BLE001 - whatever it is, the breakers go on by themselves
                self._lost(error)
            finally:
                if self._wire is not None and self._life == life:
                    self._wire.close()
                    self._wire = None
            if self._ends(life):
                break
            self._pause(life)
        if self._listener is not None and self._life == life:
            self._bell.is_stopped = True
            self._listener.join(FAREWELL)

    def _serve(self, life: str) -> None:
        """Talk until there is nobody left to talk for."""
        rang: set[str] = set()
        next_read = time.monotonic() + READ_EVERY
        while not self._ends(life):
            now = time.monotonic()
            is_due = now >= next_read
            next_read = now + READ_EVERY if is_due else next_read
            self._talk(rang, everyone=is_due)
            self._tell()
            now = time.monotonic()
            dues = [max(link.asks_at(now), now + 0.001) for link in self.links]
            rang = self.contact.wait(min(next_read, *dues, next_read) - now)

    def _talk(self, rang: set[str], *, everyone: bool) -> None:
        """Tell Redis what there is to tell, read what is due, and follow it."""
        now, batch = time.monotonic(), []
        for link in self.links:
            messages = link.messages(now)
            is_new = link.fact is None and not link.is_refused
            if not messages and (everyone or is_new or link.channel in rang):
                messages = [Message("read", now)]
            batch += [(link, message) for message in messages]
        if not batch:
            return
        answers = self._run_script([self._call(link, message, now) for link, message in batch])
        failed: dict[Link, Exception] = {}
        for (link, message), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                failed[link] = answer
                continue
            self.contact.heard = time.monotonic()
            self.contact.under_way = self.contact.heard - now
            if link.is_refused:
                self._warned.discard(f"refused {link.channel}")
            fact = Fact.parse(answer)
            link.hear(message, fact, now)
            if fact.muted:
                self._deaf(PermissionError())
        if failed and all(link in failed or link.is_refused for link in self.links):
            raise next(iter(failed.values()))
        new = {link: error for link, error in failed.items() if not link.is_refused}
        if new and not everyone:  # is it the Redis, or these breakers alone?
            self._talk(set(), everyone=True)
            return
        for link, error in new.items():
            link.is_refused = True
            text = "Redis at %s rejects (%s) the breaker %r, which is not shared"
            self._warn(f"refused {link.channel}", text, error, link.name)

    def _call(self, link: Link, message: Message, now: float) -> tuple[str, ...]:
        owner, fresh = link.owner, f"{self._life}-{next(self._numbers)}-"
        keys = owner.key(link.name, "fleet"), owner.key(link.name, "none")
        about = message.arguments(now, self.contact.under_way)
        return "EVALSHA", SHA, "2", *keys, message.kind, owner._machine, fresh, link.channel, *link.settings, *about

    def _run_script(self, calls: list[tuple[str, ...]]) -> list[Any]:
        """Run the script with each call; return the answers, errors among them."""
        wire = self._wire
        if wire is None:  # forked
            return []
        wire.send(calls)
        answers = [wire.read() for _ in calls]
        again = [at for at, answer in enumerate(answers) if type(answer).__name__ == "NoScriptError"]
        if again:  # this Redis never had it, or somebody flushed the scripts
            wire.send([("SCRIPT", "LOAD", SCRIPT), *(calls[at] for at in again)])
            loaded = wire.read()
            for at in again:
                answers[at] = loaded if isinstance(loaded, Exception) else wire.read()
        return answers

    def _tell(self) -> None:
        """Have the listeners told, each breaker's on a thread of its own: one that takes long delays nobody else's."""
        for link in self.links:
            core = link.core()
            if core is None or not _untold(core):
                continue
            try:
                start_thread(functools.partial(_tell, core), f"booking-resilience tells {core.name}")
            except RuntimeError:  # no more threads
                _tell(core)

    def _ends(self, life: str) -> bool:
        """Let go who has left, and tell whether nobody is left; the agent's life ends with that."""
        if self._life != life:  # forked by a logging handler: this thread is the child's main one
            return True
        now = time.monotonic()
        with REGISTRY:
            is_late = self._ending is not None and now >= self._ending
            self.links = tuple(link for link in self.links if link.is_live or not (is_late or link.is_told))
            if not all(owner._closed for owner in self.owners()):
                self._ending = None
                return False
            self._ending = self._ending or now + FAREWELL
            if self.links and not is_late:
                return False
            if AGENTS.get(self._key) is self:
                del AGENTS[self._key]
            return True

    def _pause(self, life: str) -> None:
        """Wait before the next attempt; what wakes it is not gone into, an end is."""
        end = time.monotonic() + RETRY_EVERY
        while self._life == life and time.monotonic() < end:
            self.contact.wait(end - time.monotonic())
            if self._ending is None and all(owner._closed for owner in self.owners()):
                return

    def _reached(self) -> None:
        self.contact.is_connected = True
        if self._listener is None:
            with contextlib.suppress(RuntimeError):  # no more threads: then changes are read once a second
                self._listener = start_thread(self._bell.run, f"booking-resilience listens {self.place}")
        if "lost" in self._warned:
            self._warned.discard("lost")
            self._log(logging.INFO, "Redis at %s is back: its breakers are shared again")

    def _lost(self, error: Exception) -> None:
        self.contact.is_connected, self.contact.heard = False, float("-inf")
        self._warn("lost", "Redis at %s cannot be reached (%s): its breakers are not shared", error)

    def _deaf(self, error: Exception) -> None:
        self._warn("deaf", "Redis at %s rejects a channel (%s): changes are read once a second", error)

    def _warn(self, what: str, text: str, error: Exception, *more: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            self._log(logging.WARNING, text, type(error).__name__, *more)  # not its text, which may hold secrets

    def _log(self, level: int, text: str, *facts: str) -> None:
        with contextlib.suppress(Exception):  # a logging handler that raises
            extra = {"redis": self.place, "error": facts[0] if facts else None}
            logger.log(level, text, self.place, *facts, extra=extra)


def _untold(core: Core) -> int:
    news = core.newest().news
    return len(news.untold) if news.process == os.getpid() else 0


def _tell(core: Core) -> None:
    for _ in range(_untold(core)):
        with contextlib.suppress(BaseException):  # a listener's SystemExit is no other listener's
            core.tell()
