"""What ties one breaker to its fleet: what it has to tell, the lease of the trial, and what it heard last.

The agent's thread owns a link. A caller's thread only claims the lease, says that it waits for one, or leaves a note
of what happened to the breaker, each in one step that needs no lock.

A fact of the fleet is followed once, and not if something newer happened here, or may have: of what happened while
an answer was under way, nobody can tell which came first.
"""

from __future__ import annotations

import datetime
import random
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from booking_resilience import clock
from booking_resilience.breaker.shared_parts import Contact, Lease, Message
from booking_resilience.breaker.snapshots import SharedSnapshot
from booking_resilience.breaker.states import (
    CLOSED,
    HALF_OPEN,
    ISOLATED,
    NOTHING,
    OPEN,
    FleetCloses,
    FleetOpens,
    Isolate,
    Reset,
    Settle,
)  # fmt: skip

if TYPE_CHECKING:
    from booking_resilience.breaker.core import Core
    from booking_resilience.breaker.shared_script import Fact
    from booking_resilience.breaker.states import Change, State, Trial

FRESH = 4.0  # seconds after which what was heard last holds nobody back: 2 without an answer, and what goes before
USABLE = 0.4  # seconds from the request in which a lease may be claimed, so that Redis knows of it before it lapses
USABLE_LATE = 0.2  # and at least so many from the answer, which may be long under way
ASK_EVERY = 0.25  # seconds between a lease that was not claimed and the next request, at least
ASK_LATER = 0.5  # seconds more, at most: drawn at random, or callers might always come between two leases
LOOK_EVERY = 1.0  # seconds between two requests for a lease that somebody else has, at most
SELDOM = 5.0  # seconds without a caller; the one after that may need no lease
WISH = 60.0  # seconds that a rejected caller counts as waiting
PROMPT = 0.25  # seconds that a report is good for if the cooldown is shorter: it is on its way
NOTES = 1000  # notes that are kept while no thread takes them in; then the oldest goes
_NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Link:
    """One breaker's part in a fleet. Moments are in real monotonic seconds."""

    core: weakref.ref[Core]
    owner: object  # its `RedisBreaker`, which lives as long as its breakers
    contact: Contact
    name: str
    keys: tuple[str, ...]  # of the script
    channel: str  # on which changes of its fleet are announced
    settings: tuple[str, ...]  # what the script is told each time
    is_open: bool = True  # whether the sharing goes on
    fact: Fact | None = None
    lease: Lease | None = None
    turn: str | None = None  # the last one that was heard of; None before the first answer was followed
    turned: float = 0.0  # when the last one that was followed was, by Redis' clock
    happened: float = _NEVER  # and by ours, at the earliest
    known: deque[str] = field(default_factory=lambda: deque(maxlen=100))  # the turns that were heard of
    command: Message | None = None  # by hand, for the fleet
    news: Message | None = None  # that it opened or recovered by itself
    wish: float = _NEVER  # when a caller was last rejected for want of the lease
    lapsed: float = _NEVER  # when a lease was last left unclaimed, or up to ASK_LATER after that
    lapses: int = 0  # how many were, since the fleet opened or a trial was made without one
    next_ask: float = 0.0
    noted: int = 0  # the breaker's epoch that was noted last
    ordered: int = 0  # and the one that the last command by hand led to
    followed: int = 0  # and the one that the last move of the fleet did
    moved: float = _NEVER  # when it last opened or closed by itself, or was reset by hand
    is_isolated_by_fleet: bool = False
    is_refused: bool = False  # whether Redis answers for this breaker with an error
    is_due: bool = True  # whether Redis is to be read, whatever there is to tell
    notes: deque[tuple[float, Change, bool]] = field(default_factory=lambda: deque(maxlen=NOTES))  # bool: for the fleet

    # -- for callers

    @property
    def is_held_back(self) -> bool:
        """Whether the fleet is open, so that a trial needs the lease."""
        is_open = self.fact is not None and self.fact.state in (OPEN, HALF_OPEN)
        return is_open and not self.is_refused and time.monotonic() - self.contact.heard < FRESH

    def admit(self, trial: Trial) -> int | None:
        """Return how many successes the fleet needs from this trial on; 0 if it has to wait, None for a local one."""
        if not self.is_open or not self.is_held_back:
            return None
        lease, now = self.lease, time.monotonic()
        if lease is not None and (lease.trial is trial or (now < lease.until and lease.claim(trial))):
            return lease.trials_left
        is_seldom, self.wish = _NEVER < self.wish < now - SELDOM, now
        if is_seldom and self.lapses > 1 and self.fact is not None and not self.fact.lease:
            self.lapses = 0
            return None  # or such callers would seldom meet a lease
        if now >= max(self.next_ask, self.lapsed + ASK_EVERY):
            self.contact.signal.wake()
        return 0

    def changed(self, change: Change, *, fleet: bool) -> None:
        """Note what happened to the breaker; plain counts are nobody's business."""
        before, after = change.before, change.after
        is_by_hand = isinstance(change.event, (Isolate, Reset))
        if is_by_hand or before.epoch != after.epoch or before.trials or after.trials or self.lease is not None:
            self.notes.append((time.monotonic(), change, fleet))
            self.contact.signal.wake()

    def snapshot(self) -> SharedSnapshot:
        """Return what is known of the fleet."""
        fact = self.fact
        return SharedSnapshot(
            connected=self.is_open and self.turn is not None and not self.is_refused and self.contact.is_connected,
            state=CLOSED if fact is None else fact.state,
            reporters=0 if fact is None else fact.reporters,
            since=datetime.datetime.fromtimestamp(fact.since, datetime.UTC) if fact and fact.since else None,
        )

    # -- for the agent: what became of the breaker, and what there is to tell

    @property
    def is_told(self) -> bool:
        """Whether there is nothing left that has to be told before it may go."""
        return not self.notes and self.command is None and (self.lease is None or not self.contact.is_connected)

    def messages(self, now: float) -> list[Message]:
        """Return what is to be told now."""
        core = self.core()
        if core is not None:
            for trial in core.state.trials:
                if trial.holder() is None:  # its permit was dropped
                    core.change(Settle(-1, trial, NOTHING))
        self.take_notes(core)
        if core is None or not self.is_open:
            self.news = None
            if self.lease is not None:
                self.lease.take_back()
        elif self.news is not None and not self._is_valid(self.news, core, now):
            self.news = None
        found = [self.command] if self.command is not None else []
        if (lease := self.lease) is not None:
            if lease.verdict is None and now >= lease.until and lease.claim(None):
                lease.verdict, self.lapses = "nothing", self.lapses + 1
                self.lapsed = now + random.uniform(0.0, ASK_LATER)
            if lease.verdict is not None:
                found.append(Message("done", now, lease.token, lease.verdict))
            elif lease.admitted is not None and not lease.begun:
                found.append(Message("begin", now, lease.token))
        if self.news is not None:
            found.append(self.news)
        if now >= self.asks_at(now):
            self.next_ask = now + LOOK_EVERY
            found.append(Message("ask", now))
        return found

    def asks_at(self, now: float) -> float:
        """Return when the lease is to be asked for; the longer its callers are gone, the less often."""
        core = self.core()
        waits = core is not None and core.state.kind in (OPEN, HALF_OPEN) and self.lease is None and self.is_held_back
        if not waits or not self.is_open or now - self.wish > WISH:
            return float("inf")
        return max(self.next_ask, self.lapsed + max(ASK_EVERY, (now - self.wish) / 4))

    def forked(self) -> None:
        """Forget, in a child process, what is its parent's to tell."""
        core = self.core()
        self.lease = self.command = self.news = None
        self.wish, self.noted, self.notes = _NEVER, 0 if core is None else core.state.epoch, deque(maxlen=NOTES)

    def _is_valid(self, news: Message, core: Core, now: float) -> bool:
        if news.kind == "report":
            return now - news.moment < max(core.machine.cooldown, PROMPT)
        return self.fact is not None and self.fact.state is not CLOSED

    def take_notes(self, core: Core | None) -> None:
        """Take in what callers noted, and what became of the breaker unnoted: an interrupt may lose a note."""
        while self.notes:
            moment, change, fleet = self.notes.popleft()
            event = change.event
            if isinstance(event, (Isolate, Reset)):
                self._note_hand(moment, change.after, event, fleet=fleet)
            self._note(moment, change.before, change.after, getattr(event, "trial", None))
        if core is not None:
            after = core.state
            before = None if self.lease is None else self.lease.admitted
            self._note(time.monotonic(), before or after, after, None)

    def _note(self, moment: float, before: State, after: State, asked: Trial | None) -> None:
        is_of_fleet = self.lease is not None and self.lease.note(before, after, asked)
        if after.epoch > self.noted:
            self.noted = after.epoch
            if after.kind in (OPEN, CLOSED):
                self.moved, self.news = moment, None
                if after.has_recovered:  # told in any case: its lease may have lapsed
                    self.news = Message("recover", moment)
                elif after.kind is OPEN and not is_of_fleet:
                    self.news = Message("report", moment)

    def _note_hand(self, moment: float, after: State, event: Isolate | Reset, *, fleet: bool) -> None:
        if self.lease is not None:
            self.lease.take_back()
        self.ordered = after.epoch
        if self.followed <= after.epoch:
            self.is_isolated_by_fleet = fleet and isinstance(event, Isolate)
        if fleet:
            self.command = Message("isolate" if isinstance(event, Isolate) else "reset", moment, event.reason)

    # -- for the agent: what the fleet does

    def hear(self, message: Message, fact: Fact, sent: float) -> None:
        """Take the answer to a message sent at that moment, and follow it."""
        now, lease, self.fact, self.is_refused = time.monotonic(), self.lease, fact, False
        if message is self.news:
            self.news = None
        elif message is self.command:
            self.command = None
            if fact.answer == "done" and self.followed <= self.ordered:
                self._keep(fact, sent)  # it was done here when it was asked for
                self.turn = fact.turn
        elif message.kind == "ask":
            if fact.answer == "yours":
                self.lease = Lease(fact.lease, max(sent + USABLE, now + USABLE_LATE), fact.trials_left)
            else:
                self.next_ask = now + min(fact.wait, LOOK_EVERY)
        elif lease is not None and lease.token == message.subject:
            if message.kind == "begin":
                lease.begun = True
            else:
                self.lease = None
        if self.lease is not None and self.lease.token != fact.lease:
            self.lease = None  # it ended with the transition that is followed now
        if fact.state is HALF_OPEN and not fact.lease:
            self.next_ask = 0.0  # it is free
        core = self.core()
        if core is not None and self.is_open and self.command is None:
            self._follow(core, fact, sent, now)

    def _keep(self, fact: Fact, sent: float) -> None:
        self.turned, self.happened, self.next_ask = fact.turned, sent - fact.age, 0.0
        self.known.append(fact.turn)

    def _follow(self, core: Core, fact: Fact, sent: float, now: float) -> None:
        """Do here what the fleet did, unless it was done already or something newer happened here."""
        if fact.turn == self.turn:
            return
        is_first = self.turn is None
        if not fact.turn:  # Redis knows of none: it is new, or was emptied, and then each process keeps its state
            self.turn = "" if is_first else self.turn
            return
        if fact.turn in self.known or (fact.turned < self.turned and now - fact.age < self.happened):
            # It is of an older dump, or of a replica that was behind: it is over.
            if self.news is None and core.state.kind is CLOSED:
                self.news = Message("recover", now, detail=str(round(self.turned * 1000)))
        else:
            self._keep(fact, sent)
            while self._move(core, fact, is_first):
                pass
            if fact.state in (OPEN, HALF_OPEN) and core.state.kind is OPEN:
                self.news, self.wish, self.lapses = None, _NEVER, 0  # nobody waits for the next trial yet
        self.turn = fact.turn

    def _move(self, core: Core, fact: Fact, is_first: bool) -> bool:
        """Make the fleet's move; tell whether it goes on, or has to be tried again since something came in between."""
        state = core.state
        self.take_notes(core)  # only now: what it misses has changed the state, which then stays as it is
        event = self._event(state, fact, is_first)
        if event is None:
            return core.state.epoch != state.epoch
        change = core.change(event)
        if change.before.epoch != state.epoch:
            return True
        was_isolated, self.is_isolated_by_fleet = self.is_isolated_by_fleet, fact.state is ISOLATED
        self.noted = self.followed = change.after.epoch
        return was_isolated and fact.state in (OPEN, HALF_OPEN)

    def _event(self, state: State, fact: Fact, is_first: bool) -> Isolate | Reset | FleetOpens | FleetCloses | None:
        """Return what happens to the breaker in that state when the fleet made the fact's move."""
        is_newer = self.moved <= self.happened  # than what this process did by itself
        may_close = is_newer and not is_first
        if fact.state is ISOLATED:
            is_ours = state.kind is ISOLATED and not self.is_isolated_by_fleet
            return None if is_ours else Isolate(fact.reason, state.epoch)
        if self.is_isolated_by_fleet or (fact.move == "RESET" and may_close and state.kind is not ISOLATED):
            return Reset(fact.reason, state.epoch)
        if fact.state is CLOSED:
            return FleetCloses("a trial of the fleet succeeded", state.epoch) if may_close else None
        if state.kind is CLOSED and not is_newer:
            return None
        is_trip = fact.move == "TRIP"
        why = "enough machines of the fleet reported" if is_trip else "the trial of the fleet failed or was lost"
        return FleetOpens(clock.monotonic() - (fact.cooldown - fact.left), fact.cooldown, why, state.epoch)
