"""The parts of a link: what it tells Redis, the lease of the fleet's one trial, and what it knows of the connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from booking_resilience.breaker.shared_script import clean, milliseconds
from booking_resilience.breaker.states import OPEN
from booking_resilience.signals import ThreadSignal

if TYPE_CHECKING:
    from booking_resilience.breaker.states import State, Trial


@dataclass(slots=True, eq=False)
class Contact:
    """How a process stands with a Redis; moments are in real monotonic seconds."""

    signal: ThreadSignal = field(default_factory=ThreadSignal)  # wakes the thread that talks to it
    is_connected: bool = False
    heard: float = float("-inf")  # when it last answered; never, once it was found gone
    under_way: float = 0.0  # how long its last answer took, in seconds


@dataclass(slots=True, eq=False)
class Message:
    """Something to tell Redis, kept until it was answered; `moment` is the real monotonic time it is of."""

    kind: Literal["read", "report", "ask", "begin", "done", "recover", "isolate", "reset"]
    moment: float
    subject: str = ""
    detail: str = ""

    def arguments(self, now: float, under_way: float) -> tuple[str, str, str]:
        """Return its age, subject and detail as the script takes them; a recovery is as old as it will be there."""
        age = milliseconds(now - self.moment + (under_way if self.kind == "recover" else 0.0))
        return str(age), clean(self.subject), self.detail


@dataclass(slots=True, eq=False)
class Lease:
    """The permission to make the fleet's one trial."""

    token: str  # its name in Redis
    until: float  # when it may no longer be claimed, in real monotonic seconds
    trials_left: int  # successes that the fleet still needs to close
    admitted: State | None = None  # the breaker's state since the trial was admitted, with the trial in it
    begun: bool = False  # whether Redis knows that the trial began
    verdict: Literal["success", "failure", "nothing"] | None = None  # how the trial ended
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

    def note(self, before: State, after: State, asked: Trial | None) -> bool:
        """Note what became of its trial in a change, which `asked` may have asked for; tell whether it ended."""
        trial = self.trial
        if trial is None or self.verdict is not None:
            return False
        if trial in after.trials:
            self.admitted = after
        elif trial in before.trials:
            is_success = after.has_recovered or after.successes > before.successes
            self.verdict = "failure" if after.kind is OPEN else "success" if is_success else "nothing"
        elif trial is asked:
            self.verdict = "nothing"  # claimed in vain: the breaker was isolated, say, in the same instant
        return trial in before.trials and self.verdict is not None
