"""A breaker that a signal handler uses, or interrupts, between any two instructions where Python lets one in."""

from __future__ import annotations

import contextlib
import dis
import itertools
import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from booking_resilience import breaker as package
from booking_resilience.breaker import CircuitBreaker, FailureRate, Permit
from booking_resilience.breaker.core import logger
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, BreakerState
from booking_resilience.testing.time import virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState
FILES = tuple(str(Path(package.__file__).parent / name) for name in ("core.py", "permits.py", "breaker.py"))


class BusyError(Exception):
    """What is ignored."""


class InterruptError(BaseException):
    """What a signal handler raises, as that of Ctrl-C does."""


def at_point(function: Callable[[], object], inject: Callable[[], None], point: int) -> bool:
    """Run the function and call `inject` at the given one of the points where Python lets a signal handler run.

    Those are the start of a function, jumps backwards and the ends of calls (`ceval.c`, `CHECK_EVAL_BREAKER`). What is
    pure is passed over: nothing that happens inside of it shows.

    Returns:
        Whether the function has so many points.
    """
    count, fired, before = 0, False, {}

    def trace(frame: Any, event: str, arg: object) -> Any:
        nonlocal count, fired
        if frame.f_code.co_filename not in FILES:
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


class Scene:
    """A breaker in a certain state with calls under way: the stage of one outer and one nested operation."""

    def __init__(self, clock: Any, state: BreakerState, variant: str) -> None:
        settings: dict[str, Any] = {"failure_threshold": 2, "trial_timeout": 10.0, "max_cooldown": 100.0}
        if variant == "rate":
            settings |= {"failure_rate": FailureRate(ratio=0.5, window=30.0, minimum_calls=2), "failure_threshold": 5}
        if variant == "two trials":
            settings |= {"trial_calls": 2}
        self.breaker = CircuitBreaker("scene", cooldown=10.0, failure_on=Exception, ignore=BusyError, **settings)
        self.events: list[BreakerEvent] = []
        self.breaker.subscribe(self.events.append)
        self.early = self.breaker.acquire()
        while state in (OPEN, HALF_OPEN) and self.breaker.state is CLOSED:
            self.breaker.acquire().failure()
        if state in (OPEN, HALF_OPEN):
            clock.advance(10)
        if state is ISOLATED:
            self.breaker.isolate("before")
        if state is CLOSED:
            self.breaker.acquire().failure()
        self.current = self.breaker.acquire() if state in (CLOSED, HALF_OPEN) else self.early
        self.other = self.breaker.acquire() if state is CLOSED or self.has_room() else self.early
        if variant == "lost":
            clock.advance(20)
        self.kept: list[Permit] = []

    def has_room(self) -> bool:
        """Tell whether another trial may be made."""
        state = self.breaker._core.state
        return 0 < len(state.trials) < self.breaker._core.machine.trial_calls

    def run(self, operation: str, nested: bool) -> None:
        """Do one operation; the nested one has a call of its own."""
        breaker, subject = self.breaker, self.other if nested else self.current
        match operation:
            case "acquire":
                with contextlib.suppress(CircuitOpenError):
                    self.kept.append(breaker.acquire())
            case "isolate":
                breaker.isolate("by hand")
            case "reset":
                breaker.reset("by hand")
            case "again":
                self.current.success()
            case "late":
                self.early.failure(OSError("late"))
            case "success":
                subject.success()
            case "failure":
                subject.failure(OSError("x"))
            case "ignored":
                subject.failure(BusyError())
            case "release":
                subject.release()

    def picture(self) -> tuple[Any, ...]:
        """Return all that can be seen; whose trials they are does not matter, how many does."""
        state = self.breaker._core.state
        return (
            self.breaker.snapshot(), len(state.trials), state.successes, state.cause, state.opened, state.cooldown,
            sum(bucket.calls for bucket in state.window), sum(bucket.failures for bucket in state.window),
            [(event.old, event.new, event.reason) for event in self.events],
        )  # fmt: skip


@pytest.fixture
def clock() -> Iterator[Any]:
    """Virtual time for the whole test, and no log: thousands of scenes would fill it."""
    logger.setLevel(logging.CRITICAL + 1)
    with virtual_time() as virtual:
        yield virtual
    logger.setLevel(logging.NOTSET)


