"""What ties one breaker to its fleet: what it has to tell, the lease of the trial, and what it heard last.

The agent's thread owns a link. A caller's thread only claims the lease, says that it waits for one, or leaves a note
of what happened to the breaker, each in one step that needs no lock.

A fact of the fleet is followed once, and not if something newer happened here, or may have: of what happened while
an answer was under way, nobody can tell which came first.
"""

from __future__ import annotations

import datetime
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from booking_resilience.breaker.shared_parts import Contact, Lease, Message, Owner, event_for, verdict_of
from booking_resilience.breaker.snapshots import SharedSnapshot
from booking_resilience.breaker.states import CLOSED, HALF_OPEN, ISOLATED, NOTHING, OPEN, Isolate, Reset, Settle

if TYPE_CHECKING:
    from booking_resilience.breaker.core import Core
    from booking_resilience.breaker.shared_script import Fact
    from booking_resilience.breaker.states import Change, State, Trial

FRESH = 4.0  # seconds after which what was heard last holds nobody back: 2 without an answer, and what goes before
USABLE = 0.4  # seconds from the request in which a lease may be claimed, so that Redis knows of it before it lapses
USABLE_LATE = 0.2  # and at least so many from the answer, which may be long under way
ASK_EVERY = 0.25  # seconds between a lease that was not claimed and the next request, at least
LOOK_EVERY = 1.0  # seconds between two requests for a lease that somebody else has, at most
WISH = 60.0  # seconds that a rejected caller counts as waiting
PROMPT = 0.25  # seconds that a report is good for if the cooldown is shorter: it is on its way
_NEVER = float("-inf")


