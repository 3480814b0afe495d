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
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias

from booking_resilience import clock
from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.snapshots import SharedSnapshot
from booking_resilience.breaker.states import (
    Acquire,
    Change,
    Count,
    Event,
    Reset,
    Settle,
    State,
    Trial,
    Verdict,
)
from booking_resilience.breaker.telling import News, Turn
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, BreakerState, Listener, notify

ErrorFilter: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]

logger: logging.Logger = logging.getLogger("booking_resilience.breaker")

_FIRST, _NO_NEWS = State(), News()


class Link(Protocol):
    """What ties a breaker to its fleet. Called on the threads of callers, it neither waits nor raises."""

    @property
    def is_open(self) -> bool:
        """Whether the breaker is still shared."""
        ...

    def admit(self, trial: Trial) -> int | None:
        """Tell how many successes from now on close the breaker if this becomes a trial.

        It's asked of the same trial again if the state changed meanwhile. None: as many as the breaker's settings
        say; 0: the trial is refused.
        """
        ...

    def changed(self, change: Change, *, fleet: bool = False) -> None:
        """Hear what an event changed, if it did; `fleet` asks to spread what was done by hand."""
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
        self.epoch: int = epoch
        self.is_over: Any = is_over  # a bool, which type checkers take for the same at the second look


_NEVER = Calm(-1, is_over=True)


class Tally:
    """Counts that no decision depends on. `next` adds one, and loses none, with or without a GIL."""

    __slots__ = ("ignored", "refused", "stale")

    def __init__(self) -> None:
        self.refused: Iterator[int] = itertools.count()
        self.stale: Iterator[int] = itertools.count()
        self.ignored: Iterator[int] = itertools.count()


class Moment:
    """All that a breaker is at one time; nothing of it ever changes but `after`.

    Attributes:
        state: What decides.
        news: What is to be told.
        tally: What was counted since the last reset; None until something is.
        calm: What the path of a healthy backend looks at.
        after: Under "next" the moment that followed this one, once one has.
    """

    __slots__ = ("after", "calm", "news", "state", "tally")

    def __init__(self, state: State, news: News, tally: Tally | None, calm: Calm) -> None:
        self.state: State = state
        self.news: News = news
        self.tally: Tally | None = tally
        self.calm: Calm = calm
        self.after: dict[str, Moment] = {}

    def counted(self, what: Count) -> int:
        """Return how many were counted; only the `repr` of a counter shows it, as in "count(3)"."""
        return 0 if self.tally is None else int(repr(getattr(self.tally, what))[6:-1])


