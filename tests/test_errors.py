"""The exceptions: facts as attributes, and pickles."""

from __future__ import annotations

import pickle

import pytest

from booking_resilience import (
    CircuitOpenError,
    DeadlineExceededError,
    ResilienceError,
    RetryPolicy,
    TransientError,
    with_retry,
)
from booking_resilience.testing import VirtualClock


def test_every_error_of_ours_is_a_resilience_error() -> None:
    """One `except` clause catches them all; running out of time is a `TimeoutError`, too."""
    assert issubclass(TransientError, ResilienceError)
    assert issubclass(CircuitOpenError, ResilienceError)
    assert issubclass(DeadlineExceededError, (ResilienceError, TimeoutError))


def test_transient_error_carries_how_long_to_wait(virtual_clock: VirtualClock) -> None:
    """`retry_after` is None unless given; given, the next attempt waits for so long."""
    assert TransientError("busy").retry_after is None
    answers = [TransientError("busy", retry_after=2.0), "done"]

    def call() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert with_retry(call, policy=RetryPolicy(jitter=0)) == "done"
    assert virtual_clock.sleeps == [2.0]


@pytest.mark.parametrize(
    "error", [TransientError("busy", "now", retry_after=2.0), TransientError(), CircuitOpenError("a", 1.5, "down")]
)
def test_errors_can_be_pickled(error: TransientError | CircuitOpenError) -> None:
    """A pickled error comes back with its text and its facts."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.retry_after) == (type(error), str(error), error.retry_after)
