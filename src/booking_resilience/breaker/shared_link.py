"""What ties one breaker to its fleet: what it has to tell, the lease of the trial, and what it heard last.

Every method but `wake` is called with the lock of all breakers held, and runs a few instructions: no code of the user,
no socket. The caller's path leaves here what is to be told; shared_news.py is what the agent does with it.
"""

from __future__ import annotations

import datetime
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from booking_resilience.breaker.machine import CLOSED, HALF_OPEN, OPEN
from booking_resilience.breaker.permits import SharedSnapshot
from booking_resilience.breaker.shared_facts import is_waiting, lose_trial

if TYPE_CHECKING:
    from booking_resilience.breaker.machine import Machine
    from booking_resilience.breaker.shared import RedisBreaker
    from booking_resilience.breaker.shared_script import Fact, Settings
    from booking_resilience.breaker.tickets import Ticket

Kind = Literal["read", "report", "ask", "begin", "yield", "done", "recover", "isolate", "reset"]

FRESH = 4.0  # seconds after which what was heard last holds nobody back: 2 without an answer, and what goes before


@dataclass(slots=True, eq=False)
class Message:
    """Something to tell to Redis, kept until it was answered; `moment` is the real monotonic time it is of."""

    kind: Kind
    moment: float
    subject: str = ""
    detail: str = ""


@dataclass(slots=True, eq=False)
class Lease:
    """The permission to make the fleet's one trial.

    Attributes:
        token: Its name in Redis.
        until: Until when it may be used, in real monotonic seconds.
        trials_left: Successes that the fleet still needs to close.
        trial: The call that uses it.
        successes: What the machine had counted when the trial began.
        begun: Whether Redis knows that the trial began.
        verdict: How it ended: success, failure, or yield if it says nothing.
    """

    token: str
    until: float
    trials_left: int
    trial: Ticket | None = None
    successes: int = 0
    begun: bool = False
    verdict: Literal["success", "failure", "yield"] | None = None


@dataclass(slots=True, eq=False)
class Link:
    """One breaker's part in a fleet."""

    name: str
    machine: Machine
    owner: RedisBreaker
    settings: Settings
    identity: str = field(default_factory=lambda: uuid.uuid4().hex)
    fact: Fact | None = None
    turn: str | None = None  # the last one that was followed
    lease: Lease | None = None
    command: Message | None = None  # by hand, for the fleet
    report: Message | None = None
    recovery: Message | None = None
    wish: float = float("-inf")  # when a caller was last refused for want of the lease
    next_ask: float = 0.0
    noted: int = 0  # the machine's epoch that was noted last
    opened: float = float("-inf")  # when it last opened by itself, in real monotonic seconds
    reset: float = float("-inf")  # when it was last reset by hand
    is_isolated_by_fleet: bool = False
    is_urgent: bool = False  # whether the agent has something to do

    @property
    def is_held_back(self) -> bool:
        """Whether the fleet is open, so that a trial needs the lease."""
        return self.fact is not None and self.fact.state in (OPEN, HALF_OPEN) and self.owner._agent.is_fresh(FRESH)

    def wake(self) -> None:
        """Wake the agent if there is something to tell; called without the lock."""
        if self.is_urgent:
            self.is_urgent = False
            self.owner._agent.wake()

    def admit(self, ticket: Ticket) -> tuple[float | None, str | None] | None:
        """Do as `Machine.admit`; a trial of an open fleet needs the lease, which is asked for."""
        machine, now = self.machine, ticket.started
        self.note()
        if machine.state not in (OPEN, HALF_OPEN):
            return machine.admit(ticket, now)
        if self.owner._closed:
            machine.trial_calls = self.settings.trial_calls  # its last trial may have been the fleet's
            return machine.admit(ticket, now)
        held_back, lease = self.is_held_back, self.lease
        if held_back:
            lose_trial(machine, now)
            self.note()
            if not is_waiting(machine, now):
                if machine.state is OPEN:
                    return machine.admit(ticket, now)  # refuses: the cooldown is not over
                return self._refuse()
        usable = lease is not None and lease.trial is None and lease.verdict is None
        if lease is None or not usable or time.monotonic() >= lease.until:
            if held_back:
                self.wish = time.monotonic()
                self.is_urgent = self.is_urgent or self.wish >= self.next_ask
                return self._refuse()
            machine.trial_calls = self.settings.trial_calls
            refusal = machine.admit(ticket, now)
            self.note()
            return refusal
        lease.successes = machine.successes if machine.state is HALF_OPEN else 0
        machine.trial_calls = lease.successes + lease.trials_left
        lease.trial = ticket
        refusal = machine.admit(ticket, now)
        if refusal is None:
            self.wish, self.is_urgent = float("-inf"), True
        else:
            lease.trial = None
        self.note()
        return refusal

    def note(self) -> None:
        """Note what became of the machine since it was last looked at. Doing it again, or late, is harmless."""
        machine, lease = self.machine, self.lease
        epoch, state = machine.epoch, machine.state
        trial = lease.trial if lease is not None and lease.verdict is None else None
        if epoch == self.noted and (trial is None or not trial.settled):
            return
        now, leased = time.monotonic(), False
        if lease is not None and trial is not None and trial.epoch >= 0:
            if trial.epoch != epoch:
                leased, self.is_urgent = True, True
                answered = state is CLOSED and trial.settled
                lease.verdict = "failure" if state is OPEN else "success" if answered else "yield"
            elif trial.settled and machine.successes > lease.successes:
                lease.verdict, self.is_urgent = "success", True
            elif trial.settled:
                lease.verdict, self.is_urgent = "yield", True  # it says nothing: let the next caller of the fleet try
        if epoch == self.noted:
            return
        self.noted = epoch
        if state is OPEN:
            self.opened, self.recovery = now, None
            if not leased:
                self.report, self.is_urgent = Message("report", now), True
        elif state is CLOSED:
            self.report = None
            self.recovery = None if leased else Message("recover", now)

    def was_reset(self, reason: str, fleet: bool) -> None:
        """Note a reset by hand."""
        self._took_over("reset" if fleet else None, reason)
        self.reset, self.report, self.recovery = time.monotonic(), None, None
        self.is_isolated_by_fleet = False

    def was_isolated(self, reason: str, fleet: bool) -> None:
        """Note an isolation by hand."""
        self._took_over("isolate" if fleet else None, reason)
        self.is_isolated_by_fleet = fleet

    def snapshot(self) -> SharedSnapshot:
        """Return what is known of the fleet."""
        fact = self.fact
        since = None if fact is None or fact.since is None else fact.since
        return SharedSnapshot(
            connected=not self.owner._closed and self.owner._agent.is_connected,
            state=CLOSED if fact is None else fact.state,
            reporters=0 if fact is None else fact.reporters,
            since=None if since is None else datetime.datetime.fromtimestamp(since, datetime.UTC),
        )

    def _refuse(self) -> tuple[float | None, str | None]:
        self.machine.refused += 1
        return 0.0, self.machine.cause

    def _took_over(self, kind: Literal["isolate", "reset"] | None, reason: str) -> None:
        self.note()
        lease = self.lease
        if lease is not None and lease.verdict is None:
            lease.verdict = "yield"
        self.noted, self.is_urgent = self.machine.epoch, True
        if kind is not None:
            self.command = Message(kind, time.monotonic(), reason)
