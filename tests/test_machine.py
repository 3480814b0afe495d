"""The pure step of the state machine: its table, and each of its rules by itself."""

from __future__ import annotations

import importlib.util
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience.breaker.machine import Machine, _moved
from booking_resilience.breaker.states import (
    TRANSITIONS,
    Acquire,
    Change,
    Event,
    FleetCloses,
    FleetOpens,
    Isolate,
    Move,
    Reset,
    Settle,
    State,
    Trial,
    Verdict,
)  # fmt: skip
from booking_resilience.breaker.window import FailureRate, recent
from booking_resilience.events import BreakerState

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
SUCCESS, FAILURE, IGNORED, NOTHING = Verdict
DOCS = Path(__file__).parent.parent / "docs"


class Run:
    """A machine and the state that events have led it to."""

    def __init__(self, **settings: Any) -> None:
        self.machine = Machine(**{"threshold": 1, "cooldown": 10.0, **settings})
        self.state = State()
        self.told: list[str] = []

    def do(self, event: Event, now: float = 0.0) -> Change:
        """Have the event happen."""
        change = self.machine.step(self.state, event, now)
        assert change.before is self.state
        self.state = change.after
        self.told += [reason for _, _, reason in change.told]
        return change

    def acquire(self, now: float = 0.0, needed: int | None = None) -> Trial | None:
        """Ask for admission; None if refused."""
        trial = Trial(now)
        return None if self.do(Acquire(trial, needed), now).counts == "refused" else trial

    def settle(self, trial: Trial | None, verdict: Verdict, now: float = 0.0, cause: str | None = None) -> Change:
        """End a call that was admitted in this epoch."""
        return self.do(Settle(self.state.epoch, trial, verdict, cause), now)

    def call(self, now: float = 0.0, verdict: Verdict = SUCCESS, cause: str | None = None) -> None:
        """Have a call admitted that ends at once."""
        trial = self.acquire(now)
        assert trial is not None
        self.settle(trial, verdict, now, cause)


def in_state(state: BreakerState, **settings: Any) -> Run:
    """Return a run that was led into the state at time 0, or 10 where half-open."""
    run = Run(**settings)
    if state in (OPEN, HALF_OPEN):
        for _ in range(run.machine.threshold):
            run.call(0.0, FAILURE, "E: x")
    if state is HALF_OPEN:
        run.settle(run.acquire(10.0), NOTHING, 10.0)
    if state is ISOLATED:
        run.do(Isolate("by the test"))
    assert run.state.kind is state
    run.told.clear()
    return run


def test_every_state_has_a_way_back_to_closed() -> None:
    """From every state of the table, moves of the table lead back to CLOSED."""
    for start in BreakerState:
        reached, queue = {start}, deque([start])
        while queue:
            here = queue.popleft()
            for (old, _), new in TRANSITIONS.items():
                if old is here and new not in reached:
                    reached.add(new)
                    queue.append(new)
        assert CLOSED in reached
        assert reached == set(BreakerState)


def test_a_state_without_operator_leaves_by_itself() -> None:
    """OPEN and HALF_OPEN lead back to CLOSED without isolate or reset; only ISOLATED needs a hand."""
    own = {(old, new) for (old, move), new in TRANSITIONS.items() if move not in (Move.RESET, Move.ISOLATE)}
    assert own == {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED), (HALF_OPEN, OPEN)}


@pytest.mark.parametrize("move", list(Move))
@pytest.mark.parametrize("kind", list(BreakerState))
def test_a_move_that_is_not_in_the_table_cannot_be_made(kind: BreakerState, move: Move) -> None:
    """A move outside of the table raises; one of the table leads where the table says."""
    state, told = in_state(kind).state, []
    if (kind, move) in TRANSITIONS:
        after = _moved(state, move, "why", told)
        assert (after.kind, after.epoch, after.reason) == (TRANSITIONS[kind, move], state.epoch + 1, "why")
        assert told == ([] if after.kind is kind else [(kind, after.kind, "why")])
    else:
        with pytest.raises(RuntimeError, match=f"{kind.value} cannot {move.name}"):
            _moved(state, move, "why", told)
        assert told == []