class Core:
    """What permits, guards, calls and links have of a breaker.

    Attributes:
        name: Its name.
        machine: Its settings, and what they make of its states.
        failure_on: Which errors are failures.
        ignore: Which errors say nothing.
        link: What ties it to its fleet; None if it isn't shared.
        is_shadow: Whether it only counts what it would refuse.
        calm: The newest `Moment.calm` that is known here.
    """

    __slots__ = ("__weakref__", "_moment", "calm", "failure_on", "ignore", "is_shadow", "link", "machine", "name")

    def __init__(self, name: str, machine: Machine, failure_on: ErrorFilter, ignore: ErrorFilter) -> None:
        self.name: str = name
        self.machine: Machine = machine
        self.failure_on: ErrorFilter = failure_on
        self.ignore: ErrorFilter = ignore
        self.is_shadow: bool = False
        self.link: Link | None = None
        self.calm: Calm = Calm(0) if machine.is_calm(_FIRST) else _NEVER
        self._moment: Moment = Moment(_FIRST, _NO_NEWS, None, self.calm)

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
            asked = event if self.link is None else self._asked(event, moment.state, now)
            change = self.machine.step(moment.state, asked, now)
            if change.counts is not None and moment.tally is None:
                self._put(moment, moment.state, moment.news, Tally())
                continue
            news = moment.news.and_of(change.told) if change.told else moment.news
            tally = None if isinstance(event, Reset) else moment.tally
            if change.after is change.before or self._put(moment, change.after, news, tally):
                break
        if change.counts is not None:
            next(getattr(moment.tally, change.counts))
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
        moment, now = self._moment, clock.monotonic()
        if moment.after:
            moment = self.newest()
        state = moment.state
        if state.trials and self.take_back():
            return self.knock()
        refusal = self.machine.refusal(state, now)
        if refusal is None or self.is_shadow:
            return now
        if moment.tally is None:
            self._put(moment, state, moment.news, Tally())
            return self.knock()
        next(moment.tally.refused)
        retry_after, cause = refusal
        raise CircuitOpenError(self.name, retry_after, cause)

    def take_back(self) -> bool:
        """Take back the trials whose permits were dropped unsettled; tell whether there were any."""
        dropped = [trial for trial in self.state.trials if trial.holder() is None]
        for trial in dropped:
            self.spread(self.change(Settle(-1, trial, Verdict.NOTHING)))
        return bool(dropped)

    def calm_down(self) -> None:
        """Begin a new calm where there should be one: an interrupted change may have ended the last for nothing."""
        moment = self.newest()
        if self.calm.is_over and self.machine.is_calm(moment.state):
            self._put(moment, moment.state, moment.news, moment.tally)

    def take_settings(self, other: Core) -> None:
        """Go on with the settings of another one, which is used for nothing else; an open one stays open as long."""
        rate, self.machine, self.is_shadow = self.machine.failure_rate, other.machine, other.is_shadow
        while True:
            moment = self.newest()
            state = moment.state if rate == self.machine.failure_rate else moment.state._replace(window=())
            if self._put(moment, state, moment.news, moment.tally):
                return

    def listen(self, listener: Listener[BreakerEvent], *, until_now: bool = False) -> None:
        """Tell the listener of every transition from now on; or `until_now`, and of none any more."""
        while True:
            moment = self.newest()
            others = tuple(other for other in moment.news.listeners if other is not listener)
            listeners = others if until_now else (*others, listener)
            if self._put_news(moment, moment.news._replace(listeners=listeners)):
                return

    def tell(self) -> None:
        """Tell the log and the listeners of what nobody was told of yet: in order, and under no lock.

        One thread tells at a time; one that finds another at it leaves its transition to that. What happened in a
        parent process is the parent's to tell.
        """
        moment = self.newest()
        if not moment.news.untold:
            return
        if moment.news.loss == "new" and self._put_news(moment, moment.news._replace(loss="logged")):
            self._log(logging.ERROR, "%r: its transitions come faster than its listeners; the oldest are dropped")
        turn = Turn()
        try:
            while (event := self._take(turn)) is not None:
                level = logging.WARNING if event.new in (BreakerState.OPEN, BreakerState.ISOLATED) else logging.INFO
                facts = {"old": event.old.value, "new": event.new.value, "reason": event.reason}
                self._log(level, "%r: %s -> %s: %s", **facts)
                notify(self.newest().news.listeners, event, logger)
        finally:
            turn.end()  # also at an interrupt: what is left is told at the next transition

    def _take(self, turn: Turn) -> BreakerEvent | None:
        """Take the oldest untold transition in that turn; None if there is none, or another thread tells."""
        while os.getpid() == turn.process:  # or this is a child, which a listener forked
            moment = self.newest()
            news = moment.news
            if news.is_told_by_another(turn):
                return None
            taken = news.taken(turn)
            if self._put_news(moment, taken):
                return None if taken.teller is None else BreakerEvent(self.name, *news.untold[0])
        return None

    def _log(self, level: int, text: str, **facts: str) -> None:
        with contextlib.suppress(Exception):  # a logging handler that raises
            logger.log(level, text, self.name, *facts.values(), extra={"breaker": self.name, **facts})

    def _asked(self, event: Event, state: State, now: float) -> Event:
        """Return the event, with what the fleet says of a trial."""
        if self.link is None or not isinstance(event, Acquire) or not self.machine.may_try(state, now):
            return event
        return event._replace(needed=self.link.admit(event.trial))

    def _put_news(self, moment: Moment, news: News) -> bool:
        return self._put(moment, moment.state, news, moment.tally)

    def _put(self, moment: Moment, state: State, news: News, tally: Tally | None) -> bool:
        """Have a moment followed by another one; False, and nothing done, if somebody was faster."""
        calm = Calm(state.epoch) if self.machine.is_calm(state) else _NEVER
        new = Moment(state, news, tally, calm)
        moment.calm.is_over = True
        if moment.after.setdefault("next", new) is not new:
            return False
        self._moment, self.calm = new, calm
        return True
