"""The core of a circuit breaker: what it is now, how that changes, and who is told.

All of a breaker that changes is one `Moment`, which is replaced as a whole: read it, compute the next one, put that
in if nobody was faster, else do it all again. What decides is one `dict.setdefault` on the moment that is replaced:
whoever put the successor in has won. That step is atomic on every build of CPython, so threads, signal handlers and
forks need no lock, and an interrupt finds a change either made or not made.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import weakref
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from booking_resilience import clock
from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.snapshots import SharedSnapshot
from booking_resilience.breaker.states import (
    ISOLATED,
    NOTHING,
    OPEN,
    Acquire,
    Change,
    Count,
    Event,
    Reset,
    Settle,
    State,
    Transition,
    Trial,
)  # fmt: skip
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, Listener, notify

ErrorFilter: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]

logger: logging.Logger = logging.getLogger("booking_resilience.breaker")

MAX_UNTOLD = 1000  # transitions that are kept for listeners that are slower than they come
_FIRST = State()


class Link(Protocol):
    """What ties a breaker to its fleet. Called on the threads of callers, it neither waits nor raises."""

    @property
    def is_open(self) -> bool:
        """Whether the breaker is still shared."""
        ...

    def admit(self, trial: Trial, state: State) -> int | None:
        """Tell how many successes from now on close the breaker if this becomes a trial.

        It's asked of the same trial again if the state changed meanwhile. None: as many as the breaker's settings
        say; 0: the trial is refused.
        """
        ...

    def changed(self, change: Change) -> None:
        """Hear what a caller's event changed, or whether a call that may have been asked about was admitted."""
        ...

    def by_hand(self, change: Change, *, fleet: bool) -> None:
        """Hear what an isolation or a reset by hand changed, which `fleet` asks to spread."""
        ...

    def snapshot(self) -> SharedSnapshot:
        """Return what is known of the fleet."""
        ...


class Sharing(Protocol):
    """What breakers are shared through, such as a `RedisBreaker`."""

    def _join(self, core: Core) -> Link: ...


class Calm:
    """A time in which a breaker is closed and the success of a call changes nothing.

    It's over before anything else happens, so what isn't over is how the breaker is now.
    """

    __slots__ = ("epoch", "is_over")

    def __init__(self, epoch: int, *, is_over: bool = False) -> None:
        self.epoch = epoch
        self.is_over = is_over


_NEVER = Calm(-1, is_over=True)


class Tally:
    """Counts that no decision depends on. `next` adds one, and loses none, with or without a GIL."""

    __slots__ = ("ignored", "refused", "stale")

    def __init__(self) -> None:
        self.refused, self.stale, self.ignored = itertools.count(), itertools.count(), itertools.count()


class Turn:
    """A thread's turn to tell of transitions, which is over once nobody holds it any more."""

    __slots__ = ("__weakref__", "process")

    def __init__(self) -> None:
        self.process = os.getpid()


class Moment(NamedTuple):
    """All that a breaker is at one time.

    Attributes:
        state: What decides.
        calm: What the path of a healthy backend looks at.
        after: Under "next" what follows this moment, once something does.
        listeners: Who is told of transitions.
        untold: Transitions that nobody was told of yet.
        process: The process whose transitions those are.
        loss: Whether some were dropped since there last was nothing to tell, and whether that was logged.
        teller: Whose turn it is to tell of them.
        tally: What was counted since the last reset; None if nothing was.
    """

    state: State
    calm: Calm
    after: dict[str, Moment]
    listeners: tuple[Listener[BreakerEvent], ...] = ()
    untold: tuple[Transition, ...] = ()
    process: int = 0
    loss: Literal["none", "new", "logged"] = "none"
    teller: weakref.ref[Turn] | None = None
    tally: Tally | None = None

    def counted(self, what: Count) -> int:
        """Return how many were counted, which only the `repr` of a counter shows, as in "count(3)"."""
        return 0 if self.tally is None else int(repr(getattr(self.tally, what))[6:-1])


