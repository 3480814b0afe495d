"""What ties one breaker to its fleet: what it has to tell, the lease of the trial, and what it heard last.

The agent's thread owns a link. A caller's thread only claims the lease, says that it waits for one, or leaves a note
of what happened to the breaker, each in one step that needs no lock.

A transition of the fleet is followed once, and not if something newer happened here, or may have: of what happened
while an answer was under way, nobody can tell which came first.
"""

from __future__ import annotations

import datetime
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from booking_resilience import clock
from booking_resilience.breaker.shared_lease import Lease
from booking_resilience.breaker.shared_script import Fact, Message
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
    from booking_resilience.breaker.shared_wires import Contact
    from booking_resilience.breaker.states import Change, State, Trial

FRESH = 4.0  # seconds after which what was heard last holds nobody back: 2 without an answer, and what goes before
USABLE = 0.2  # seconds from the answer in which a lease may be claimed, so that Redis knows of it before it lapses
ASK_EVERY = 0.25  # seconds between two requests for the lease, at least
WISH = 60.0  # seconds that a rejected caller counts as waiting
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
    settings: tuple[int | str, ...]  # what the script is told each time
    is_open: bool = True  # whether the sharing goes on
    is_due: bool = True  # whether Redis is to be read, whatever there is to tell
    is_refused: bool = False  # whether Redis answers for this breaker with an error
    fact: Fact = field(default_factory=Fact)
    turn: int | None = None  # the last one that was heard of; None before the first answer
    lease: Lease | None = None
    wish: float = _NEVER  # when a caller was last rejected for want of the lease
    asked: float = _NEVER  # when the lease was last asked for, or left unclaimed
    command: Message | None = None  # by hand, for the fleet
    news: Message | None = None  # that it opened or recovered by itself
    noted: int = 0  # the breaker's epoch that was noted last
    moved: float = _NEVER  # when it last opened or closed by itself, or was reset by hand
    is_isolated_by_fleet: bool = False
    notes: deque[tuple[float, Change, bool]] = field(default_factory=lambda: deque(maxlen=NOTES))  # bool: for the fleet

    # -- for callers

    @property
    def is_held_back(self) -> bool:
        """Whether the fleet is open, so that a trial needs the lease."""
        is_known = not self.is_refused and time.monotonic() - self.contact.heard < FRESH
        return is_known and self.fact.state in (OPEN, HALF_OPEN)

    def admit(self, trial: Trial) -> int | None:
        """Return how many successes the fleet needs from this trial on; 0 if it has to wait, None for a local one."""
        if not self.is_open or not self.is_held_back:
            return None
        lease, now = self.lease, time.monotonic()
        if lease is not None and (lease.trial is trial or (now < lease.until and lease.claim(trial))):
            return lease.trials_left
        self.wish = now
        if lease is None and now >= self.asked + ASK_EVERY:
            self.contact.signal.wake()
        return 0

    def changed(self, change: Change, *, fleet: bool = False) -> None:
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
            state=fact.state,
            reporters=fact.reporters,
            since=datetime.datetime.fromtimestamp(fact.since, datetime.UTC) if fact.since else None,
        )

    # -- for the agent: what became of the breaker, and what there is to tell

    @property
    def is_over(self) -> bool:
        """Whether the sharing ended, and there is nothing left that has to be told before."""
        ends = not self.is_open or self.core() is None
        is_free = self.lease is None or not self.contact.is_connected
        return ends and is_free and self.command is None and not self.notes

    def messages(self, now: float, *, is_due: bool) -> list[Message]:
        """Return what is to be told now; if there is nothing, and it's due, that Redis is to be read."""
        core = self.core()
        if core is not None:
            for trial in core.state.trials:
                if trial.holder() is None:  # its permit was dropped
                    core.change(Settle(-1, trial, NOTHING))
        self.take_notes(core)
        lease, ends = self.lease, core is None or not self.is_open
        if ends:
            self.news = None
        if lease is not None and (ends or (now >= lease.until and lease.claim(None))):
            lease.give_back()
            self.asked = now
        found = [self.command] if self.command is not None else []
        if lease is not None and lease.verdict is not None:
            found.append(Message("done", now, lease.token, lease.verdict))
        elif lease is not None and lease.admitted is not None and not lease.is_begun:
            found.append(Message("begin", now, lease.token))
        elif lease is None and now >= self.due(now):
            self.asked = now
            found.append(Message("ask", now))
        if self.news is not None:
            found.append(self.news)
        if is_due or self.is_due:
            self.is_due = False
            found = found or [Message("read", now)]
        return found

    def due(self, now: float) -> float:
        """Return when a lease is over that nobody claims, or asked for; the longer its callers are gone, the later."""
        core, lease = self.core(), self.lease
        if lease is not None:
            return lease.until if lease.trial is None and lease.verdict is None else float("inf")
        waits = core is not None and core.state.kind in (OPEN, HALF_OPEN) and self.is_open and self.is_held_back
        since = now - self.wish
        return self.asked + max(ASK_EVERY, since / 4) if waits and since < WISH else float("inf")

    def forked(self) -> None:
        """Forget, in a child process, what is its parent's to tell."""
        core = self.core()
        self.lease = self.command = self.news = None
        self.wish, self.noted, self.notes = _NEVER, 0 if core is None else core.state.epoch, deque(maxlen=NOTES)

    def take_notes(self, core: Core | None) -> None:
        """Take in what callers noted, and what became of the breaker unnoted: an interrupt may lose a note."""
        while self.notes:
            moment, change, fleet = self.notes.popleft()
            event = change.event
            if isinstance(event, (Isolate, Reset)):
                self._note_hand(moment, change.after, event, fleet=fleet)
            else:
                self._note(moment, change.after, getattr(event, "trial", None))
        if core is not None:
            self._note(time.monotonic(), core.state)

    def _note(self, moment: float, after: State, asked: Trial | None = None) -> None:
        is_of_fleet = self.lease is not None and self.lease.note(after, asked)
        if after.epoch > self.noted:
            self.noted = after.epoch
            if after.kind is OPEN:
                self.moved, self.news = moment, None if is_of_fleet else Message("report", moment)
            elif after.kind is CLOSED:  # also by a trial of the fleet, whose lease may have lapsed meanwhile
                self.moved, self.news = moment, Message("recover", moment, detail=str(self.turn or 0))

    def _note_hand(self, moment: float, after: State, event: Isolate | Reset, *, fleet: bool) -> None:
        if self.lease is not None:
            self.lease.give_back()
        is_reset = isinstance(event, Reset)
        if is_reset:
            self.moved, self.news = moment, None
        if after.epoch >= self.noted:  # else the fleet has moved it since
            self.noted, self.is_isolated_by_fleet = after.epoch, fleet and not is_reset
        if fleet:
            self.command = Message("reset" if is_reset else "isolate", moment, event.reason)

    # -- for the agent: what the fleet does

    def hear(self, message: Message, fact: Fact, sent: float) -> None:
        """Take the answer to a message sent at that moment, and follow it."""
        self.fact, self.is_refused, core = fact, False, self.core()
        self.take_notes(core)
        if message is self.news:
            self.news = None
        elif message is self.command:
            self.command = None
            if core is not None and fact.is_granted and self._is_done(core.state, message, fact):
                self.turn = fact.turn
        elif message.kind == "ask" and fact.is_granted:
            self.lease = Lease(fact.lease, time.monotonic() + USABLE, fact.trials_left)
        elif message.kind == "begin" and self.lease is not None:
            self.lease.is_begun = True
        if self.lease is not None and self.lease.token != fact.lease:
            self.lease = None  # it was given back, or ended with the transition that is followed now
        if core is not None and self.is_open and self.command is None:
            self._follow(core, fact, sent)

    def _is_done(self, state: State, command: Message, fact: Fact) -> bool:
        """Tell whether a command stands here, or was overtaken; else an older turn of the fleet has undone it here."""
        is_so = state.kind is fact.state and (fact.state is CLOSED or state.reason == fact.reason)
        return is_so or self.moved > command.moment

    def _follow(self, core: Core, fact: Fact, sent: float) -> None:
        """Do here what the fleet did, unless it was done already or something newer happened here."""
        known = self.turn
        if known is not None and 0 < fact.turn < known:  # of an older dump, or of a replica that was behind
            if self.news is None and core.state.kind is CLOSED and fact.state is not CLOSED:
                self.news = Message("recover", sent, detail=str(known))
            return
        self.turn = fact.turn
        if fact.turn in (0, known):  # 0: Redis is new, or was emptied, and then each process keeps its state
            return
        while self._move(core, fact, sent - fact.age, is_first=known is None):  # by our clock, at the earliest
            self.take_notes(core)
        if fact.state in (OPEN, HALF_OPEN) and core.state.kind is OPEN:
            self.news, self.wish = None, _NEVER  # who was rejected before does not wait for the next trial

    def _move(self, core: Core, fact: Fact, happened: float, *, is_first: bool) -> bool:
        """Make the fleet's move; tell whether something came in between, or it goes on."""
        state, is_newer = core.state, self.moved <= happened  # than what this process did by itself
        event = self._event(state, fact, is_newer=is_newer, may_close=is_newer and not is_first)
        if event is None:
            return False
        change = core.change(event)
        if change.before.epoch != state.epoch:
            return True
        was_isolated, self.is_isolated_by_fleet = self.is_isolated_by_fleet, fact.state is ISOLATED
        self.noted = change.after.epoch
        return was_isolated and fact.state in (OPEN, HALF_OPEN)

    def _event(
        self, state: State, fact: Fact, *, is_newer: bool, may_close: bool
    ) -> Isolate | Reset | FleetOpens | FleetCloses | None:
        """Return what happens to the breaker in that state when the fleet made the fact's move."""
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
