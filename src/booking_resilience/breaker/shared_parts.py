"""The parts of a link: what it tells Redis, the lease of the fleet's one trial, and what it knows of the connection."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from booking_resilience import clock
from booking_resilience.breaker.shared_script import Fact, age_argument, clean
from booking_resilience.breaker.states import CLOSED, ISOLATED, OPEN, FleetCloses, FleetOpens, Isolate, Reset
from booking_resilience.signals import ThreadSignal

if TYPE_CHECKING:
    from booking_resilience.breaker.states import State, Trial

Kind = Literal["read", "report", "ask", "begin", "done", "recover", "isolate", "reset"]
Verdict = Literal["success", "failure", "nothing"]


@dataclass(slots=True, eq=False)
class Message:
    """Something to tell Redis, kept until it was answered; `moment` is the real monotonic time it is of."""

    kind: Kind
    moment: float
    subject: str = ""
    detail: str = ""

    def arguments(self, now: float, under_way: float) -> tuple[str, str]:
        """Return what the script is told beside the settings.

        Args:
            now: The monotonic time.
            under_way: How long a message takes; a recovery is told as old as it will be when it arrives.
        """
        age = age_argument(now - self.moment + (under_way if self.kind == "recover" else 0.0))
        if self.kind in ("report", "recover"):
            return age, self.detail
        if self.kind in ("isolate", "reset"):
            return clean(self.subject), age
        return self.subject, self.detail


@dataclass(slots=True, eq=False)
class Lease:
    """The permission to make the fleet's one trial."""

    token: str  # its name in Redis
    until: float  # when it may no longer be claimed, in real monotonic seconds
    trials_left: int  # successes that the fleet still needs to close
    admitted: State | None = None  # the breaker's state since the trial was admitted, with the trial in it
    begun: bool = False  # whether Redis knows that the trial began
    verdict: Verdict | None = None  # how the trial ended
    _claim: dict[str, Trial | None] = field(default_factory=dict)

    @property
    def trial(self) -> Trial | None:
        """The trial that claimed it."""
        return self._claim.get("trial")

    def claim(self, trial: Trial | None) -> bool:
        """Take it for this trial, or for none; tell whether that is who has it now: of many threads one wins."""
        return self._claim.setdefault("trial", trial) is trial

    def take_back(self) -> None:
        """Have its trial, if there is one, say nothing to the fleet."""
        if self.verdict is None:
            self.claim(None)
            self.verdict = "nothing"


class Owner(Protocol):
    """What a link asks of its `RedisBreaker`."""

    _machine: str
    _closed: bool

    def key(self, name: str, kind: str) -> str:
        """Return the Redis key of a breaker's facts."""
        ...


@dataclass(slots=True, eq=False)
class Contact:
    """How a process stands with a Redis."""

    rang: deque[str] = field(default_factory=deque)  # channels; an empty one is a link that has something to tell
    signal: ThreadSignal = field(default_factory=ThreadSignal)
    is_connected: bool = False
    heard: float = float("-inf")  # when it last answered, in real monotonic seconds; never, once it was found gone
    under_way: float = 0.0  # how long its last answer took, in seconds

    def ring(self, channel: str = "") -> None:
        """Wake the agent's thread."""
        self.rang.append(channel)
        self.signal.wake()

    def wait(self, seconds: float) -> set[str]:
        """Wait for a ring, for so many seconds at most; return the channels that rang."""
        self.signal.wait(seconds)
        return {self.rang.popleft() for _ in range(len(self.rang))}


def verdict_of(before: State, after: State) -> Verdict:
    """Return what the end of a trial says that was under way in the one state and is not in the other."""
    if after.epoch == before.epoch:
        return "success" if after.successes > before.successes else "nothing"
    if after.kind is OPEN:
        return "failure"
    return "success" if after.kind is CLOSED else "nothing"


def event_for(
    fact: Fact, state: State, *, was_isolated: bool, may_open: bool, may_close: bool
) -> Isolate | Reset | FleetOpens | FleetCloses | None:
    """Return what happens to a breaker in that state when the fleet made the fact's move.

    Args:
        fact: The fact.
        state: The breaker's state; nothing happens to it if it is a newer one by then.
        was_isolated: Whether it was the fleet that isolated it.
        may_open: Whether it did not close by itself since.
        may_close: Whether it did not open by itself since.
    """
    if fact.state is ISOLATED:
        return Isolate(fact.reason, state.epoch) if was_isolated or state.kind is not ISOLATED else None
    if was_isolated or (fact.move == "RESET" and may_close and state.kind is not ISOLATED):
        return Reset(fact.reason, state.epoch)
    if fact.state is CLOSED:
        return FleetCloses("a trial of the fleet succeeded", state.epoch) if may_close else None
    opened = clock.monotonic() - (fact.cooldown - fact.left)
    why = (
        "enough machines of the fleet reported" if fact.move == "TRIP" else "the trial of the fleet failed or was lost"
    )
    return FleetOpens(opened, fact.cooldown, why, state.epoch) if may_open else None
