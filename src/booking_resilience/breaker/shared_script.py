"""What Redis knows of a fleet of breakers, and the one script that reads and changes it, in one step and by its clock.

Redis holds facts: who reported, how the fleet stands, who has the lease of the trial. Which move leads where is not
written down here a second time: the script is given the state machine's own table.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import math
import uuid
from dataclasses import dataclass
from typing import Literal

from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.states import TRANSITIONS
from booking_resilience.events import BreakerState

KEPT = 7 * 86400  # seconds that a fleet's facts outlive the last process that asked for them
LONGEST = 10**12  # seconds, 30,000 years: what is longer is told as that, since Redis refuses what it cannot add
LATE = 2.0  # seconds after which something by hand may be overtaken by what happened since
LAPSE = 0.5  # seconds after which a lease that nobody began is free again; a report is good for so many at least

_MOVES = "".join(f"MOVES['{old.value} {move.name}'] = '{new.value}'\n" for (old, move), new in TRANSITIONS.items())
_BODY = (
    importlib.resources.files("booking_resilience.breaker").joinpath("shared_script.lua").read_text(encoding="utf-8")
)
_TIMES = ", ".join(str(int(seconds * 1000)) for seconds in (KEPT, LATE, LAPSE))
SCRIPT = f"local KEPT, LATE, LAPSE = {_TIMES}\nlocal MOVES = {{}}\n{_MOVES}{_BODY}"
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # as Redis names it


def settings_arguments(machine: Machine, min_reporters: int) -> tuple[int, ...]:
    """Return the settings that count for the fleet as the script takes them: in whole milliseconds.

    No longest cooldown is 0, so one of nothing is 1; likewise a trial's timeout.
    """
    longest = 0 if machine.max_cooldown is None else max(milliseconds(machine.max_cooldown), 1)
    length = max(milliseconds(machine.trial_timeout), 1)
    return milliseconds(machine.cooldown), longest, machine.trial_calls, min_reporters, length


@dataclass(slots=True, eq=False)
class Message:
    """Something to tell the script, kept until it was answered."""

    kind: Literal["read", "report", "ask", "begin", "done", "recover", "isolate", "reset"]
    moment: float  # the real monotonic time that it is of
    subject: str = ""
    detail: str = ""

    def arguments(self, now: float) -> tuple[int | str, ...]:
        """Return it as the script takes it, with a token that was never used before."""
        return self.kind, uuid.uuid4().hex, milliseconds(now - self.moment), clean(self.subject), self.detail


@dataclass(frozen=True, slots=True)
class Fact:
    """How the fleet stood when Redis answered, at first as one that it knows nothing of; durations in seconds."""

    state: BreakerState = BreakerState.CLOSED
    turn: int = 0  # the number of the last transition that processes have to follow; 0 if Redis knows of none
    move: str = ""  # which move that was, by its name in the table
    age: float = 0.0  # how long ago that was
    left: float = 0.0  # of the cooldown
    cooldown: float = 0.0  # the whole of it
    trials_left: int = 0  # successes still needed to close
    since: float = 0.0  # since when it is in its state, by Redis' clock; 0 if Redis knows of nothing
    reporters: int = 0  # machines that reported within one cooldown
    lease: str = ""  # the token of the lease; empty if nobody has it
    is_granted: bool = False  # whether the lease was given to who asks, or a command by hand was carried out
    reason: str = ""  # of the last isolation or reset by hand

    @classmethod
    def parse(cls, reply: bytes) -> Fact:
        """Return what the script's reply says."""
        said = json.loads(reply)
        return cls(**{**said, "state": BreakerState(said["state"])})


def clean(text: str) -> str:
    """Return a string that Redis can be told, whatever the application's had in it."""
    return text.encode("utf-8", "backslashreplace").decode()


def milliseconds(seconds: float) -> int:
    """Return a duration as the script takes it: in whole milliseconds, rounded up, 0 or more."""
    return math.ceil(min(max(seconds, 0.0), LONGEST) * 1000 - 1e-6)
