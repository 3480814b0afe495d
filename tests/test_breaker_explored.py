"""Every interleaving of three callers, an operator or the fleet, and the clock, explored whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from booking_resilience.breaker.machine import Machine
from booking_resilience.breaker.states import FleetCloses, FleetOpens, Isolate, Reset, State
from booking_resilience.events import BreakerState
from explorer import TICK, Explorer

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED, OPEN = BreakerState.CLOSED, BreakerState.OPEN
COMMANDS: dict[str, tuple[Callable[[float, int], Any], ...]] = {
    "none": (),
    "isolate": (lambda now, epoch: Isolate("why"),),
    "reset": (lambda now, epoch: Reset("why"),),
    "fleet opens": (lambda now, epoch: FleetOpens(now, TICK, "why"),),
    "fleet opens this epoch": (lambda now, epoch: FleetOpens(now, TICK, "why", epoch),),
    "fleet closes": (lambda now, epoch: FleetCloses("why"),),
    "fleet closes this epoch": (lambda now, epoch: FleetCloses("why", epoch),),
}
BEGINNINGS = {
    "closed": State(),
    "open": State(kind=OPEN, epoch=1, opened=-TICK, cooldown=TICK, failures=2, consecutive=2, trips=1),
}


CASES = [
    *(("closed", 1, command) for command in COMMANDS if not command.endswith("this epoch")),
    *(("open", 1, command) for command in COMMANDS),
    *(("closed", 2, command) for command in ("none", "isolate", "fleet closes")),
    *(("open", 2, command) for command in ("none", "fleet closes")),
]


@pytest.mark.parametrize(("begin", "trial_calls", "command"), CASES)
def test_no_interleaving_breaks_an_invariant(
    begin: str, trial_calls: int, command: str, record_property: Callable[[str, object], None]
) -> None:
    """The invariants of tests/explorer.py hold in every world there is."""
    machine = Machine(threshold=2, cooldown=TICK, max_cooldown=20.0, trial_calls=trial_calls, trial_timeout=TICK)
    explorer = Explorer(machine, callers=3, commands=COMMANDS[command], ticks=1)
    worlds = explorer.run(BEGINNINGS[begin])
    record_property("worlds", worlds)
    assert worlds > 100
    assert {"Acquire", "Settle", "ignored", "counted"} <= set(explorer.seen)


def test_every_kind_of_event_and_outcome_is_met() -> None:
    """What is explored is not empty of what matters: refusals, stale results, lost trials."""
    machine = Machine(threshold=1, cooldown=TICK, trial_timeout=TICK)
    explorer = Explorer(machine, callers=2, commands=tuple(make for makers in COMMANDS.values() for make in makers))
    explorer.run(BEGINNINGS["open"])
    events = {"Acquire", "Settle", "Isolate", "Reset", "FleetOpens", "FleetCloses"}
    assert events | {"refused", "stale", "ignored", "counted"} == set(explorer.seen)
