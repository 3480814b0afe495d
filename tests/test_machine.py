"""The state machine by itself: its table, and that every change is all or nothing."""

from __future__ import annotations

import contextlib
import dis
import importlib.util
import sys
from collections import deque
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from booking_resilience.breaker.machine import TRANSITIONS, Machine, Move
from booking_resilience.breaker.tickets import Ticket, Verdict
from booking_resilience.breaker.window import FailureRate, SlidingWindow
from booking_resilience.events import BreakerState

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
DOCS = Path(__file__).parent.parent / "docs"


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
@pytest.mark.parametrize("state", list(BreakerState))
def test_a_move_that_is_not_in_the_table_cannot_be_made(state: BreakerState, move: Move) -> None:
    """A move outside of the table raises and changes nothing; one of the table leads where the table says."""
    machine = in_state(state)
    epoch = machine.epoch
    if (state, move) in TRANSITIONS:
        assert machine._move(move, machine.changes, "why")
        assert (machine.state, machine.epoch, machine.reason) == (TRANSITIONS[state, move], epoch + 1, "why")
    else:
        with pytest.raises(RuntimeError, match=f"{state.value} cannot {move.name}"):
            machine._move(move, machine.changes, "why")
        assert (machine.state, machine.epoch) == (state, epoch)


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


def in_state(state: BreakerState, **settings: Any) -> Machine:
    """Return a machine that was led into the state at time 0."""
    machine = Machine(**{"threshold": 1, "cooldown": 10.0, **settings})
    if state in (OPEN, HALF_OPEN):
        fail(machine, 0.0)
    if state is HALF_OPEN:
        machine._move(Move.TRY, machine.changes, "by the test")
    if state is ISOLATED:
        machine.isolate("by the test")
    assert machine.state is state
    return machine


def fail(machine: Machine, now: float) -> None:
    """Make calls fail until the machine opens."""
    while machine.state is CLOSED:
        ticket = Ticket(started=now)
        assert machine.admit(ticket, now) is None
        machine.settle(ticket, Verdict.FAILURE, now, "E: x")


def picture(machine: Machine) -> tuple[Any, ...]:
    """Return all that can be seen of a machine; whose trials they are does not matter, how many does."""
    window = machine.window
    return (
        machine.state, machine.epoch, machine.calm, machine.consecutive, machine.failures, machine.refused,
        machine.stale, machine.ignored, machine.trips, machine.successes, len(machine.trials), machine.cause,
        machine.reason, machine.moves, machine.opened, machine.cooldown_now,
        None if window is None or machine.state is not CLOSED else window.counts(0.0),
    )  # fmt: skip


class Scene:
    """A machine in a certain state with calls under way: the stage of one outer and one nested operation."""

    def __init__(self, state: BreakerState, variant: str) -> None:
        settings: dict[str, Any] = {"threshold": 2, "trial_timeout": 10.0, "max_cooldown": 100.0}
        if variant == "rate":
            settings |= {"failure_rate": FailureRate(ratio=0.5, window=30.0, minimum_calls=2), "threshold": 5}
        if variant == "two trials":
            settings |= {"trial_calls": 2}
        self.machine = Machine(**settings, cooldown=10.0)
        self.early = self.ticket(0.0)
        self.now = 0.0
        if state in (OPEN, HALF_OPEN):
            fail(self.machine, 0.0)
            self.now = 5.0 if variant == "early" else 10.0
        if state is ISOLATED:
            self.machine.isolate("before")
        if state is CLOSED:
            self.machine.settle(self.ticket(0.0), Verdict.FAILURE, 0.0, "E: first")
        self.now += 0 if state is not HALF_OPEN else 0.5
        self.current = self.ticket(self.now) if state in (CLOSED, HALF_OPEN) else self.early
        self.other = self.ticket(self.now) if state is CLOSED or variant == "two trials" else self.early
        if variant == "lost":
            self.now += 20.0
        self.new = [Ticket(started=self.now), Ticket(started=self.now)]

    def ticket(self, now: float) -> Ticket:
        """Return the ticket of a call that asks now."""
        ticket = Ticket(started=now)
        self.machine.admit(ticket, now)
        return ticket

    def lead(self, move: Move, operation: str) -> bool:
        """Make the transition that an acquire or settle may have to make before its own change."""
        machine, now = self.machine, self.now
        if move is Move.TRY:
            if operation != "acquire" or machine.state is not OPEN or now < 10.0:
                return False
            return machine._move(move, machine.changes, "the cooldown is over")
        if operation in ("isolate", "reset", "tell") or not machine._is_trial_lost(now):
            return False
        return machine._move(move, machine.changes, "a trial was lost", opened=now, cause=machine.cause)

    def run(self, operation: str, nested: bool) -> Any:
        """Do one operation; the nested one has calls of its own."""
        machine, now = self.machine, self.now
        subject = self.other if nested else self.current
        match operation:
            case "acquire":
                return machine.admit(self.new[nested], now)
            case "isolate":
                return machine.isolate("by hand")
            case "reset":
                return machine.reset("by hand")
            case "again":
                return machine.settle(self.current, Verdict.SUCCESS, now)
            case "tell":
                return machine.next_move() if machine.moves else None
            case "late":
                return machine.settle(self.early, Verdict.FAILURE, now, "E: late")
            case verdict:
                return machine.settle(subject, Verdict[verdict], now, "E: x")