def test_the_diagram_in_the_docs_is_that_of_the_table() -> None:
    """`docs/_static/breaker.svg` is what the script draws from the table today."""
    script = DOCS / "_scripts" / "draw_breaker.py"
    spec = importlib.util.spec_from_file_location("draw_breaker", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = module.draw(TRANSITIONS)
    assert (DOCS / "_static" / "breaker.svg").read_text(encoding="utf-8") == drawn
    assert drawn.count('class="move"') == len(TRANSITIONS)


def test_a_new_breaker_has_seen_nothing() -> None:
    """The first state is closed, counts nothing and gives no reason."""
    assert State() == (CLOSED, 0, 0, 0, 0, 0.0, 0.0, (), 0, 1, None, None, ())


def test_the_defaults_are_those_of_the_breaker() -> None:
    """A machine with no settings has those of a breaker with none."""
    machine = Machine()
    assert (machine.threshold, machine.cooldown, machine.trial_calls, machine.trial_timeout) == (5, 30.0, 1, 60.0)
    assert (machine.failure_rate, machine.max_cooldown, machine.slow_call) == (None, None, None)


@pytest.mark.parametrize(("now", "left"), [(100.0, 10.0), (100.5, 9.5), (104.0, 6.0), (97.0, 10.0), (90.5, 10.0)])
def test_a_refusal_tells_how_long_is_left(now: float, left: float) -> None:
    """What is left of the cooldown is never more than all of it, also after a small step back of the clock."""
    run = Run()
    run.call(100.0, FAILURE, "E: x")
    assert run.machine.refusal(run.state, now) == (left, "E: x")
    assert run.machine.retry_after(run.state, now) == left
    before = run.state
    assert run.acquire(now) is None
    assert run.state is before
    assert not run.machine.may_try(run.state, now)


@pytest.mark.parametrize("now", [10.0, 10.0 - 1e-6, 11.0, -10.0, -11.0])
def test_the_cooldown_is_over_at_its_end_and_after_a_great_step_back(now: float) -> None:
    """From the end of the cooldown on, give or take a millionth of a second, or a whole cooldown back, is a trial."""
    run = Run()
    run.call(0.0, FAILURE)
    assert run.machine.refusal(run.state, now) is None
    assert run.machine.may_try(run.state, now)
    assert run.machine.retry_after(run.state, now) == 0.0
    assert run.acquire(now) is not None
    assert run.state.kind is HALF_OPEN


@pytest.mark.parametrize("trial_calls", [1, 2, 3])
def test_no_more_trials_are_admitted_than_may_be_under_way(trial_calls: int) -> None:
    """While so many trials are under way, another call is refused with nothing to wait for."""
    run = in_state(HALF_OPEN, trial_calls=trial_calls)
    for _ in range(trial_calls):
        assert run.machine.may_try(run.state, 11.0)
        assert run.acquire(11.0) is not None
    assert run.acquire(11.0) is None
    assert run.machine.refusal(run.state, 11.0) == (0.0, "E: x")
    assert len(run.state.trials) == trial_calls
    assert not run.machine.may_try(run.state, 11.0)
    assert run.machine.retry_after(run.state, 11.0) == 0.0


def test_closed_and_isolated_await_no_trial() -> None:
    """There is nothing to wait for in either; an isolated one refuses for its reason, as long as it takes."""
    assert Run().machine.retry_after(State(), 0.0) is None
    run = in_state(ISOLATED)
    assert run.acquire(1e9) is None
    assert run.machine.refusal(run.state, 1e9) == (None, "by the test")
    assert run.machine.retry_after(run.state, 1e9) is None
    assert not run.machine.may_try(run.state, 1e9)


def test_every_transition_says_why() -> None:
    """The reasons are those that events and logs show, and the cause of an outage stays until it is over."""
    run = Run(threshold=2, trial_timeout=5.0)
    run.call(0.0, FAILURE, "E: first")
    run.call(0.0, FAILURE, "E: second")
    assert run.acquire(10.0) is not None
    assert run.acquire(15.0) is None  # the trial was lost
    assert run.machine.refusal(run.state, 15.0) == (10.0, "E: second")
    late = run.acquire(25.0)
    change = run.settle(late, SUCCESS, 30.0)
    assert (change.counts, run.state.cause, run.machine.retry_after(run.state, 30.0)) == ("stale", "E: second", 10.0)
    run.call(40.0, FAILURE, "E: third")
    assert (run.state.cause, run.machine.retry_after(run.state, 40.0)) == ("E: third", 10.0)
    run.call(50.0)
    assert (run.state.cause, run.machine.retry_after(run.state, 50.0)) == (None, None)
    assert run.told == [
        "2 consecutive failures", "the cooldown is over", "a trial was lost", "the cooldown is over",
        "a trial was lost", "the cooldown is over", "the trial failed", "the cooldown is over", "the trial succeeded",
    ]  # fmt: skip


def test_reasons_are_in_the_right_number() -> None:
    """One failure is a failure, two trials are trials."""
    run = Run(trial_calls=2)
    run.call(0.0, FAILURE)
    run.call(10.0)
    run.call(10.0)
    assert run.told == ["1 consecutive failure", "the cooldown is over", "the trials succeeded"]


def test_trials_that_say_nothing_make_room() -> None:
    """A trial whose error is ignored gives its place back and is counted; one without a verdict is not counted."""
    run = in_state(HALF_OPEN)
    for verdict, counts in ((IGNORED, "ignored"), (NOTHING, None)):
        assert run.settle(run.acquire(11.0), verdict, 11.0).counts == counts
        assert (run.state.trials, run.state.kind) == ((), HALF_OPEN)


def test_a_trial_is_settled_by_what_it_is_and_once() -> None:
    """Its permit may not have learnt its epoch yet; a second end of it changes nothing and counts as nothing."""
    run = in_state(HALF_OPEN, trial_calls=2)
    trial = run.acquire(11.0)
    run.do(Settle(-1, trial, SUCCESS), 11.0)
    assert (run.state.successes, run.state.trials) == (1, ())
    before = run.state
    for verdict in Verdict:
        change = run.settle(trial, verdict, 11.0)
        assert change.after is before
        assert change.counts == ("ignored" if verdict is IGNORED else None)


def test_a_result_from_an_earlier_epoch_changes_nothing() -> None:
    """It counts as stale, unless it says nothing anyhow."""
    for kind in BreakerState:
        run = in_state(kind)
        run.do(Reset("a new epoch"))
        before = run.state
        for verdict in Verdict:
            change = run.do(Settle(before.epoch - 1, Trial(0.0), verdict), 11.0)
            assert change.after is before
            assert change.counts == (None if verdict is NOTHING else "stale")
        assert run.do(Settle(-1, None, FAILURE), 11.0) == (before, before, (-1, None, FAILURE, None), None, ())


def test_a_call_that_changes_nothing_makes_no_new_state() -> None:
    """Nor does a success of a healthy backend, an ignored error, or a refusal."""
    run = Run(threshold=2)
    for verdict in (SUCCESS, IGNORED, NOTHING):
        before = run.state
        run.call(0.0, verdict)
        assert run.state is before


def test_a_calm_state_is_one_whose_success_would_change_nothing() -> None:
    """Closed, no failure to forget, and no setting that watches every call."""
    run = Run(threshold=2)
    assert run.machine.is_calm(run.state)
    run.call(0.0, FAILURE)
    assert not run.machine.is_calm(run.state)
    run.call()
    assert run.machine.is_calm(run.state)
    for kind in (OPEN, HALF_OPEN, ISOLATED):
        other = in_state(kind)
        assert not other.machine.is_calm(other.state)
    assert not Machine(slow_call=1.0).is_calm(State())
    assert not Machine(failure_rate=FailureRate()).is_calm(State())


def test_the_cooldown_doubles_up_to_its_bound_and_closing_brings_it_back() -> None:
    """Each failed trial doubles it; without a bound it stays as it is."""
    for most, lengths in ((35.0, [10.0, 20.0, 35.0, 35.0]), (None, [10.0, 10.0, 10.0, 10.0])):
        run, now, seen = Run(max_cooldown=most), 0.0, []
        for _ in lengths:
            run.call(now, FAILURE)
            seen.append(run.state.cooldown)
            now += run.state.cooldown
        assert seen == lengths
        run.call(now)
        run.call(now, FAILURE)
        assert run.state.cooldown == 10.0


def test_the_rate_trips_at_its_share_with_all_that_comes_with_it() -> None:
    """The failure that makes the share full opens the machine: its cause and moment are kept; closing empties it."""
    rate = FailureRate(ratio=0.5, window=30.0, minimum_calls=4)
    run = Run(threshold=9, failure_rate=rate)
    for verdict in (SUCCESS, SUCCESS, SUCCESS, FAILURE, FAILURE):
        run.call(100.0, verdict)
    assert run.state.kind is CLOSED
    assert recent(rate, run.state.window, 100.0) == (5, 2)
    run.call(103.0, FAILURE, "E: last")
    assert (run.state.kind, run.state.cause, run.machine.retry_after(run.state, 103.0)) == (OPEN, "E: last", 10.0)
    assert run.told == ["3 of 6 recent calls failed"]
    run.call(113.0)
    assert run.state.window == ()


def test_beside_the_rate_the_consecutive_count_stays_in_force() -> None:
    """Few calls that all fail open as well, long before the rate judges."""
    run = Run(threshold=3, failure_rate=FailureRate(minimum_calls=100))
    for _ in range(3):
        run.call(0.0, FAILURE)
    assert run.told == ["3 consecutive failures"]


def test_a_reset_counts_from_nothing() -> None:
    """After a reset, also of a closed machine, all counts and the window are empty, in a new epoch."""
    for kind in BreakerState:
        run = in_state(kind, threshold=1, failure_rate=FailureRate())
        before = run.state
        run.do(Reset("by hand"))
        assert run.state == State(epoch=before.epoch + 1, cooldown=before.cooldown, opened=before.opened,
                                  needed=before.needed, reason="by hand")  # fmt: skip
        assert run.told == ([] if kind is CLOSED else ["by hand"])


def test_isolating_again_only_changes_the_reason() -> None:
    """No transition, no new epoch."""
    run = in_state(ISOLATED)
    before = run.state
    assert run.do(Isolate("again")).told == ()
    assert run.state == before._replace(reason="again", cause="again")


def test_successes_from_before_a_relapse_do_not_close() -> None:
    """After a failed trial the successes are counted anew."""
    run = in_state(OPEN, trial_calls=2)
    run.call(10.0, SUCCESS)
    run.call(10.0, FAILURE)
    run.call(20.0, SUCCESS)
    assert run.state.kind is HALF_OPEN
    run.call(20.0, SUCCESS)
    assert run.state.kind is CLOSED


@pytest.mark.parametrize(("kind", "told"), [(CLOSED, 1), (OPEN, 0), (HALF_OPEN, 1), (ISOLATED, 0)])
def test_an_open_fleet_opens_all_but_what_is_isolated(kind: BreakerState, told: int) -> None:
    """By the moves of the table, with no failure counted; one that is open already takes the fleet's cooldown over."""
    run = in_state(kind)
    before = run.state
    run.do(FleetOpens(12.0, 4.0, "why"), 13.0)
    assert run.told == ["why"] * told
    if kind is ISOLATED:
        assert run.state is before
        return
    assert (run.state.kind, run.state.opened, run.state.cooldown) == (OPEN, 12.0, 4.0)
    assert run.state.cause == ("E: x" if kind is OPEN else None)
    assert (run.state.consecutive, run.state.failures) == (before.consecutive, before.failures)
    assert (run.state.epoch, run.state.trips) == (before.epoch + told, before.trips + told)
    assert run.machine.refusal(run.state, 15.0) == (1.0, run.state.cause)


@pytest.mark.parametrize(("kind", "told"), [(CLOSED, 0), (OPEN, 2), (HALF_OPEN, 1), (ISOLATED, 0)])
def test_a_fleet_that_closes_closes_all_but_what_is_isolated(kind: BreakerState, told: int) -> None:
    """As a trial of its own would."""
    run = in_state(kind)
    before = run.state
    run.do(FleetCloses("why"), 13.0)
    assert run.told == ["why"] * told
    assert run.state.kind is (ISOLATED if kind is ISOLATED else CLOSED)
    assert run.state.epoch == before.epoch + told


def test_what_the_fleet_says_of_an_earlier_epoch_changes_nothing() -> None:
    """A fact that was judged by a state that is gone is dropped; one of this epoch counts."""
    for event in (FleetOpens(1.0, 2.0, "why"), FleetCloses("why")):
        run = in_state(HALF_OPEN)
        before = run.state
        assert run.do(event._replace(epoch=before.epoch - 1)).after is before
        assert run.do(event._replace(epoch=before.epoch)).after is not before


def test_the_fleet_says_how_many_successes_are_needed() -> None:
    """None is a refusal, a number counts from now on, and without its word the breaker's own setting holds again."""
    run = in_state(HALF_OPEN, trial_calls=3)
    assert run.acquire(11.0, needed=0) is None
    run.settle(run.acquire(11.0, needed=2), SUCCESS, 11.0)
    assert (run.state.kind, run.state.successes) == (HALF_OPEN, 1)
    run.settle(run.acquire(11.0), SUCCESS, 11.0)
    assert (run.state.kind, run.state.needed) == (HALF_OPEN, 3)
    run.settle(run.acquire(11.0, needed=1), SUCCESS, 11.0)
    assert run.state.kind is CLOSED


@pytest.mark.parametrize("verdict", list(Verdict))
def test_a_lost_trial_is_noticed_by_every_acquire_and_settle(verdict: Verdict) -> None:
    """After `trial_timeout` it opens for another cooldown from then on, and not a moment before."""
    for event in (Acquire(Trial(70.0)), Settle(-1, None, verdict)):
        run = in_state(HALF_OPEN)
        run.acquire(10.0)
        run.do(event, 69.9)
        assert run.state.kind is HALF_OPEN
        run.do(event, 70.0)
        assert (run.state.kind, run.state.opened, run.state.failures) == (OPEN, 70.0, 2)
        assert run.told == ["a trial was lost"]


EVENTS = st.sampled_from(
    ["acquire", "success", "failure", "ignored", "nothing", "isolate", "reset", "fleet opens", "fleet closes", "wait"]
)


@given(st.lists(EVENTS, max_size=60), st.integers(1, 3), st.booleans(), st.data())
def test_any_events_leave_a_chain_of_moves_of_the_table(
    events: list[str], trial_calls: int, rated: bool, data: st.DataObject
) -> None:
    """Every transition is in the table and follows the one before, and no more trials run than are allowed."""
    rate = FailureRate(minimum_calls=3) if rated else None
    run, now = Run(threshold=2, cooldown=5.0, trial_calls=trial_calls, trial_timeout=12.0, failure_rate=rate), 0.0
    allowed = {(old, new) for (old, _), new in TRANSITIONS.items()}
    held: list[tuple[int, Trial]] = []
    for name in events:
        now += 5.0 if name == "wait" else 0.0
        event: Event = Settle(-1, None, NOTHING)
        if name == "acquire":
            event = Acquire(Trial(now))
        elif name.upper() in Verdict.__members__ and held:
            event = Settle(*held.pop(data.draw(st.integers(0, len(held) - 1))), Verdict[name.upper()])
        elif name in ("isolate", "reset"):
            event = Isolate("why") if name == "isolate" else Reset("why")
        elif name.startswith("fleet"):
            event = FleetOpens(now, 5.0, "why") if name == "fleet opens" else FleetCloses("why")
        change = run.do(event, now)
        if isinstance(event, Acquire) and change.counts is None:
            held.append((run.state.epoch, event.trial))
        kind = change.before.kind
        for old, new, _ in change.told:
            assert old is kind
            assert (old, new) in allowed
            kind = new
        assert kind is change.after.kind
        assert change.after.epoch >= change.before.epoch + len(change.told)
        assert len(run.state.trials) <= trial_calls
