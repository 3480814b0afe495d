"""What one process has to do with one Redis: a thread that talks to it for all breakers that are shared through it.

It sleeps until a breaker has something to tell, a change was announced, or a second is over. A second thread hears of
changes. It only notifies: the state is always read, so that no message can come late or out of order. If anything
fails, they begin anew. Listeners are told on threads of their own, one for each breaker that has something to tell.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import threading
import time
import uuid
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from booking_resilience.breaker.shared_link import Link
from booking_resilience.breaker.shared_parts import Contact, Message
from booking_resilience.breaker.shared_script import SCRIPT, SHA, Fact
from booking_resilience.breaker.shared_wires import TIMEOUT, ForkGate
from booking_resilience.locks import fork_safe_lock
from booking_resilience.signals import ThreadSignal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from booking_resilience.breaker.core import Core

Connection: TypeAlias = Any  # the client's; its annotations differ from version to version

READ_EVERY = 1.0  # seconds
RETRY_EVERY = 0.3  # seconds between two attempts to reach a Redis that is gone
LOOK_EVERY = 0.25  # seconds between two looks at which channels are wanted
KNOCK_EVERY = 1.0  # seconds between two signs of life that are asked for where changes are heard
SETTLE = 0.1  # seconds after a fork before a child connects: a daemon closes all descriptors first
logger: logging.Logger = logging.getLogger("booking_resilience.breaker")

REGISTRY = fork_safe_lock()  # held while agents, their owners and their links change
AGENTS: dict[object, Agent] = {}


class Agent:
    """The threads, and what they need; they live as long as one of the owners is there and open."""

    def __init__(self, key: object, connect: Callable[[], Connection], place: str) -> None:
        self.place: str = place
        self._key, self._connect = key, connect
        self.owners: weakref.WeakSet[Any] = weakref.WeakSet()  # each `RedisBreaker` of it that is open
        self.links: tuple[Link, ...] = ()
        self.contact: Contact = Contact()
        self._begin_life()

    def _begin_life(self) -> None:
        """Begin what each process has of its own."""
        self.contact.signal, self.contact.is_connected = ThreadSignal(), False
        self.gate: ForkGate = ForkGate()
        self._connections: set[Connection] = set()
        self._warned: set[str] = set()
        self._threads: list[threading.Thread] = []

    # -- for breakers and their owners

    @property
    def is_running(self) -> bool:
        """Whether it has a thread; it has none as long as the system gives none."""
        return bool(self._threads)

    def start(self, settle: float = 0.0) -> None:
        """Start its thread if it has none, for an owner or a breaker that is new."""
        if self.is_running:
            return
        try:
            self._threads.append(_start(functools.partial(self._run, settle), f"booking-resilience {self.place}"))
        except RuntimeError as error:  # no more threads, or no daemons in this subinterpreter
            self._lost(error)

    def leave(self, owner: object) -> None:
        """Let the breakers of an owner go that is closed."""
        with REGISTRY:
            self.links = tuple(link for link in self.links if link.owner is not owner)
            if not self.is_running:
                self._is_over()  # no thread of its own finds out
        self.contact.signal.wake()

    def wait(self, end: float) -> None:
        """Wait until its threads have ended, for they do if nobody is left; until then at most."""
        for thread in [] if self.owners else self._threads:
            if thread is not threading.current_thread():
                thread.join(max(end - time.monotonic(), 0.0))

    def reborn(self) -> None:
        """Begin anew in a child process; what there was to tell is its parent's to tell."""
        for connection in self._connections:
            connection.disconnect()  # only the child's end of it
        for link in self.links:
            link.forked()
        self._begin_life()
        self.start(SETTLE)

    # -- the thread that talks

    def _run(self, settle: float) -> None:
        time.sleep(settle)
        while not self._is_over():
            try:
                with self._connected() as connection:
                    self._serve(connection)
            except Exception as error:  # noqa: BLE001 - whatever it is, the breakers go on by themselves
                self._lost(error)
                time.sleep(RETRY_EVERY)

    def _serve(self, connection: Connection) -> None:
        """Talk until there is nobody left to talk for."""
        next_read = 0.0
        while not self._is_over():
            now = time.monotonic()
            is_due = now >= next_read
            next_read = now + READ_EVERY if is_due else next_read
            self._talk(connection, everyone=is_due)
            self._reached()
            self._tell()
            now = time.monotonic()
            dues = [max(link.asks_at(now), now + 0.001) for link in self.links]
            self.contact.signal.wait(min([next_read, *dues]) - now)

    def _talk(self, connection: Connection, *, everyone: bool) -> None:
        """Tell Redis what there is to tell, read what is due, and follow it."""
        now, batch = time.monotonic(), []
        for link in self.links:
            messages = link.messages(now)
            if everyone or link.is_due:
                link.is_due = False
                messages = messages or [Message("read", now)]
            batch += [(link, message) for message in messages]
        calls = [self._call(link, message, now) for link, message in batch]
        answers = _ask(connection, calls)
        if any(type(answer).__name__ == "NoScriptError" for answer in answers):  # it's new here, or was flushed
            answers = _ask(connection, [("SCRIPT", "LOAD", SCRIPT), *calls])[1:]
        refused: dict[Link, Exception] = {}
        for (link, message), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                refused[link] = answer
                continue
            self.contact.heard = time.monotonic()
            self.contact.under_way = self.contact.heard - now
            link.hear(message, Fact.parse(answer), now)
        if refused and all(link in refused or link.is_refused for link in self.links):
            raise next(iter(refused.values()))
        new = {link: error for link, error in refused.items() if not link.is_refused}
        if new and not everyone:  # is it the Redis, or these breakers alone?
            self._talk(connection, everyone=True)
            return
        for link, error in new.items():
            link.is_refused = True
            text = "Redis at %s rejects (%s) the breaker %r, which is not shared"
            self._log(logging.WARNING, text, type(error).__name__, link.name)

    def _call(self, link: Link, message: Message, now: float) -> tuple[str, ...]:
        about = message.arguments(now, self.contact.under_way)
        return "EVALSHA", SHA, "2", *link.keys, message.kind, uuid.uuid4().hex, *about, *link.settings

    def _tell(self) -> None:
        """Have the listeners told, each breaker's on a thread of its own: one that takes long delays nobody else's."""
        for link in self.links:
            core = link.core()
            if core is not None and core.newest().news.is_due():
                with contextlib.suppress(RuntimeError):  # no more threads: the next time
                    _start(functools.partial(_tell, core), f"booking-resilience tells {core.name}")

    def _is_over(self) -> bool:
        """Let dropped breakers go, and tell whether nobody is left; the agent's life ends with that."""
        with REGISTRY:
            self.links = tuple(link for link in self.links if link.core() is not None or not link.is_told)
            if self.links or self.owners:
                return False
            if AGENTS.get(self._key) is self:
                del AGENTS[self._key]
            return True

    # -- the thread that listens

    def _listen(self) -> None:
        while AGENTS.get(self._key) is self:
            try:
                with self._connected() as connection:
                    self._hear(connection)
            except Exception:  # noqa: BLE001 - whatever it is, changes are read once a second all the same
                time.sleep(RETRY_EVERY)

    def _hear(self, connection: Connection) -> None:
        """Have what was announced read; and once what is listened to anew, since it may have changed before."""
        heard, knocked = time.monotonic(), float("-inf")
        asked: set[str] = set()
        listened: set[str] = set()
        while AGENTS.get(self._key) is self:
            now, wanted = time.monotonic(), {link.channel for link in self.links}
            if now - knocked >= KNOCK_EVERY:
                # One is asked for again, to hear a sign of life; a PING would need one right more.
                knocked, asked = now, set(sorted(listened)[1:])
            commands = [("SUBSCRIBE", channel) for channel in wanted - asked]
            commands += [("UNSUBSCRIBE", channel) for channel in listened - wanted]
            _send(connection, commands)
            asked, listened = wanted, listened & wanted
            if not connection.can_read(LOOK_EVERY):
                if wanted and now - heard > KNOCK_EVERY + TIMEOUT:
                    raise TimeoutError("no answer")
                heard = heard if wanted else now
                continue
            heard, answer = now, _answer(connection)
            if isinstance(answer, Exception):
                self._warn_once("deaf", "Redis at %s rejects a channel (%s): changes are read once a second", answer)
            elif answer[0] in (b"message", b"subscribe"):
                channel = answer[1].decode()
                if answer[0] == b"message" or channel not in listened:
                    self._ring(channel)
                listened.add(channel)

    def _ring(self, channel: str) -> None:
        for link in self.links:
            link.is_due = link.is_due or link.channel == channel
        self.contact.signal.wake()

    # -- for both

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        connection = self._connect()
        self._connections.add(connection)
        try:
            with self.gate:
                connection.connect()
            yield connection
        finally:
            connection.disconnect()
            self._connections.discard(connection)

    def _reached(self) -> None:
        self.contact.is_connected = True
        if len(self._threads) == 1:
            with contextlib.suppress(RuntimeError):  # no more threads: then changes are read once a second
                self._threads.append(_start(self._listen, f"booking-resilience listens {self.place}"))
        if "lost" in self._warned:
            self._warned.discard("lost")
            self._log(logging.INFO, "Redis at %s is back: its breakers are shared again")

    def _lost(self, error: Exception) -> None:
        self.contact.is_connected, self.contact.heard = False, float("-inf")
        for link in self.links:
            link.take_notes(link.core())  # or they would grow as long as Redis is gone
        self._warn_once("lost", "Redis at %s cannot be reached (%s): its breakers are not shared", error)

    def _warn_once(self, what: str, text: str, error: Exception) -> None:
        if what not in self._warned:
            self._warned.add(what)
            self._log(logging.WARNING, text, type(error).__name__)  # not its text, which may hold secrets

    def _log(self, level: int, text: str, *facts: str) -> None:
        with contextlib.suppress(Exception):  # a logging handler that raises
            extra = {"redis": self.place, "error": facts[0] if facts else None}
            logger.log(level, text, self.place, *facts, extra=extra)


def _tell(core: Core) -> None:
    with contextlib.suppress(BaseException):  # a listener's SystemExit; what is left is told the next time
        core.tell()


def _start(target: Callable[[], object], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def _send(connection: Connection, commands: Sequence[tuple[str, ...]]) -> None:
    if commands:
        connection.send_packed_command(connection.pack_commands(commands))


def _answer(connection: Connection) -> Any:
    """Return the next answer, which may be an error."""
    try:
        return connection.read_response()
    except importlib.import_module("redis").ResponseError as error:
        return error


def _ask(connection: Connection, commands: Sequence[tuple[str, ...]]) -> list[Any]:
    """Return the answers to the commands, errors among them."""
    _send(connection, commands)
    return [_answer(connection) for _ in commands]
