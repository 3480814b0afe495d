"""Whole operations against a model of ten lines: any sequence of failures, delays, deadlines and budgets."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import (
    CircuitOpenError,
    DeadlineExceededError,
    RetryBudget,
    RetryEvent,
    RetryPolicy,
    TransientError,
    attempts_of,
    deadline,
    with_retry,
)
from booking_resilience.testing import virtual_time

# Times are whole 64ths of a second, so that sums are exact and edges are hit.
TICKS = st.integers(0, 128).map(lambda ticks: ticks / 64)


class AskingError(TransientError):
    """An error that asks for a delay."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Step:
    """What one attempt does."""

    kind: str
    takes: float
    asks: float

    def error(self) -> Exception | None:
        """Return what it raises."""
        match self.kind:
            case "transient":
                return ConnectionError()
            case "asking":
                return AskingError(self.asks)
            case "refused":
                return ValueError()
            case "circuit":
                return CircuitOpenError("b", self.asks)
            case _:
                return None


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["transient", "transient", "transient", "asking", "unwanted", "refused", "circuit", "ok"]),
        TICKS,
        TICKS,
    ),
    min_size=1,
    max_size=12,
)


def model(
    steps: list[Step], policy: RetryPolicy, tokens: float, outer: float | None
) -> tuple[int, list[float], str, float]:
    """Return how many attempts are made, the sleeps, how it ends, and the tokens left."""
    now, sleeps, end = 0.0, [], min((limit for limit in (policy.deadline, outer) if limit is not None), default=1e9)
    if end <= now:
        return 0, [], "deadline", tokens
    for attempt, step in enumerate((steps + [steps[-1]] * 50)[:50], 1):
        now += step.takes
        if step.kind == "ok":
            return attempt, sleeps, "success" if attempt == 1 else "recovered", min(tokens + 0.5, 4.0)
        delay = max(0.0, *policy.delays()[attempt - 1 : attempt], step.asks if step.kind == "asking" else 0.0)
        fails = {
            "not_transient": step.kind == "refused",
            "circuit_open": step.kind == "circuit",
            "attempts": attempt == policy.max_attempts,
            "deadline": now + delay >= end,
            "budget": tokens < 1,
        }
        for reason, applies in fails.items():
            if applies:
                return attempt, sleeps, reason, tokens
        tokens, now = tokens - 1, now + delay
        sleeps += [delay] if delay else []
    raise AssertionError("it never ends")


@given(
    steps=STEPS, attempts=st.integers(1, 6), base=TICKS, multiplier=st.sampled_from([1.0, 2.0, 3.0]), longest=TICKS,
    limit=st.none() | TICKS.filter(bool), outer=st.none() | TICKS, tokens=st.integers(0, 4),
)  # fmt: skip
def test_an_operation_does_what_the_model_says(
    steps: list[Step], attempts: int, base: float, multiplier: float, longest: float, limit: float | None,
    outer: float | None, tokens: int,
) -> None:  # fmt: skip
    """Attempts, sleeps, reason, result, tokens, elapsed times and history are those of the model."""
    budget = RetryBudget(capacity=4.0, initial=tokens, deposit=0.5)
    policy = RetryPolicy(
        max_attempts=attempts, base_delay=base, multiplier=multiplier, max_delay=longest, jitter=0, deadline=limit,
        budget=budget, retry_on_result=lambda result: result == "unwanted",
    )  # fmt: skip
    calls, moments = 0, []
    events: list[RetryEvent] = []
    raised: list[Exception] = []
    expected_calls, expected_sleeps, ending, expected_tokens = model(steps, policy, tokens, outer)

    with virtual_time() as clock:

        def call() -> str:
            nonlocal calls
            step = steps[min(calls, len(steps) - 1)]
            calls += 1
            clock.advance(step.takes)
            moments.append(clock.now())
            if (error := step.error()) is not None:
                raised.append(error)
                raise error
            return step.kind

        def run() -> Any:
            try:
                return with_retry(call, policy=policy, on_event=events.append)
            except Exception as error:
                return error

        if outer is None:
            result = run()
        else:
            with deadline(outer):
                result = run()

    assert (calls, clock.sleeps, budget.tokens) == (expected_calls, expected_sleeps, expected_tokens)
    if ending == "success":
        assert (result, events) == ("ok", [])
        return
    last = events[-1]
    assert [event.outcome for event in events[:-1]] == ["retrying"] * max(0, calls - 1)
    assert (last.outcome, last.reason) == (("recovered", None) if ending == "recovered" else ("gave_up", ending))
    assert [event.elapsed for event in events] == (moments or [0.0])
    assert [event.attempt for event in events] == ([*range(1, calls + 1)] or [0])
    if ending == "recovered":
        assert result == "ok"
    elif calls == 0:
        assert isinstance(result, DeadlineExceededError)
    elif steps[min(calls, len(steps)) - 1].kind == "unwanted":
        assert result == "unwanted"
    else:
        assert result is raised[-1]
        history = attempts_of(result)
        assert [item.error for item in history] == raised
        assert history[-1].delay is None
        assert [(item.number, item.elapsed) for item in history] == [
            (number, moments[number - 1])
            for number in range(1, calls + 1)
            if steps[min(number, len(steps)) - 1].kind != "unwanted"
        ]


@given(seed=st.integers(0, 2**32), jitter=st.floats(0, 1) | st.just("full"), base=st.floats(0.001, 10))
def test_jitter_neither_passes_nor_piles_up_on_the_cap(seed: int, jitter: Any, base: float) -> None:
    """However a delay is drawn, it is at most `max_delay`, and no more than its share of draws comes near the cap."""
    policy = RetryPolicy(base_delay=base, max_delay=3.0, jitter=jitter, deadline=None)
    planned = policy.planned_delay(1)
    draw = random.Random(seed)
    drawn = sorted(policy.jittered(planned, draw.random()) for _ in range(400))
    low = 0.0 if jitter == "full" else planned * (1 - jitter)
    high = planned if jitter == "full" else min(planned * (1 + jitter), 3.0)
    assert low <= drawn[0] * (1 + 1e-9)
    assert drawn[-1] <= min(high * (1 + 1e-9), 3.0)
    if high - low > 1e-6:
        # Evenly drawn: each tenth of the interval has about 40 of 400; 90 would be eight standard deviations off.
        for tenth in range(10):
            edge = low + (high - low) * tenth / 10
            assert sum(edge <= delay < edge + (high - low) / 10 for delay in drawn) < 90