class Core:
    """What permits, guards, calls and links have of a breaker.

    Attributes:
        name: Its name.
        machine: Its settings, and what they make of its states.
        failure_on: Which errors are failures.
        ignore: Which errors say nothing.
        link: What ties it to its fleet; None if it isn't shared.
        calm: The newest `Moment.calm` that is known here.
    """

    __slots__ = ("__weakref__", "_moment", "calm", "failure_on", "ignore", "link", "machine", "name")

    def __init__(self, name: str, machine: Machine, failure_on: ErrorFilter, ignore: ErrorFilter) -> None:
        self.name, self.machine, self.failure_on, self.ignore = name, machine, failure_on, ignore
        self.link: Link | None = None
        self.calm: Calm = Calm(0) if machine.is_calm(_FIRST) else _NEVER
        self._moment: Moment = Moment(_FIRST, self.calm, {})

    @property
    def state(self) -> State:
        """The state that it's in."""
        return self.newest().state

    def newest(self) -> Moment:
        """Return the moment that nothing has followed."""
        moment = self._moment
        if moment.after:
            while moment.after:
                moment = moment.after["next"]
            self._moment, self.calm = moment, moment.calm
        return moment

    def change(self, event: Event, now: float | None = None) -> Change:
        """Have the event happen and return what it changed; nobody is told of it yet."""
        now = clock.monotonic() if now is None else now
        while True:
            moment = self.newest()
            change = self.machine.step(moment.state, self._asked(event, moment.state, now), now)
            if change.after is change.before or self._put(moment, **_followed(moment, change)):
                break
        if change.counts is not None:
            self.count(change.counts)
        return change

    def spread(self, change: Change) -> None:
        """Tell the fleet and the listeners of what a caller's event changed."""
        if self.link is not None and (change.after is not change.before or isinstance(change.event, Acquire)):
            self.link.changed(change)
        self.tell()

    def knock(self) -> float:
        """Return the time, unless a call is refused and changes nothing.

        Raises:
            CircuitOpenError: If it is.
        """
        state, now = self.newest().state, clock.monotonic()
        if self.machine.refuses(state, now) and not self.take_back():
            self.count("refused")
            raise self.refusal(state, now)
        return now

    def refusal(self, state: State, now: float) -> CircuitOpenError:
        """Return the error of a call that is refused."""
        return CircuitOpenError(self.name, self.machine.retry_after(state, now), state.cause)

    def take_back(self) -> bool:
        """Take back the trials whose permits were dropped unsettled; tell whether there were any."""
        dropped = [trial for trial in self.state.trials if trial.holder() is None]
        for trial in dropped:
            self.spread(self.change(Settle(-1, trial, NOTHING)))
        return bool(dropped)

    def calm_down(self) -> None:
        """Begin a new calm where there should be one: an interrupted change may have ended the last for nothing."""
        moment = self.newest()
        if self.calm.is_over and self.machine.is_calm(moment.state):
            self._put(moment)

    def count(self, what: Count) -> None:
        """Count what no decision depends on."""
        while (tally := (moment := self.newest()).tally) is None:
            self._put(moment, tally=Tally())
        next(getattr(tally, what))

    def listen(self, listener: Listener[BreakerEvent]) -> None:
        """Tell the listener of every transition from now on."""
        while not self._put(moment := self.newest(), listeners=(*moment.listeners, listener)):
            pass

    def unlisten(self, listener: Listener[BreakerEvent]) -> None:
        """Tell the listener no more."""
        kept = None
        while kept is None or not self._put(moment, listeners=kept):
            moment = self.newest()
            kept = tuple(other for other in moment.listeners if other is not listener)

    def tell(self) -> None:
        """Tell the log and the listeners of what nobody was told of yet: in order, and under no lock.

        One thread tells at a time; one that finds another at it leaves its transition to that. What happened in a
        parent process is the parent's to tell.
        """
        moment = self.newest()
        if not moment.untold:
            return
        if moment.loss == "new" and self._put(moment, loss="logged"):
            self._log(logging.ERROR, "%r: its transitions come faster than its listeners: the oldest are not told")
        turn = Turn()
        try:
            while (transition := self._take(turn)) is not None:
                old, new, reason = transition
                facts = {"old": old.value, "new": new.value, "reason": reason}
                level = logging.WARNING if new in (OPEN, ISOLATED) else logging.INFO
                self._log(level, "%r: %s -> %s: %s", **facts)
                notify(self.newest().listeners, BreakerEvent(self.name, old, new, reason), logger)
        except BaseException:  # an interrupt; what is left is told at the next transition
            while (moment := self.newest()).teller is not None and moment.teller() is turn:
                self._put(moment, teller=None)
            raise

    def _take(self, turn: Turn) -> Transition | None:
        """Take the oldest untold transition in that turn; None if there is none, or another thread tells."""
        while os.getpid() == turn.process:  # or this is a child, which a listener forked
            moment = self.newest()
            teller = None if moment.teller is None else moment.teller()
            if teller is not None and teller is not turn and teller.process == turn.process:
                return None
            if moment.process != turn.process or not moment.untold:
                if teller is not turn or self._put(moment, teller=None):
                    return None
                continue
            first, *rest = moment.untold
            loss = moment.loss if rest else "none"
            if self._put(moment, teller=weakref.ref(turn), untold=tuple(rest), loss=loss):
                return first
        return None

    def _log(self, level: int, text: str, **facts: str) -> None:
        with contextlib.suppress(Exception):  # a logging handler that raises
            logger.log(level, text, self.name, *facts.values(), extra={"breaker": self.name, **facts})

    def _asked(self, event: Event, state: State, now: float) -> Event:
        """Return the event, with what the fleet says of a trial."""
        if self.link is None or not isinstance(event, Acquire) or not self.machine.may_try(state, now):
            return event
        return event._replace(needed=self.link.admit(event.trial, state))

    def _put(self, moment: Moment, **changes: Any) -> bool:
        """Have a moment followed by one with the changes; False, and nothing done, if somebody was faster."""
        state: State = changes.get("state", moment.state)
        calm = Calm(state.epoch) if self.machine.is_calm(state) else _NEVER
        new = moment._replace(**changes, calm=calm, after={})
        moment.calm.is_over = True
        if moment.after.setdefault("next", new) is not new:
            return False
        self._moment, self.calm = new, calm
        return True


def _followed(moment: Moment, change: Change) -> dict[str, Any]:
    """Return what a change makes new in a moment."""
    changes: dict[str, Any] = {"state": change.after}
    if isinstance(change.event, Reset):
        changes["tally"] = None
    if change.told:
        process = os.getpid()
        untold, loss = (moment.untold, moment.loss) if moment.process == process else ((), "none")
        untold = (*untold, *change.told)
        if len(untold) > MAX_UNTOLD and loss == "none":
            loss = "new"
        changes |= {"untold": untold[-MAX_UNTOLD:], "process": process, "loss": loss}
    return changes