OUTER = ("acquire", "isolate", "reset", "SUCCESS", "FAILURE", "IGNORED", "NOTHING", "late", "tell")
NESTED = ("acquire", "isolate", "reset", "SUCCESS", "FAILURE", "IGNORED", "again", "late", "tell")


def interruptible_points(function: Callable[[], object], inject: Callable[[], None], point: int) -> bool:
    """Run the function and call `inject` at the given one of the points where Python lets a signal handler run.

    Those are the start of a function, jumps backwards and the ends of calls (`ceval.c`, `CHECK_EVAL_BREAKER`).

    Returns:
        Whether the function has so many points.
    """
    files = {Machine.admit.__code__.co_filename, SlidingWindow.place.__code__.co_filename}
    count, fired, before = 0, False, {}

    def trace(frame: Any, event: str, arg: object) -> Any:
        nonlocal count, fired
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            last = before.get(id(frame))
            before[id(frame)] = frame.f_lasti
            if last is not None and opcode(frame.f_code, last).startswith(
                ("CALL", "RESUME", "JUMP_BACKWARD", "PRECALL")
            ):
                count += 1
                if count == point and not fired:
                    fired = True
                    sys.settrace(None)
                    inject()
                    sys.settrace(trace)
        if event == "return":
            before.pop(id(frame), None)
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(previous)
    return fired


_OPCODES: dict[Any, dict[int, str]] = {}


def opcode(code: Any, offset: int) -> str:
    """Return the name of the instruction at the offset."""
    if code not in _OPCODES:
        _OPCODES[code] = {item.offset: item.opname for item in dis.get_instructions(code)}
    return _OPCODES[code].get(offset, "")


@pytest.mark.parametrize("variant", ["plain", "early", "lost", "rate", "two trials"])
@pytest.mark.parametrize("state", list(BreakerState))
def test_an_operation_inside_another_happens_before_or_after_it(state: BreakerState, variant: str) -> None:
    """A signal handler that uses the machine anywhere inside an operation changes it as if it came before or after."""
    for outer in OUTER:
        for nested in NESTED:
            allowed = []
            for order in ((False, True), (True, False)):
                for first in (None, Move.TRY, Move.RELAPSE):
                    scene = Scene(state, variant)
                    if first is not None and not scene.lead(first, outer):
                        continue
                    for is_nested in order:
                        scene.run(nested if is_nested else outer, is_nested)
                    allowed.append(picture(scene.machine))
            point = 1
            while True:
                scene = Scene(state, variant)
                fired = interruptible_points(partial(scene.run, outer, False), partial(scene.run, nested, True), point)
                if not fired:
                    break
                assert picture(scene.machine) in allowed, (state, variant, outer, nested, point)
                assert len(scene.machine.trials) <= scene.machine.trial_calls
                point += 1


class InterruptError(BaseException):
    """What a signal handler raises, as that of Ctrl-C does."""


@pytest.mark.parametrize("state", list(BreakerState))
@pytest.mark.parametrize("outer", OUTER)
def test_an_interrupted_operation_is_done_or_not_done(state: BreakerState, outer: str) -> None:
    """An interrupt anywhere inside an operation leaves the machine as it was before it or as it is after it.

    A lost trial, noticed on the way, is an operation by itself and not part of these scenes.
    """

    def interrupt() -> None:
        raise InterruptError

    point = 1
    while True:
        scene, untouched, done = (Scene(state, "two trials") for _ in range(3))
        done.run(outer, False)
        fired = False
        with contextlib.suppress(InterruptError):
            fired = True
            fired = interruptible_points(partial(scene.run, outer, False), interrupt, point)
        if not fired:
            break
        halfway = outer == "acquire" and state is OPEN  # two changes: OPEN -> HALF_OPEN, then the admission
        assert halfway or picture(scene.machine) in (picture(untouched.machine), picture(done.machine)), point
        assert len(scene.machine.trials) <= scene.machine.trial_calls
        point += 1


