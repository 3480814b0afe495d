"""What the fleet's facts do to the machine of one process: moves of the machine's own table, and no other. Pure.

Called with the lock of all breakers held. Each change is computed first and made if nothing came in between, as the
machine itself does it; if something did, it is computed anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from booking_resilience.breaker.machine import CLOSED, HALF_OPEN, ISOLATED, OPEN, RECOVER, RELAPSE, TRIP, TRY, _is_over

if TYPE_CHECKING:
    from booking_resilience.breaker.machine import Machine


def open_here(machine: Machine, opened: float, cooldown: float, reason: str) -> None:
    """Have it stand open since `opened` (monotonic seconds), for the fleet's cooldown; an isolated one stays so.

    No call failed here, so the counts of failures stay.
    """
    while True:
        seen, state = machine.changes, machine.state
        consecutive, failures = machine.consecutive, machine.failures
        if state is ISOLATED:
            return
        move = TRIP if state is CLOSED else RELAPSE
        if state is OPEN and machine.changes == seen:
            machine.changes = seen + 1
        elif state is OPEN or not machine._move(move, seen, reason, opened=opened):
            continue
        else:
            machine.consecutive, machine.failures = consecutive, failures
        machine.opened, machine.cooldown_now = opened, cooldown
        return


def close_here(machine: Machine, reason: str) -> None:
    """Close it, as after a trial that succeeded: it did, in another process. An isolated one stays so."""
    while machine.state in (OPEN, HALF_OPEN):
        move = TRY if machine.state is OPEN else RECOVER
        machine._move(move, machine.changes, reason)


def lose_trial(machine: Machine, now: float) -> None:
    """Open it for another cooldown if its trial is lost."""
    while machine.state is HALF_OPEN and machine._is_trial_lost(now):
        machine._move(RELAPSE, machine.changes, "a trial was lost", opened=now, cause=machine.cause)


def is_waiting(machine: Machine, now: float) -> bool:
    """Tell whether it is open and its cooldown is over, or half-open with no trial under way."""
    if machine.state is OPEN:
        return _is_over(machine.opened, machine.cooldown_now, now)
    return machine.state is HALF_OPEN and not machine.trials
