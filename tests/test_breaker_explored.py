"""Every interleaving of three callers, an operator, the fleet and the clock, explored whole."""

from __future__ import annotations

import pytest

from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.states import State
from booking_resilience.events import BreakerState
from explorer import Explorer

CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN


@pytest.mark.parametrize("begin", [CLOSED, OPEN])
@pytest.mark.parametrize("trial_calls", [1, 2])
def test_no_interleaving_breaks_an_invariant(
    begin: BreakerState, trial_calls: int, record_property: pytest.RecordProperty
) -> None:
    """The invariants of tests/explorer.py hold in every world there is, and every kind of event was met."""
    machine = Machine(threshold=2, cooldown=10.0, max_cooldown=20.0, trial_calls=trial_calls, trial_timeout=10.0)
    is_open = State(kind=OPEN, epoch=1, opened=-10.0, cooldown=10.0, failures=2, consecutive=2, trips=1)
    explorer = Explorer(machine, callers=3, commands=1, ticks=1)
    worlds = explorer.run(State() if begin is CLOSED else is_open)
    record_property("worlds", worlds)
    assert worlds > 10_000
    events = {"Acquire", "Settle", "Isolate", "Reset", "FleetOpens", "FleetCloses"}
    assert events | {"refused", "stale", "ignored", "counted"} == set(explorer.seen)