@dataclass(slots=True, eq=False)
class Link:
    """One breaker's part in a fleet. Moments are in real monotonic seconds."""

    name: str
    core: weakref.ref[Core]
    owner: Owner
    contact: Contact
    settings: tuple[str, ...]  # what the script is told of them
    cooldown: float
    fact: Fact | None = None
    lease: Lease | None = None
    turn: str | None = None  # the last one that was heard of; None before the first answer
    turned: float = 0.0  # when the last one that was followed was, by Redis' clock
    happened: float = _NEVER  # and by ours, at the earliest
    known: deque[str] = field(default_factory=lambda: deque(maxlen=100))  # the turns that were heard of
    command: Message | None = None  # by hand, for the fleet
    report: Message | None = None
    recovery: Message | None = None
    wish: float = _NEVER  # when a caller was last rejected for want of the lease
    lapsed: float = _NEVER  # when a lease was last left unclaimed
    next_ask: float = 0.0
    noted: int = 0  # the breaker's epoch that was noted last
    opened: float = _NEVER  # when it last opened by itself
    closed: float = _NEVER  # when it last closed by itself or by hand
    is_isolated_by_fleet: bool = False
    is_in: bool = False  # whether it has followed an answer of Redis
    is_refused: bool = False  # whether Redis answers for this breaker with an error
    is_woken: bool = False  # whether the agent was told to look
    notes: deque[tuple[float, Change, bool | None]] = field(default_factory=deque)  # moment, change, by hand for all

    # -- for callers

    @property
    def is_open(self) -> bool:
        """Whether the sharing goes on."""
        return not self.owner._closed

    @property
    def is_held_back(self) -> bool:
        """Whether the fleet is open, so that a trial needs the lease."""
        is_open = self.fact is not None and self.fact.state in (OPEN, HALF_OPEN)
        return is_open and not self.is_refused and time.monotonic() - self.contact.heard < FRESH

    def admit(self, trial: Trial, state: State) -> int | None:  # noqa: ARG002 - the core's protocol
        """Return how many successes the fleet needs from this trial on; 0 if it has to wait, None for a local one."""
        if not self.is_open or not self.is_held_back:
            return None
        lease, now = self.lease, time.monotonic()
        if lease is not None and (lease.trial is trial or (now < lease.until and lease.claim(trial))):
            return lease.trials_left
        self.wish = now
        if now >= max(self.next_ask, self.lapsed + ASK_EVERY):
            self._wake()
        return 0

    def changed(self, change: Change) -> None:
        """Note what a call did to the breaker; plain counts are nobody's business."""
        before, after = change.before, change.after
        if before.epoch != after.epoch or before.trials or after.trials or self.lease is not None:
            self.notes.append((time.monotonic(), change, None))
            self._wake()

    def by_hand(self, change: Change, *, fleet: bool) -> None:
        """Note an isolation or a reset by hand."""
        self.notes.append((time.monotonic(), change, fleet))
        self._wake()

    def snapshot(self) -> SharedSnapshot:
        """Return what is known of the fleet."""
        fact = self.fact
        since = 0.0 if fact is None else fact.since
        return SharedSnapshot(
            connected=self.is_open and self.is_in and not self.is_refused and self.contact.is_connected,
            state=CLOSED if fact is None else fact.state,
            reporters=0 if fact is None else fact.reporters,
            since=datetime.datetime.fromtimestamp(since, datetime.UTC) if since else None,
        )

    def _wake(self) -> None:
        if not self.is_woken:
            self.is_woken = True
            self.contact.ring()

    # -- for the agent: what became of the breaker, and what there is to tell

    @property
    def channel(self) -> str:
        """The channel on which changes of its fleet are announced."""
        return self.owner.key(self.name, "changed")

    @property
    def is_live(self) -> bool:
        """Whether it is still shared, and still there."""
        return self.is_open and self.core() is not None

    @property
    def is_told(self) -> bool:
        """Whether there is nothing left that has to be told before it may go."""
        return not self.notes and self.command is None and (self.lease is None or not self.contact.is_connected)

    def note(self, state: State | None) -> None:
        """Take in what callers noted, and what became of the breaker unnoted: an interrupt may lose a note."""
        self.is_woken = False
        while self.notes:
            moment, change, by_hand = self.notes.popleft()
            if by_hand is None:
                self._note(change.before, change.after, moment, getattr(change.event, "trial", None))
            else:
                self._took_over(change, by_hand, moment)
        if state is not None:
            lease = self.lease
            before = state if lease is None or lease.admitted is None else lease.admitted
            self._note(before, state, time.monotonic(), None)

    def _note(self, before: State, after: State, moment: float, asked: Trial | None) -> None:
        leased, lease = False, self.lease
        trial = None if lease is None or lease.verdict is not None else lease.trial
        if lease is not None and trial is not None:
            if trial in after.trials:
                lease.admitted = after
            elif trial in before.trials:
                lease.verdict, leased = verdict_of(before, after), True
            elif trial is asked:
                lease.verdict = "nothing"  # claimed in vain: the breaker was isolated, say, in the same instant
        if after.epoch <= self.noted:
            return
        self.noted = after.epoch
        if after.kind is OPEN:
            self.opened, self.recovery = moment, None
            self.report = self.report if leased else Message("report", moment)
        elif after.kind is CLOSED:
            self.closed, self.report = moment, None
            self.recovery = None if leased else Message("recover", moment)

    def _took_over(self, change: Change, fleet: bool, moment: float) -> None:
        if self.lease is not None:
            self.lease.take_back()
        self.noted = max(self.noted, change.after.epoch)
        event = change.event
        is_reset = isinstance(event, Reset)
        if is_reset:
            self.closed, self.report, self.recovery = moment, None, None
        self.is_isolated_by_fleet = fleet and not is_reset
        if fleet and isinstance(event, (Isolate, Reset)):
            self.command = Message("reset" if is_reset else "isolate", moment, event.reason)

    def messages(self, now: float) -> list[Message]:
        """Return what is to be told now."""
        core = self.core()
        if core is not None:
            for trial in core.state.trials:
                if trial.holder() is None:  # its permit was dropped
                    core.change(Settle(-1, trial, NOTHING))
        self.note(None if core is None else core.state)
        if core is None or not self.is_open:
            self.report = self.recovery = None
            if self.lease is not None:
                self.lease.take_back()
        found = [self.command] if self.command is not None else []
        if (lease := self.lease) is not None:
            if lease.verdict is not None:
                found.append(Message("done", now, lease.token, lease.verdict))
            elif lease.admitted is not None and not lease.begun:
                found.append(Message("begin", now, lease.token))
            elif now >= lease.until and lease.claim(None):
                self.lease, self.lapsed = None, now
        if self.report is not None and now - self.report.moment < max(self.cooldown, PROMPT):
            found.append(self.report)
        else:
            self.report = None
        if self.recovery is not None and self.fact is not None and self.fact.state is not CLOSED:
            found.append(self.recovery)
        else:
            self.recovery = None
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
        self.lease = self.command = self.report = self.recovery = None
        self.wish, self.noted = _NEVER, 0 if core is None else core.state.epoch
        self.notes, self.is_woken = deque(), False

    # -- for the agent: what the fleet does

    def hear(self, message: Message, fact: Fact, sent: float) -> None:
        """Take the answer to a message sent at that moment, and follow it."""
        now, lease, self.fact, self.is_refused = time.monotonic(), self.lease, fact, False
        match message.kind:
            case "report" if self.report is message:
                self.report = None
            case "recover" if self.recovery is message:
                self.recovery = None
            case "done" if lease is not None and lease.token == message.subject:
                self.lease = None
            case "begin" if lease is not None and lease.token == message.subject:
                lease.begun = True
            case "isolate" | "reset" if self.command is message:
                self.command = None
                if fact.answer == "done":
                    self._keep(fact, sent)  # it was done here when it was asked for
            case "ask" if fact.answer == "yours":
                self.lease = Lease(fact.lease, max(sent + USABLE, now + USABLE_LATE), fact.trials_left)
            case "ask":
                self.next_ask = now + min(fact.wait, LOOK_EVERY)
        if self.lease is not None and self.lease.token != fact.lease:
            self.lease = None  # it ended with the transition that is followed now
        if fact.state is HALF_OPEN and not fact.lease:
            self.next_ask = 0.0  # it is free
        core = self.core()
        if core is not None and self.is_open and self.command is None:
            self._follow(core, fact, sent, now)
        self.is_in = True

    def _keep(self, fact: Fact, sent: float) -> None:
        self.turn, self.turned, self.happened, self.next_ask = fact.turn, fact.turned, sent - fact.age, 0.0
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
            self.turn = fact.turn  # of an older dump, or of a replica that was behind: it is over
            if self.recovery is None and core.state.kind is CLOSED:
                self.recovery = Message("recover", now, detail=str(round(self.turned * 1000)))
            return
        self._keep(fact, sent)
        self.note(core.state)
        while self._move(core, core.state, fact, is_first):
            self.note(core.state)  # something else came in between
        if fact.state in (OPEN, HALF_OPEN) and core.state.kind is OPEN:
            self.report = self.recovery = None
            self.wish = _NEVER  # who was rejected before does not wait for the next trial

    def _move(self, core: Core, state: State, fact: Fact, is_first: bool) -> bool:
        """Make the fleet's move from the state; tell whether it has to be tried again."""
        was_isolated = self.is_isolated_by_fleet
        may_open, may_close = self.closed <= self.happened, not is_first and self.opened <= self.happened
        event = event_for(fact, state, was_isolated=was_isolated, may_open=may_open, may_close=may_close)
        if event is None:
            return False
        change = core.change(event)
        if change.before.epoch != state.epoch:
            return True
        self.noted, self.is_isolated_by_fleet = change.after.epoch, fact.state is ISOLATED
        return was_isolated and fact.state in (OPEN, HALF_OPEN)
