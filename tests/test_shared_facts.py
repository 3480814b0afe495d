"""What the fleet's facts do to one machine, and what the script is given: no Redis, no thread."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience.breaker.machine import TRANSITIONS, Machine, Move
from booking_resilience.breaker.shared_facts import close_here, is_waiting, lose_trial, open_here
from booking_resilience.breaker.shared_script import SCRIPT, Fact, Settings, age_argument, clean
from booking_resilience.breaker.tickets import Ticket, Verdict
from booking_resilience.events import BreakerState

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState


def in_state(state: BreakerState) -> Machine:
    """Return a machine that was led into the state at time 0."""
    machine = Machine(threshold=1, cooldown=10.0)
    if state in (OPEN, HALF_OPEN):
        settle(machine, Verdict.FAILURE, 0.0)
    if state is HALF_OPEN:
        assert machine.admit(Ticket(started=10.0), 10.0) is None
    if state is ISOLATED:
        machine.isolate("by the test")
    machine.moves = ()
    return machine


def settle(machine: Machine, verdict: Verdict, now: float) -> Ticket | None:
    """Make a call that ends at once; None if it was refused."""
    ticket = Ticket(started=now)
    if machine.admit(ticket, now) is not None:
        return None
    machine.settle(ticket, verdict, now, "E: x")
    return ticket


@pytest.mark.parametrize(
    ("state", "states"),
    [(CLOSED, [OPEN]), (OPEN, []), (HALF_OPEN, [OPEN]), (ISOLATED, [])],
)
def test_an_open_fleet_opens_all_but_what_is_isolated(state: BreakerState, states: list[BreakerState]) -> None:
    """By the moves of the table; one that is open already takes the fleet's cooldown over."""
    machine = in_state(state)
    before = machine.consecutive, machine.failures
    open_here(machine, 12.0, 4.0, "why")
    assert [new for _, new, _ in machine.moves] == states
    assert machine.state is (ISOLATED if state is ISOLATED else OPEN)
    assert (machine.consecutive, machine.failures) == before
    if state is not ISOLATED:
        assert (machine.opened, machine.cooldown_now) == (12.0, 4.0)
        assert machine.refuse(15.0) == (1.0, machine.cause)
        assert machine.refuse(16.0) is None


@pytest.mark.parametrize(
    ("state", "states"),
    [(CLOSED, []), (OPEN, [HALF_OPEN, CLOSED]), (HALF_OPEN, [CLOSED]), (ISOLATED, [])],
)
def test_a_fleet_that_closes_closes_all_but_what_is_isolated(state: BreakerState, states: list[BreakerState]) -> None:
    """As a trial of its own would; the refusals are still counted."""
    machine = in_state(state)
    machine.refused = 3
    close_here(machine, "why")
    assert [new for _, new, _ in machine.moves] == states
    assert machine.state is (ISOLATED if state is ISOLATED else CLOSED)
    assert machine.refused == 3


def test_the_results_of_before_a_fact_are_stale() -> None:
    """What was under way when the fleet opened or closed changes nothing any more."""
    machine = in_state(CLOSED)
    early = Ticket(started=0.0)
    machine.admit(early, 0.0)
    open_here(machine, 0.0, 10.0, "why")
    close_here(machine, "why")
    machine.settle(early, Verdict.FAILURE, 1.0, "E: late")
    assert (machine.state, machine.stale) == (CLOSED, 1)


def test_a_lost_trial_is_noticed() -> None:
    """After `trial_timeout` it opens for another cooldown, and not a moment before."""
    machine = in_state(HALF_OPEN)
    lose_trial(machine, 69.9)
    assert machine.state is HALF_OPEN
    lose_trial(machine, 70.0)
    assert (machine.state, machine.opened) == (OPEN, 70.0)


@pytest.mark.parametrize(
    ("state", "now", "waiting"),
    [(CLOSED, 0.0, False), (OPEN, 9.9, False), (OPEN, 10.0, True), (HALF_OPEN, 10.0, False), (ISOLATED, 99.0, False)],
)
def test_who_waits_for_a_trial(state: BreakerState, now: float, waiting: bool) -> None:
    """One that is open with its cooldown over, or half-open without a trial."""
    assert is_waiting(in_state(state), now) is waiting


