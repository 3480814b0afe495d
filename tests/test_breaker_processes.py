"""The circuit breaker across forks, under signals, and the pickles of its errors."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.breakers import Breakers
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import BreakerEvent, BreakerState
from booking_resilience.testing.time import virtual_time
from fresh import run_fresh
from racing import needs_fork, needs_timer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState


def fails() -> None:
    """Fail."""
    raise OSError("down")


def in_child(function: Callable[[], bool]) -> bool:
    """Fork, run the function in the child, and return whether it answered true within its time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads: the point here
        child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs ends
        code = 1
        try:
            code = 0 if function() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs_fork
def test_a_fork_with_calls_in_flight_leaves_both_processes_right() -> None:
    """The child settles its copy of a permit, opens and closes by itself; the parent sees nothing of it."""
    with virtual_time() as clock:
        breaker = CircuitBreaker("b", failure_threshold=1)
        breaker.acquire().failure()
        clock.advance(30)
        trial = breaker.acquire()

        def child() -> bool:
            trial.failure()
            is_open = breaker.state is OPEN
            clock.advance(30)
            return is_open and breaker.call(int) == 0 and breaker.state is CLOSED

        assert in_child(child)
        assert breaker.state is HALF_OPEN
        trial.success()
        assert breaker.state is CLOSED


@needs_fork
def test_a_child_never_finds_the_lock_held() -> None:
    """Forks while other threads hammer on the lock, each child can use it."""
    breaker, stop = CircuitBreaker("b", failure_threshold=10**9), threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            breaker.acquire().failure()

    threads = [threading.Thread(target=hammer) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):

            def child() -> bool:
                breaker.acquire().failure()
                breaker.reset()
                return breaker.snapshot().failures == 0

            assert in_child(child)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@needs_fork
def test_a_child_makes_a_breaker_that_its_parent_is_making() -> None:
    """The child lacks the thread that makes it, and one that looks among the breakers just then."""
    inside, leave, parent = threading.Event(), threading.Event(), os.getpid()

    def make(key: str) -> CircuitBreaker:
        if key == "slow" and os.getpid() == parent:
            inside.set()
            assert leave.wait(60)
        return CircuitBreaker(key)

    breakers, stop = Breakers(make, max_size=2), threading.Event()

    def look() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            breakers.get(str(number % 5))

    threads = [threading.Thread(target=breakers.get, args=("slow",)), threading.Thread(target=look)]
    for thread in threads:
        thread.start()
    try:
        assert inside.wait(60)
        for _ in range(15):
            assert in_child(lambda: breakers.get("slow").name == breakers.get("slow").name == "slow")
    finally:
        leave.set()
        stop.set()
        for thread in threads:
            thread.join()
    assert breakers.get("slow") is breakers.get("slow")


@needs_fork
def test_a_child_forked_while_a_listener_runs_tells_its_own_listeners() -> None:
    """The thread that was telling does not exist in the child; its transitions are told all the same."""
    breaker, seen = CircuitBreaker("b"), []
    inside, leave = threading.Event(), threading.Event()

    def listener(event: BreakerEvent) -> None:
        seen.append(event.new)
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            leave.wait(30)

    breaker.subscribe(listener)
    thread = threading.Thread(target=breaker.isolate, args=("by a thread",))
    thread.start()
    assert inside.wait(30)

    def child() -> bool:
        breaker.reset()
        return seen == [ISOLATED, CLOSED]

    assert in_child(child)
    leave.set()
    thread.join()
    assert seen == [ISOLATED]


@contextlib.contextmanager
def storm(handler: Callable[[], object]) -> Iterator[None]:
    """Have a handler called every fraction of a millisecond, in the main thread."""
    signal.signal(signal.SIGALRM, lambda *_: handler())
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@needs_timer
def test_signal_handlers_that_use_the_breaker_neither_hang_nor_break_it() -> None:
    """A handler that calls, fails, resets and isolates while the main thread is inside: no deadlock, a whole chain."""
    run_fresh(use_the_breaker_in_a_storm)


def use_the_breaker_in_a_storm() -> None:
    """Use the breaker in the main thread and in a signal handler."""
    breaker = CircuitBreaker("b", failure_threshold=2, cooldown=0)
    seen: list[BreakerEvent] = []
    breaker.subscribe(seen.append)
    uses = [lambda: breaker.call(int), lambda: breaker.call(fails), breaker.reset, lambda: breaker.isolate("s")]
    count = 0

    def use(number: int) -> None:
        try:
            uses[number % 4]()
        except (OSError, CircuitOpenError):
            pass

    def handler() -> None:
        nonlocal count
        count += 1
        use(count)

    with storm(handler):
        number = 0
        while count < 300:
            number += 1
            use(number // 3)
    assert seen[0].old is CLOSED
    assert all(before.new is after.old for before, after in itertools.pairwise(seen))
    assert seen[-1].new is breaker.state
    breaker.reset()
    assert breaker.call(int) == 0


class StopError(BaseException):
    """What the handler raises, as Ctrl-C does."""


@needs_timer
def test_interrupts_cost_no_trial_for_good() -> None:
    """Interrupts that strike anywhere inside trials leave the lock free, and the listeners' turn too."""
    run_fresh(interrupt_trials_in_a_storm)


def interrupt_trials_in_a_storm() -> None:
    """Interrupt calls of the main thread at any of its instructions."""
    seen: list[BreakerState] = []
    hits, armed = 0, False

    def handler() -> None:
        nonlocal armed
        if armed:
            armed = False
            raise StopError

    breaker = CircuitBreaker("b", failure_threshold=1, cooldown=0, trial_timeout=60.0)
    breaker.subscribe(lambda event: seen.append(event.new))
    end = time.monotonic() + 20
    with storm(handler):
        while hits < 50 and time.monotonic() < end:
            try:
                armed = True
                for _ in range(5000):  # not for ever: an interrupt may end in a finalizer, which swallows it
                    try:
                        breaker.call(fails)
                    except (OSError, CircuitOpenError):
                        pass
            except StopError:
                hits += 1
        armed = False
    assert hits
    other = threading.Thread(target=breaker.reset, daemon=True)
    other.start()
    other.join(30)
    assert not other.is_alive()
    assert breaker.state is CLOSED
    seen.clear()
    breaker.isolate("after the storm")
    assert seen == [ISOLATED]


def test_a_refusal_comes_whole_out_of_another_process() -> None:
    """The error of another process arrives with its facts."""
    done = subprocess.run([sys.executable, "-c", PICKLING], capture_output=True, check=True)
    error = pickle.loads(done.stdout)
    assert isinstance(error, CircuitOpenError)
    assert (error.name, error.cause) == ("afar", "down")
    assert error.retry_after is not None
    assert 29 < error.retry_after <= 30


PICKLING = """
import pickle, sys
from booking_resilience.breaker import CircuitBreaker
breaker = CircuitBreaker("afar", failure_threshold=1)
breaker.acquire().failure(OSError("down"))
try:
    breaker.acquire()
except Exception as error:
    sys.stdout.buffer.write(pickle.dumps(error))
"""