# -- each rule by itself


def called(machine: Machine, now: float, verdict: Verdict = Verdict.SUCCESS, cause: str | None = None) -> Ticket:
    """Have a call admitted that ends at once."""
    ticket = Ticket(started=now)
    assert machine.admit(ticket, now) is None
    machine.settle(ticket, verdict, now, cause)
    return ticket


def told(machine: Machine) -> list[str]:
    """Return the reasons of the transitions that nobody was told of yet."""
    return [reason for _, _, reason in machine.moves]


def test_a_new_machine_has_seen_nothing() -> None:
    """What a snapshot shows of a machine that was never used is closed, counts nothing and gives no reason."""
    machine = Machine(cooldown=7.0)
    assert (machine.state, machine.epoch, machine.cause, machine.reason, machine.moves) == (CLOSED, 0, None, None, ())
    assert (machine.cooldown_now, machine.opened, machine.successes, machine.trials) == (7.0, 0.0, 0, ())
    counts = (machine.consecutive, machine.failures, machine.refused, machine.stale, machine.ignored, machine.trips)
    assert counts == (0, 0, 0, 0, 0, 0)


def test_the_defaults_are_those_of_the_breaker() -> None:
    """A machine with no settings has those of a breaker with none, and knows that a success changes nothing."""
    machine = Machine()
    assert (machine.threshold, machine.cooldown, machine.trial_calls, machine.trial_timeout) == (5, 30.0, 1, 60.0)
    assert (machine.watches_all, machine.calm) == (False, 0)
    watching = Machine(failure_rate=FailureRate())
    assert (watching.watches_all, watching.calm) == (True, -1)


@pytest.mark.parametrize(("now", "left"), [(100.0, 10.0), (100.5, 9.5), (104.0, 6.0), (97.0, 10.0), (90.5, 10.0)])
def test_a_refusal_tells_how_long_is_left(now: float, left: float) -> None:
    """What is left of the cooldown is never more than all of it, also after a small step back of the clock."""
    machine = Machine(threshold=1, cooldown=10.0)
    called(machine, 100.0, Verdict.FAILURE, "E: x")
    assert machine.refuse(now) == (left, "E: x")
    assert machine.admit(Ticket(started=now), now) == (left, "E: x")
    assert machine.refused == 2


@pytest.mark.parametrize("now", [10.0, 10.0 - 1e-6, 11.0, -10.0, -11.0])
def test_the_cooldown_is_over_at_its_end_and_after_a_great_step_back(now: float) -> None:
    """From the end of the cooldown on, give or take a millionth of a second, or a whole cooldown back, is a trial."""
    machine = Machine(threshold=1, cooldown=10.0)
    called(machine, 0.0, Verdict.FAILURE)
    assert machine.refuse(now) is None
    assert machine.admit(Ticket(started=now), now) is None
    assert machine.state is HALF_OPEN


def test_no_more_trials_are_admitted_than_may_be_under_way() -> None:
    """While a trial is under way, another call is refused with nothing to wait for; the machine itself keeps count."""
    machine = in_state(HALF_OPEN)
    assert machine.admit(Ticket(started=1.0), 1.0) is None
    assert machine.admit(Ticket(started=1.0), 1.0) == (0.0, "E: x")
    assert machine.refuse(1.0) == (0.0, "E: x")
    assert len(machine.trials) == 1
    assert machine.retry_after(1.0) == 0.0


def test_every_transition_says_why() -> None:
    """The reasons are those that events and logs show, and the cause of an outage stays until it is over."""
    machine = Machine(threshold=2, cooldown=10.0, trial_timeout=5.0)
    called(machine, 0.0, Verdict.FAILURE, "E: first")
    called(machine, 0.0, Verdict.FAILURE, "E: second")
    assert machine.admit(Ticket(started=10.0), 10.0) is None
    assert machine.admit(Ticket(started=15.0), 15.0) == (10.0, "E: second")  # the trial was lost
    late = Ticket(started=25.0)
    assert machine.admit(late, 25.0) is None
    machine.settle(late, Verdict.SUCCESS, 30.0)
    assert (machine.cause, machine.retry_after(30.0), machine.stale) == ("E: second", 10.0, 1)
    called(machine, 40.0, Verdict.FAILURE, "E: third")
    assert (machine.cause, machine.retry_after(40.0)) == ("E: third", 10.0)
    called(machine, 50.0)
    assert (machine.cause, machine.retry_after(50.0)) == (None, None)
    assert told(machine) == [
        "2 consecutive failures", "the cooldown is over", "a trial was lost", "the cooldown is over",
        "a trial was lost", "the cooldown is over", "the trial failed", "the cooldown is over", "the trial succeeded",
    ]  # fmt: skip