STEPS = st.sampled_from(["open", "close", "success", "failure", "nothing", "isolate", "reset", "lose", "wait"])


@given(st.lists(STEPS, max_size=40), st.integers(1, 3))
def test_facts_at_any_time_leave_a_chain_of_moves_of_the_table(steps: list[str], trial_calls: int) -> None:
    """Between calls of all kinds: every transition is in the table, and no more trials run than are allowed."""
    machine, now = Machine(threshold=2, cooldown=5.0, trial_calls=trial_calls), 0.0
    allowed = {(old, new) for (old, _), new in TRANSITIONS.items()}
    state = machine.state
    for step in steps:
        match step:
            case "open":
                open_here(machine, now, 5.0, "why")
            case "close":
                close_here(machine, "why")
            case "isolate":
                machine.isolate("why")
            case "reset":
                machine.reset("why")
            case "lose":
                lose_trial(machine, now)
            case "wait":
                now += 5.0
            case verdict:
                settle(machine, Verdict[verdict.upper()], now)
        for old, new, _ in machine.moves:
            assert old is state
            assert (old, new) in allowed
            state = new
        machine.moves = ()
        assert state is machine.state
        assert len(machine.trials) <= trial_calls


def test_the_script_has_the_table_of_the_machine_and_no_other() -> None:
    """Each row of it, once; every move that the script makes is one of the table."""
    rows = re.findall(r"^MOVES\['(\w+) (\w+)'\] = '(\w+)'$", SCRIPT, re.MULTILINE)
    assert {(old, move): new for old, move, new in rows} == {
        (old.value, move.name): new.value for (old, move), new in TRANSITIONS.items()
    }
    assert len(rows) == len(TRANSITIONS)
    made = set(re.findall(r"(?:make|open|close)\('(\w+)'", SCRIPT))
    assert made == {move.name for move in Move}


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, ("30000", "0", "1", "2", "60000")),
        ({"cooldown": 0.0}, ("0", "0", "1", "2", "60000")),
        ({"cooldown": 0.0, "max_cooldown": 0.0}, ("0", "1", "1", "2", "60000")),
        ({"max_cooldown": 60.5, "trial_calls": 3}, ("30000", "60500", "3", "2", "60000")),
        ({"trial_timeout": 1e-6, "min_reporters": 1}, ("30000", "0", "1", "1", "1")),
        ({"cooldown": 0.0014}, ("2", "0", "1", "2", "60000")),
        (
            {"cooldown": 1e20, "max_cooldown": 10**308, "trial_timeout": 1e306},
            (str(10**15), str(10**15), "1", "2", str(10**15)),
        ),
    ],
)
def test_settings_are_told_in_whole_milliseconds(changes: dict[str, Any], arguments: tuple[str, ...]) -> None:
    """Rounded up; no longest cooldown is 0, and what is longer than Redis can reckon with is the longest it can."""
    settings = {"cooldown": 30.0, "max_cooldown": None, "trial_calls": 1, "trial_timeout": 60.0, "min_reporters": 2}
    assert Settings(**{**settings, **changes}).arguments() == arguments


def test_ages_are_never_negative() -> None:
    """A clock that stepped back does not make a report of the future."""
    assert [age_argument(seconds) for seconds in (-5.0, 0.0, 0.0015, 2.0)] == ["0", "0", "2", "2000"]


def test_texts_that_are_no_text_can_be_told() -> None:
    """A lone surrogate in a name or a reason does not end the sharing."""
    assert clean("caf\u00e9 \ud800") == "caf\u00e9 \\ud800"


def test_a_reply_is_read_as_it_was_meant() -> None:
    """Milliseconds become seconds; what Redis does not know is None or empty."""
    reply = "half_open t1 TRIP 1500 30000 2 1700000000000 250 3 l1 yours why"
    fact = Fact.parse([word.encode() for word in reply.split()])
    assert (fact.state, fact.left, fact.cooldown, fact.trials_left, fact.since) == (HALF_OPEN, 1.5, 30.0, 2, 1.7e9)
    assert (fact.age, fact.reporters, fact.lease, fact.answer) == (0.25, 3, "l1", "yours")
    assert Fact.parse([b"closed", b"", b"", b"0", b"0", b"0", b"", b"1", b"0", b"", b"", b""]).since is None