OUTER = ("acquire", "isolate", "reset", "success", "failure", "ignored", "release", "late")
NESTED = ("acquire", "isolate", "reset", "success", "failure", "again")


VARIANTS = ("plain", "lost", "rate", "two trials")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("state", list(BreakerState))
def test_an_operation_inside_another_happens_before_or_after_it(clock: Any, state: BreakerState, variant: str) -> None:
    """A signal handler that uses the breaker anywhere inside an operation changes it as if it came before or after."""
    shift = VARIANTS.index(variant) + list(BreakerState).index(state)
    for outer in OUTER:
        for number, nested in enumerate(NESTED, shift):
            allowed = []
            for order in ((False, True), (True, False)):
                scene = Scene(clock, state, variant)
                for is_nested in order:
                    scene.run(nested if is_nested else outer, is_nested)
                allowed.append(scene.picture())
            point = 1 + number % len(NESTED)  # every point meets one of the nested operations, in each case another
            while True:
                scene = Scene(clock, state, variant)
                fired = at_point(partial(scene.run, outer, False), partial(scene.run, nested, True), point)
                if not fired:
                    break
                assert with_moment(scene.picture()) in map(with_moment, allowed), (state, variant, outer, nested, point)
                point += len(NESTED)


def with_moment(picture: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the picture without the moment that each scene began at, since the clock goes on between scenes."""
    return (*picture[:4], *picture[5:])


@pytest.mark.parametrize("variant", ["plain", "two trials"])
@pytest.mark.parametrize("state", list(BreakerState))
@pytest.mark.parametrize("outer", OUTER)
def test_an_interrupted_operation_is_done_or_not_done(
    clock: Any, state: BreakerState, outer: str, variant: str
) -> None:
    """An interrupt anywhere leaves the breaker as it was or as it is after it, with no permit out, and telling on."""

    def interrupt() -> None:
        raise InterruptError

    before = decided(Scene(clock, state, variant))
    done = Scene(clock, state, variant)
    done.run(outer, False)
    after = decided(done)
    allowed = [(*seen[:-1], seen[-1] - fewer) for seen in (before, after) for fewer in (0, 1)]  # one may have come back
    point = 1
    while True:
        scene, fired = Scene(clock, state, variant), False
        with contextlib.suppress(InterruptError):
            fired = True
            fired = at_point(partial(scene.run, outer, False), interrupt, point)
        if not fired:
            break
        assert decided(scene) in allowed, point
        scene.breaker.reset()
        scene.breaker.isolate("to be told")
        assert [event.reason for event in scene.events][-1] == "to be told"
        gaps = sum(one.new is not two.old for one, two in itertools.pairwise(scene.events))
        assert gaps <= 1  # what was just being told when the interrupt came
        point += 1


@pytest.mark.parametrize("operation", ["isolate", "reset", "failure", "subscribe"])
def test_an_interrupt_leaves_no_healthy_call_on_the_slow_path_or_past_what_was_seen(operation: str) -> None:
    """After an interrupt anywhere, calls go as the state says, and those of a healthy backend take no permit."""

    def interrupt() -> None:
        raise InterruptError

    for point in itertools.count(1):
        breaker = CircuitBreaker("struck", failure_threshold=1)
        operations: dict[str, Callable[[], object]] = {
            "isolate": partial(breaker.isolate, "by hand"), "reset": breaker.reset,
            "failure": breaker.acquire().failure, "subscribe": partial(breaker.subscribe, print),
        }  # fmt: skip
        fired = False
        with contextlib.suppress(InterruptError):
            fired = True
            fired = at_point(operations[operation], interrupt, point)
        if not fired:
            break
        is_admitted = False
        with contextlib.suppress(CircuitOpenError):
            is_admitted = breaker.call(int) == 0
        assert is_admitted == (breaker.state is CLOSED), point
        assert not (is_admitted and breaker._core.calm.is_over), point


def decided(scene: Scene) -> tuple[Any, ...]:
    """Return what a later decision depends on, and how many trials are out."""
    state = scene.breaker._core.state
    with contextlib.suppress(CircuitOpenError):
        scene.breaker._core.take_back()
    trials = len(scene.breaker._core.state.trials)
    return (*state._replace(trials=(), opened=0.0), trials)