def test_reasons_are_in_the_right_number() -> None:
    """One failure is a failure, two trials are trials."""
    machine = Machine(threshold=1, cooldown=10.0, trial_calls=2)
    called(machine, 0.0, Verdict.FAILURE)
    called(machine, 10.0)
    called(machine, 10.0)
    assert told(machine) == ["1 consecutive failure", "the cooldown is over", "the trials succeeded"]


def test_trials_that_say_nothing_are_counted_and_make_room() -> None:
    """A trial whose error is ignored gives its place back; each counts as ignored, one without a verdict does not."""
    machine = in_state(HALF_OPEN)
    for verdict in (Verdict.IGNORED, Verdict.IGNORED, Verdict.NOTHING):
        called(machine, 1.0, verdict)
    assert (machine.ignored, machine.trials, machine.state) == (2, (), HALF_OPEN)


def test_every_change_is_counted_once() -> None:
    """`changes` goes up by one with each change, so that what was computed before it can tell."""
    machine = Machine(threshold=2, cooldown=10.0, trial_calls=2)
    steps: list[tuple[Callable[[], object], int]] = [
        (partial(called, machine, 0.0), 1),
        (partial(called, machine, 0.0, Verdict.IGNORED), 1),
        (partial(called, machine, 0.0, Verdict.NOTHING), 1),
        (partial(called, machine, 0.0, Verdict.FAILURE), 1),
        (partial(called, machine, 0.0, Verdict.FAILURE), 1),  # opens
        (partial(called, machine, 10.0, Verdict.NOTHING), 3),  # half-open, admitted, settled
        (machine.next_move, 1),
        (partial(machine.isolate, "by hand"), 1),
        (partial(machine.isolate, "again"), 0),
        (partial(machine.reset, "by hand"), 1),
    ]
    early = Ticket(started=0.0)
    machine.admit(early, 0.0)
    for step, change in steps:
        before = machine.changes
        step()
        assert machine.changes == before + change
    before = machine.changes
    machine.settle(early, Verdict.FAILURE, 0.0)
    assert (machine.changes, machine.stale) == (before + 1, 1)


def test_a_move_that_was_computed_of_the_past_is_not_made() -> None:
    """What was computed before another change is not done, and says so."""
    machine = Machine(threshold=1)
    before = picture(machine)
    assert not machine._move(Move.TRIP, machine.changes - 1, "of the past")
    assert picture(machine) == before


def test_a_calm_machine_says_so_and_no_other_does() -> None:
    """`calm` is the epoch while a success changes nothing: closed, no failure to forget, nothing that watches all."""
    machine = Machine(threshold=2, cooldown=10.0)
    called(machine, 0.0, Verdict.FAILURE)
    assert machine.calm == -1
    called(machine, 0.0)
    assert machine.calm == machine.epoch == 0
    for _ in range(2):
        called(machine, 0.0, Verdict.FAILURE)
    assert machine.calm == -1
    called(machine, 10.0)
    assert machine.calm == machine.epoch == 3
    watching = Machine(threshold=1, cooldown=10.0, watches_all=True)
    called(watching, 0.0)
    assert watching.calm == -1
    watching.reset("by hand")
    assert watching.calm == -1


def test_the_rate_trips_at_its_share_with_all_that_comes_with_it() -> None:
    """The failure that makes the share full opens the machine: its ticket is settled, its cause and moment are kept."""
    rate = FailureRate(ratio=0.5, window=30.0, minimum_calls=4)
    machine = Machine(threshold=9, failure_rate=rate, cooldown=10.0)
    for verdict in (Verdict.SUCCESS, Verdict.SUCCESS, Verdict.SUCCESS, Verdict.FAILURE, Verdict.FAILURE):
        called(machine, 100.0, verdict)
    assert machine.state is CLOSED
    assert machine.window is not None
    assert machine.window.counts(100.0) == (5, 2)
    last = called(machine, 103.0, Verdict.FAILURE, "E: last")
    assert (machine.state, machine.cause, machine.retry_after(103.0)) == (OPEN, "E: last", 10.0)
    assert (last.settled, machine.stale, told(machine)) == (True, 0, ["3 of 6 recent calls failed"])
    called(machine, 113.0)
    assert machine.window.counts(113.0) == (0, 0)


def test_a_reset_forgets_the_rate() -> None:
    """After a reset, also of a closed machine, the window is empty."""
    machine = Machine(threshold=9, failure_rate=FailureRate())
    called(machine, 0.0, Verdict.FAILURE)
    machine.reset("by hand")
    assert machine.window is not None
    assert machine.window.counts(0.0) == (0, 0)
