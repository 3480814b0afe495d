"""What Redis knows of a fleet of breakers, and the one script that reads and changes it, in one step and by its clock.

Redis holds facts: who reported, how the fleet stands, who has the lease of the trial. Which move leads where is not
written down here a second time: the script is given the state machine's own table.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import math
from dataclasses import dataclass

from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.states import TRANSITIONS
from booking_resilience.events import BreakerState

KEPT = 7 * 86400  # seconds that a fleet's facts outlive the last process that asked for them
LONGEST = 10**12  # seconds, 30,000 years: what is longer is told as that, since Redis refuses what it cannot add
LATE = 2.0  # seconds after which something by hand may be overtaken by what happened since
LAPSE = 0.5  # seconds after which a lease that nobody began is free again

_MOVES = "".join(f"MOVES['{old.value} {move.name}'] = '{new.value}'\n" for (old, move), new in TRANSITIONS.items())
_BODY = (
    importlib.resources.files("booking_resilience.breaker").joinpath("shared_script.lua").read_text(encoding="utf-8")
)
_TIMES = ", ".join(str(int(seconds * 1000)) for seconds in (KEPT, LATE, LAPSE))
SCRIPT = f"local KEPT, LATE, LAPSE = {_TIMES}\nlocal MOVES = {{}}\n{_MOVES}{_BODY}"
SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # as Redis names it


def settings_arguments(machine: Machine, min_reporters: int) -> tuple[str, ...]:
    """Return the settings that count for the fleet as the script takes them: in whole milliseconds.

    No longest cooldown is 0, so one of nothing is 1; likewise a trial's timeout.
    """
    longest = 0 if machine.max_cooldown is None else max(milliseconds(machine.max_cooldown), 1)
    length = max(milliseconds(machine.trial_timeout), 1)
    numbers = milliseconds(machine.cooldown), longest, machine.trial_calls, min_reporters, length
    return tuple(str(number) for number in numbers)


@dataclass(frozen=True, slots=True)
class Fact:
    """How the fleet stood when Redis answered; durations in seconds."""

    state: BreakerState
    turn: str  # names the last transition that processes have to follow; empty if Redis knows of none
    move: str  # which move that was, by its name in the table
    turned: float  # when it was, in seconds since 1970 by Redis' clock
    age: float  # how long ago that was
    left: float  # of the cooldown
    cooldown: float  # the whole of it
    trials_left: int  # successes still needed to close
    since: float  # since when it is in its state, by Redis' clock; 0 if Redis knows of nothing
    reporters: int  # machines that reported within one cooldown
    lease: str  # the token of the lease; empty if nobody has it
    wait: float  # how long until it is worth asking for the lease
    answer: str  # `yours` to whoever got the lease, `done` to a command by hand that was carried out, else empty
    reason: str  # of the last isolation or reset by hand

    @classmethod
    def parse(cls, reply: bytes) -> Fact:
        """Return what the script's reply says."""
        said = json.loads(reply)
        return cls(**{**said, "state": BreakerState(said["state"])})


def clean(text: str) -> str:
    """Return a string that Redis can be told, whatever the application's had in it."""
    return text.encode("utf-8", "backslashreplace").decode()


def milliseconds(seconds: float) -> int:
    """Return a time as the script takes it: in whole milliseconds, 0 or more."""
    return math.ceil(min(max(seconds, 0.0), LONGEST) * 1000 - 1e-6)
