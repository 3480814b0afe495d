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
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, get_args

from booking_resilience import clock
from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.snapshots import SharedSnapshot
from booking_resilience.breaker.states import Acquire, Change, Count, Event, Reset, Settle, State, Trial, Verdict
from booking_resilience.breaker.telling import News, Turn
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, BreakerState, Listener, notify

ErrorFilter: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]

logger: logging.Logger = logging.getLogger("booking_resilience.breaker")

_FIRST, _NO_NEWS = State(), News()

Tally: TypeAlias = dict[Count, Iterator[int]]
"""Counters, of which `next` adds one and loses none, with or without a GIL."""


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

    def changed(self, change: Change, *, fleet: bool) -> None:
        """Hear what an event changed, if it did; `fleet` asks to spread what was done by hand."""
        ...

    def snapshot(self) -> SharedSnapshot:
        """Return what is known of the fleet."""
        ...


class Sharing(Protocol):
    """What breakers are shared through, such as a `RedisBreaker`."""

    def _join(self, core: Core) -> Link: ...


@dataclass(slots=True, eq=False)
class Calm:
    """A time in which a breaker is closed and the success of a call changes nothing.

    It's over before anything else happens, so what isn't over is how the breaker is now.
    """

    epoch: int
    is_over: Any = False  # a bool, which type checkers take for the same at the second look


_NEVER = Calm(-1, is_over=True)


@dataclass(slots=True, eq=False)
class Moment:
    """All that a breaker is at one time; another state or other news make another moment.

    Attributes:
        state: What decides.
        news: What is to be told.
        tally: What no decision depends on, counted since the last reset; None until something is.
        calm: What the path of a healthy backend looks at.
        after: Under "next" the moment that followed this one, once one has.
    """

    state: State
    news: News
    tally: Tally | None
    calm: Calm
    after: dict[str, Moment] = field(default_factory=dict)

    def counted(self, what: Count) -> int:
        """Return how many were counted; only the `repr` of a counter shows it, as in "count(3)"."""
        return 0 if self.tally is None else int(repr(self.tally[what])[6:-1])


@dataclass(slots=True, weakref_slot=True, eq=False, repr=False)
class Core:
    """What permits, guards, calls and links have of a breaker.

    Attributes:
        name: Its name.
        machine: Its settings, and what they make of its states.
        failure_on: Which errors are failures.
        ignore: Which errors say nothing.
        is_shadow: Whether it only counts what it would refuse.
        link: What ties it to its fleet; None if it isn't shared.
        calm: The newest `Moment.calm` that is known here.
    """

    name: str
    machine: Machine
    failure_on: ErrorFilter
    ignore: ErrorFilter
    is_shadow: bool = False
    link: Link | None = None
    calm: Calm = _NEVER
    _moment: Moment = field(init=False)

    def __post_init__(self) -> None:
        self._moment = Moment(_FIRST, _NO_NEWS, None, _NEVER)
        self.calm_down()

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
            if self.link is not None and isinstance(event, Acquire) and self.machine.may_try(moment.state, now):
                event = event._replace(needed=self.link.admit(event.trial))
            change = self.machine.step(moment.state, event, now)
            if change.counts is not None and moment.tally is None:
                self._begin_tally(moment)
                continue
            news = moment.news.and_of(change.told) if change.told else moment.news
            tally = None if isinstance(event, Reset) else moment.tally
            if change.after is change.before or self._put(moment, change.after, news, tally):
                break
        if change.counts is not None and moment.tally is not None:
            next(moment.tally[change.counts])
        if news.is_losing and not moment.news.is_losing:
            self._log(logging.ERROR, "%r: its transitions come faster than its listeners; the oldest are dropped")
        return change

    def spread(self, change: Change, *, fleet: bool = False) -> None:
        """Tell the fleet and the listeners of what a caller's event changed; `fleet` asks to spread what it did."""
        if self.link is not None and (change.after is not change.before or isinstance(change.event, Acquire)):
            self.link.changed(change, fleet=fleet)
        self.tell()

    def knock(self) -> float:
        """Return the time, unless a call is refused and changes nothing.

        Raises:
            CircuitOpenError: If it is.
        """
        moment, now = self._moment, clock.monotonic()
        if moment.after or moment.state.trials:
            self.take_back()
            moment = self.newest()
        refusal = self.machine.refusal(moment.state, now)
        if refusal is None or self.is_shadow:
            return now
        if moment.tally is None:
            self._begin_tally(moment)
            return self.knock()
        next(moment.tally["refused"])
        retry_after, cause = refusal
        raise CircuitOpenError(self.name, retry_after, cause)

    def take_back(self) -> None:
        """Take back the trials whose permits were dropped unsettled."""
        for trial in self.state.trials:
            if trial.holder() is None:
                self.spread(self.change(Settle(-1, trial, Verdict.NOTHING)))

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
            if self._put(moment, moment.state, moment.news._replace(listeners=listeners), moment.tally):
                return

    def tell(self) -> None:
        """Tell the log and the listeners of what nobody was told of yet: in order, and under no lock.

        One thread tells at a time; one that finds another at it leaves its transition to that. What happened in a
        parent process is the parent's to tell.
        """
        if not self.newest().news.untold:
            return
        turn = Turn()
        try:
            while (event := self._take(turn)) is not None:
                level = logging.WARNING if event.new in (BreakerState.OPEN, BreakerState.ISOLATED) else logging.INFO
                facts = {"old": event.old.value, "new": event.new.value, "reason": event.reason}
                self._log(level, "%r: %s -> %s: %s", **facts)
                notify(self.newest().news.listeners, event, logger)
        finally:
            turn.process = 0  # also at an interrupt: what is left is told at the next transition

    def _take(self, turn: Turn) -> BreakerEvent | None:
        """Take the oldest untold transition in that turn; None if there is none, or another thread tells."""
        while os.getpid() == turn.process:  # or this is a child, which a listener forked
            moment = self.newest()
            taken = moment.news.taken(turn)
            if taken is None:
                return None
            if self._put(moment, moment.state, taken, moment.tally):
                return None if taken.teller is None else BreakerEvent(self.name, *moment.news.untold[0])
        return None

    def _log(self, level: int, text: str, **facts: str) -> None:
        with contextlib.suppress(Exception):  # a logging handler that raises
            logger.log(level, text, self.name, *facts.values(), extra={"breaker": self.name, **facts})

    def _begin_tally(self, moment: Moment) -> None:
        counts: tuple[Count, ...] = get_args(Count)
        self._put(moment, moment.state, moment.news, {what: itertools.count() for what in counts})

    def _put(self, moment: Moment, state: State, news: News, tally: Tally | None) -> bool:
        """Have a moment followed by another one; False, and nothing done, if somebody was faster."""
        new = Moment(state, news, tally, Calm(state.epoch) if self.machine.is_calm(state) else _NEVER)
        moment.calm.is_over = True
        is_won = moment.after.setdefault("next", new) is new
        self.newest()
        return is_won
