"""What Redis knows of a fleet of breakers, and the one script that reads and changes it, in one step and by its clock.

Redis holds facts: who reported, how the fleet stands, who has the lease of the trial. Which move leads where is not
written down here a second time: the script is given the state machine's own table.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from booking_resilience.breaker.machine import TRANSITIONS
from booking_resilience.events import BreakerState

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT = 7 * 86400  # seconds that a fleet's facts outlive the last process that asked for them
LONGEST = 10**12  # seconds, 30,000 years: what is longer is told as that, since Redis refuses what it cannot add
LATE = 2.0  # seconds after which something by hand may be overtaken by what happened since

_MOVES = "".join(f"MOVES['{old.value} {move.name}'] = '{new.value}'\n" for (old, move), new in TRANSITIONS.items())
_BODY = (
    importlib.resources.files("booking_resilience.breaker").joinpath("shared_script.lua").read_text(encoding="utf-8")
)
SCRIPT = f"local KEPT, LATE, MOVES = {KEPT * 1000}, {int(LATE * 1000)}, {{}}\n{_MOVES}{_BODY}"
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # as Redis names it


@dataclass(frozen=True, slots=True)
class Settings:
    """What of a process's settings counts for the fleet when that process completes a report; seconds."""

    cooldown: float
    max_cooldown: float | None
    trial_calls: int
    trial_timeout: float
    min_reporters: int

    def arguments(self) -> tuple[str, ...]:
        """Return them as the script takes them, in whole milliseconds; at least one where none is no value."""
        longest = 0 if self.max_cooldown is None else max(_milliseconds(self.max_cooldown), 1)
        length = max(_milliseconds(self.trial_timeout), 1)
        numbers = _milliseconds(self.cooldown), longest, self.trial_calls, self.min_reporters, length
        return tuple(str(number) for number in numbers)


@dataclass(frozen=True, slots=True)
class Fact:
    """How the fleet stood when Redis answered; durations in seconds.

    Attributes:
        state: The fleet's state.
        turn: Names the last transition that processes have to follow; empty if Redis knows of none.
        move: Which move that was, by its name in the table.
        left: Of the cooldown.
        cooldown: The whole of it.
        trials_left: Successes still needed to close.
        since: Since when it is in its state, in seconds since 1970 by Redis' clock; None if Redis knows of nothing.
        age: How long ago the turn was.
        reporters: Processes that reported within one cooldown.
        lease: The token of the lease, empty if nobody has it.
        answer: To who asked for the lease: yours, yield, busy, wait, no.
        reason: Of the last isolation or reset by hand.
    """

    state: BreakerState
    turn: str
    move: str
    left: float
    cooldown: float
    trials_left: int
    since: float | None
    age: float
    reporters: int
    lease: str
    answer: str
    reason: str

    @classmethod
    def parse(cls, reply: Sequence[bytes]) -> Fact:
        """Return what the script's reply says."""
        state, turn, move, left, cooldown, trials, since, age, reporters, lease, answer, reason = (
            item.decode("utf-8", "replace") for item in reply
        )
        return cls(
            state=BreakerState(state),
            turn=turn,
            move=move,
            left=int(left) / 1000,
            cooldown=int(cooldown) / 1000,
            trials_left=int(trials),
            since=int(since) / 1000 if since else None,
            age=int(age) / 1000,
            reporters=int(reporters),
            lease=lease,
            answer=answer,
            reason=reason,
        )


def clean(text: str) -> str:
    """Return a text that Redis can be told, whatever the application's had in it."""
    return text.encode("utf-8", "backslashreplace").decode()


def age_argument(seconds: float) -> str:
    """Return an age as the script takes it: whole milliseconds, 0 or more."""
    return str(_milliseconds(max(seconds, 0.0)))


def _milliseconds(seconds: float) -> int:
    return math.ceil(min(seconds, LONGEST) * 1000 - 1e-6)
