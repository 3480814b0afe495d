"""Transitions that come faster than their listeners, and those of a parent process."""

from __future__ import annotations

import logging
import os
import threading
import time
import warnings
from typing import TYPE_CHECKING

import pytest

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.breaker.telling import MOST
from booking_resilience.events import BreakerEvent, BreakerState
from racing import needs_fork
from test_breaker_processes import in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSED, OPEN, HALF_OPEN, ISOLATED = BreakerState


class SlowListener:
    """A listener that is stuck at its first event, in a thread of its own, until it's let go."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self.seen: list[BreakerEvent] = []
        self.stuck, self.go = threading.Event(), threading.Event()
        breaker.subscribe(self)
        self.thread = threading.Thread(target=breaker.isolate, args=("the first",))
        self.thread.start()
        assert self.stuck.wait(30)

    def __call__(self, event: BreakerEvent) -> None:
        """Note the event."""
        self.seen.append(event)
        self.stuck.set()
        assert self.go.wait(60)

    def finish(self) -> None:
        """Let it go, until all is told."""
        self.go.set()
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture
def breaker() -> Iterator[CircuitBreaker]:
    """Return a breaker whose log is quiet but for losses."""
    logger = logging.getLogger("booking_resilience.breaker")
    logger.setLevel(logging.ERROR)
    yield CircuitBreaker("busy")
    logger.setLevel(logging.NOTSET)


def toggle(breaker: CircuitBreaker, times: int) -> None:
    """Make so many transitions, each with its number."""
    for number in range(times):
        if breaker.state is ISOLATED:
            breaker.reset(str(number))
        else:
            breaker.isolate(str(number))


def test_the_newest_transitions_are_kept_and_the_loss_is_logged_once_per_backlog(
    breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 3,000 the last 1,000 are told, in order; a later backlog is another one."""
    assert MOST == 1000
    for backlog in (1, 2):
        breaker.reset()
        listener = SlowListener(breaker)
        toggle(breaker, 3000)
        listener.finish()
        assert [event.reason for event in listener.seen] == ["the first", *map(str, range(2000, 3000))]
        losses = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(losses) == backlog
        assert losses[-1].getMessage().startswith("'busy': its transitions come faster than its listeners")
        assert losses[-1].breaker == "busy"
        breaker._core.listen(breaker._core.newest().news.listeners[0], until_now=True)


def test_a_backlog_that_fits_loses_nothing(breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture) -> None:
    """1,000 transitions behind a stuck listener are told to the last, and nothing is logged."""
    listener = SlowListener(breaker)
    toggle(breaker, 1000)
    listener.finish()
    assert [event.reason for event in listener.seen] == ["the first", *map(str, range(1000))]
    assert not caplog.records


def test_a_deep_backlog_costs_no_more_than_a_full_one(breaker: CircuitBreaker) -> None:
    """Ten times as many transitions take about ten times as long: each costs the same however many came before."""
    listener, times = SlowListener(breaker), []
    toggle(breaker, 2000)
    for count in (1000, 10_000):
        before = time.process_time()
        toggle(breaker, count)
        times.append(time.process_time() - before)
    listener.finish()
    assert times[1] < 40 * times[0]


@needs_fork
def test_a_child_leaves_the_backlog_of_its_parent_to_it(breaker: CircuitBreaker) -> None:
    """It tells its own transitions and none of the parent's, whose thread tells those."""
    listener = SlowListener(breaker)
    toggle(breaker, 5)

    def child() -> bool:
        listener.go.set()
        listener.seen.clear()
        breaker.reset("the child's")
        breaker.isolate("the child's too")
        return [event.reason for event in listener.seen] == ["the child's", "the child's too"]

    assert breaker.state is CLOSED or breaker.reset() is None
    breaker.isolate("before the fork")
    assert in_child(child)
    listener.finish()
    assert [event.reason for event in listener.seen][-1] == "before the fork"
    assert len({event.reason for event in listener.seen} & {"the child's", "the child's too"}) == 0


@needs_fork
def test_a_child_forked_by_a_listener_tells_its_own_alone(breaker: CircuitBreaker) -> None:
    """What the parent had yet to tell when its listener forked is told by the parent, once."""
    told: list[str] = []
    results: list[bool] = []
    parent = os.getpid()

    def forks(event: BreakerEvent) -> None:
        told.append(event.reason)
        if event.reason == "fork here":
            breaker.reset("the parent's, while it is being told")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which a runner may have
                pid = os.fork()
            if pid == 0:
                told.clear()
                breaker.isolate("the child's")
                os._exit(0 if told == ["the child's"] else 2)
            results.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0)

    breaker.subscribe(forks)
    breaker.isolate("fork here")
    assert os.getpid() == parent
    assert results == [True]
    assert told == ["fork here", "the parent's, while it is being told"]
