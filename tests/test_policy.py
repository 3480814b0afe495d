"""The retry policy: the schedule, the jitter, the decision, and what settings it refuses."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import (
    DEFAULT_RETRY,
    CircuitOpenError,
    LimitExceededError,
    RetryBudget,
    RetryPolicy,
    TransientError,
    is_transient,
)
from booking_resilience.retry.policy import FOREVER, decide
from booking_resilience.verdicts import LONGEST_WAIT, retry_after_of

DOCS = Path(__file__).resolve().parent.parent / "docs"
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 50),
    base_delay=st.floats(0, 100),
    multiplier=st.floats(1, 10),
    max_delay=st.floats(0, 200),
    jitter=st.floats(0, 1) | st.just("full"),
    deadline=st.none() | st.floats(0.001, 100),
)
DRAWS = st.floats(0, 1, exclude_max=True)


def test_the_users_figures_are_the_defaults() -> None:
    """Three attempts, at once, after 0.3 s and after 0.6 s, at most 3 s apart, ±15 %, all within 4 s."""
    assert DEFAULT_RETRY.delays() == (0.3, 0.6)
    assert (DEFAULT_RETRY.max_attempts, DEFAULT_RETRY.max_delay, DEFAULT_RETRY.jitter) == (3, 3.0, 0.15)
    assert (DEFAULT_RETRY.deadline, DEFAULT_RETRY.attempt_timeout, DEFAULT_RETRY.budget) == (4.0, None, None)
    assert DEFAULT_RETRY.retry_on is is_transient
    assert RetryPolicy(max_attempts=7).delays() == (0.3, 0.6, 1.2, 2.4, 3.0, 3.0)


@pytest.mark.parametrize("error", [ConnectionError(), ConnectionResetError(), TimeoutError(), TransientError()])
def test_network_errors_are_transient(error: BaseException) -> None:
    """Connection errors, timeouts and `TransientError` are transient."""
    assert is_transient(error)


@pytest.mark.parametrize(
    "error", [ValueError(), KeyError(), TypeError(), OSError(), CircuitOpenError("x"), RuntimeError()]
)
def test_programming_errors_are_not_transient(error: BaseException) -> None:
    """Programming errors and rejections by a breaker aren't transient."""
    assert not is_transient(error)


@given(policy=POLICIES, attempt=st.integers(1, 10**9), draw=DRAWS)
def test_jitter_stays_in_its_bounds(policy: RetryPolicy, attempt: int, draw: float) -> None:
    """A drawn delay lies within the jitter of the plan, and never above `max_delay`."""
    planned = policy.planned_delay(attempt)
    assert 0 <= planned <= policy.max_delay
    drawn = policy.jittered(planned, draw)
    if policy.jitter == "full":
        assert 0 <= drawn <= planned
    else:
        assert planned * (1 - policy.jitter) <= drawn * (1 + 1e-9) + 1e-300
        assert drawn <= min(planned * (1 + policy.jitter), policy.max_delay) * (1 + 1e-9)


def test_jitter_does_not_pile_up_on_the_cap() -> None:
    """At `max_delay` delays are drawn evenly from what is left of the interval, not cut to the cap."""
    policy = RetryPolicy(base_delay=3.0, max_delay=3.0, jitter=0.5)
    drawn = [policy.jittered(policy.planned_delay(1), number / 1000) for number in range(1000)]
    assert min(drawn) == 1.5
    assert sum(delay > 2.999 for delay in drawn) <= 1
    assert sum(drawn) / len(drawn) == pytest.approx(2.25, abs=0.01)


@pytest.mark.parametrize("attempt", [1, 2, 1_000, 10**6, 10**18])
def test_huge_attempt_numbers_overflow_nothing(attempt: int) -> None:
    """However many attempts there were, the delay is a number, and `max_delay` at most."""
    assert RetryPolicy(multiplier=10, max_attempts=10**18).planned_delay(attempt) <= 3.0
    assert RetryPolicy(base_delay=0, multiplier=10).planned_delay(attempt) == 0.0
    assert RetryPolicy(base_delay=5.0, multiplier=1).planned_delay(attempt) == 3.0


@given(
    policy=POLICIES, attempt=st.integers(1, 60), now=st.floats(0, 1000), left=st.none() | st.floats(0, 50), draw=DRAWS,
    kind=st.sampled_from(["transient", "other", "circuit", "result"]), circuit_open=st.booleans(), up=st.booleans(),
    retry_after=st.none() | st.floats(allow_nan=True) | st.just("soon"),
)  # fmt: skip
def test_decision_follows_the_model(
    policy: RetryPolicy, attempt: int, now: float, left: float | None, draw: float, kind: str, circuit_open: bool,
    up: bool, retry_after: Any,
) -> None:  # fmt: skip
    """For any failure the decision is that of a model of ten lines."""
    errors = {
        "transient": TransientError(),
        "other": ValueError(),
        "circuit": CircuitOpenError("x", 1.0),
        "result": None,
    }
    error = errors[kind]
    if kind == "transient":
        error.retry_after = retry_after  # type: ignore[union-attr] # it is an error
    end = None if left is None else now + left
    got = decide(policy, error, attempt=attempt, now=now, end=end, draw=draw, circuit_open=circuit_open, time_is_up=up)

    delay = policy.jittered(policy.planned_delay(attempt), draw)
    if kind == "transient" and isinstance(retry_after, float) and retry_after > delay:
        delay = retry_after
    expected: float | str = delay
    if (end is not None and now + delay >= end) or delay >= 9e9:
        expected = "deadline"
    if attempt >= policy.max_attempts:
        expected = "attempts"
    if circuit_open or kind == "circuit":
        expected = "circuit_open"
    if kind == "other":
        expected = "not_transient"
    if up:
        expected = "deadline"
    assert got == expected


@pytest.mark.parametrize(
    "retry_on", [ConnectionError, (KeyError, ConnectionError), lambda error: "refused" in str(error)]
)
def test_retry_on_takes_types_tuples_and_functions(retry_on: Any) -> None:
    """What is retried may be said by a type, a tuple of types or a function of the error."""
    policy = RetryPolicy(retry_on=retry_on)
    assert policy.passes(ConnectionRefusedError("refused"))
    assert not policy.passes(ValueError("other"))


def test_a_filter_of_your_own_is_asked_of_plain_errors_too() -> None:
    """A connection error without attributes is transient by itself, but not to a `retry_on` that leaves it out."""
    policy = RetryPolicy(retry_on=ValueError)
    assert decide(policy, ConnectionError(), attempt=1, now=0.0, end=None, draw=0.5) == "not_transient"


def test_a_filter_without_an_answer_accepts_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A `retry_on` that raises, or that answers with something to await, is logged; the error isn't retried."""

    async def later() -> bool:
        return True

    filters: list[Any] = [lambda error: 1 / 0, lambda error: later()]
    for retry_on, logged in zip(filters, ("retry_on raised", "await"), strict=True):
        caplog.clear()
        assert RetryPolicy(retry_on=retry_on).passes(ConnectionError()) is False
        assert [logged in record.getMessage() for record in caplog.records] == [True]


def test_a_result_is_rejected_only_by_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    """A true `retry_on_result` rejects the result; one that raises, or has to be awaited, is logged and doesn't."""

    async def later() -> bool:
        return True

    assert not RetryPolicy().rejects("empty")
    assert [RetryPolicy(retry_on_result=bool).rejects(result) for result in ("", "full")] == [False, True]
    rules: list[Any] = [lambda result: 1 / 0, lambda result: later()]
    for rule, logged in zip(rules, ("retry_on_result raised", "await"), strict=True):
        caplog.clear()
        assert RetryPolicy(retry_on_result=rule).rejects("full") is False
        assert [logged in record.getMessage() for record in caplog.records] == [True]


def test_a_delay_that_no_clock_can_wait_for_is_not_begun() -> None:
    """A planned delay of `FOREVER`, some 285 years, ends the retrying as a deadline would."""
    for delay, follows in ((FOREVER, "deadline"), (FOREVER - 1, FOREVER - 1)):
        policy = RetryPolicy(base_delay=delay, max_delay=delay, jitter=0, deadline=None)
        assert decide(policy, TransientError(), attempt=1, now=0.0, end=None, draw=0.5) == follows


def test_jitter_of_the_wrong_type_is_named() -> None:
    """What is neither a number nor a string is a `TypeError` that says what is allowed."""
    for value in (None, True):
        jitter: Any = value
        with pytest.raises(TypeError, match=f"^jitter must be a number from 0 to 1, or 'full', not {value}$"):
            RetryPolicy(jitter=jitter)


def test_a_limit_that_names_no_time_is_not_asked_again() -> None:
    """A rejection by a limit is retried if `retry_on` accepts it and the limit says when a place will be free."""
    policy = RetryPolicy(retry_on=LimitExceededError, jitter=0)
    for retry_after, follows in ((None, "not_transient"), (1.5, 1.5)):
        error = LimitExceededError("backend", retry_after)
        assert decide(policy, error, attempt=1, now=0.0, end=None, draw=0.5) == follows


def test_the_longest_wait_is_a_day() -> None:
    """An error may ask for a wait of up to a day; one that asks for more isn't retried."""
    error = TransientError()
    for asked, follows in ((LONGEST_WAIT, LONGEST_WAIT), (math.nextafter(LONGEST_WAIT, math.inf), "deadline")):
        error.retry_after = asked
        assert decide(RetryPolicy(deadline=None), error, attempt=1, now=0.0, end=None, draw=0.5) == follows


@pytest.mark.parametrize("value", [0, 0.5, 7, 1e9, math.inf])
def test_retry_after_is_read_from_the_error(value: float) -> None:
    """A `retry_after` of 0 or more seconds is what the error asks for."""
    error = TransientError()
    error.retry_after = value
    assert retry_after_of(error) == value


@pytest.mark.parametrize("error", [TransientError(), ConnectionError(), None])
def test_a_failure_is_followed_by_the_delay(error: Exception | None) -> None:
    """After a transient error or a rejected result comes the planned delay, with jitter."""
    assert decide(RetryPolicy(), error, attempt=1, now=0.0, end=None, draw=0.0) == pytest.approx(0.255)
    assert decide(RetryPolicy(jitter=0), error, attempt=2, now=0.0, end=4.0, draw=0.5) == 0.6


def test_an_error_may_ask_for_a_longer_delay_but_not_for_a_shorter_one() -> None:
    """`retry_after` raises the delay to it, above `max_delay` too, and never lowers it."""
    error, policy = TransientError(), RetryPolicy(jitter=0)
    for asked, delay in ((0.5, 0.5), (0.1, 0.3), (60.0, 60.0)):
        error.retry_after = asked
        assert decide(policy, error, attempt=1, now=0.0, end=None, draw=0.5) == delay


def test_a_delay_that_ends_at_the_deadline_does_not_fit() -> None:
    """A delay must end before the deadline; one that would end with it leaves no time for an attempt."""
    policy = RetryPolicy(jitter=0, base_delay=0.5)
    assert decide(policy, TransientError(), attempt=1, now=1.0, end=1.5, draw=0.5) == "deadline"
    assert decide(policy, TransientError(), attempt=1, now=1.0, end=1.75, draw=0.5) == 0.5


@pytest.mark.parametrize("value", [None, -1, float("nan"), "soon", [], -0.5])
def test_senseless_retry_after_is_ignored(value: Any) -> None:
    """A `retry_after` that stands for no duration changes nothing of the plan."""
    error = TransientError()
    error.retry_after = value
    assert decide(RetryPolicy(jitter=0), error, attempt=1, now=0.0, end=None, draw=0.5) == 0.3


ABSURD = [
    ("max_attempts", 0), ("max_attempts", 1.5), ("max_attempts", True), ("max_attempts", "3"), ("base_delay", -0.1),
    ("base_delay", math.inf), ("base_delay", math.nan), ("multiplier", 0.9), ("multiplier", None), ("max_delay", -1),
    ("jitter", 1.1), ("jitter", -0.1), ("jitter", "half"), ("deadline", 0), ("deadline", math.inf),
    ("attempt_timeout", -1), ("retry_on", 3), ("retry_on", (ValueError, 3)), ("retry_on", int),
    ("retry_on_result", 3), ("budget", 3),
]  # fmt: skip


ALLOWED = {
    "max_attempts": "a whole number, 1 or more",
    "base_delay": "a finite number, 0 or more",
    "multiplier": "a finite number, 1 or more",
    "max_delay": "a finite number, 0 or more",
    "jitter": "a number from 0 to 1, or 'full'",
    "deadline": "a finite number above 0, or None",
    "attempt_timeout": "a finite number above 0, or None",
    "retry_on": "an exception type, a tuple of them, or a function of the error",
    "retry_on_result": "a function of the result, or None",
    "budget": "a RetryBudget or None",
}


@pytest.mark.parametrize(("name", "value"), ABSURD)
def test_absurd_settings_are_refused(name: str, value: Any) -> None:
    """A setting out of its range is refused when the policy is made, by name, value and what is allowed."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_value = value == "half" or (is_number and name not in {"retry_on", "retry_on_result", "budget"})
    with pytest.raises(ValueError if is_value else TypeError, match="must be") as caught:
        RetryPolicy(**{name: value})
    assert str(caught.value) == f"{name} must be {ALLOWED[name]}, not {value!r}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_attempts", 1), ("base_delay", 0), ("multiplier", 1), ("max_delay", 0), ("jitter", 0), ("jitter", 1),
        ("jitter", "full"), ("deadline", 1e-9), ("deadline", None), ("attempt_timeout", 1e-9), ("retry_on", ()),
        ("retry_on_result", bool), ("budget", RetryBudget()),
    ],
)  # fmt: skip
def test_settings_at_the_edge_of_their_range_are_taken(name: str, value: Any) -> None:
    """What is just allowed is taken as it is."""
    assert getattr(RetryPolicy(**{name: value}), name) == value


def test_policy_is_a_frozen_value() -> None:
    """A policy cannot be changed, and two with the same settings are equal."""
    with pytest.raises(AttributeError):
        RetryPolicy().max_attempts = 5  # type: ignore[misc] # that is the point
    assert RetryPolicy(max_attempts=5) == RetryPolicy(max_attempts=5) != RetryPolicy()


def test_the_timeline_in_the_docs_is_that_of_the_policy() -> None:
    """`docs/_static/retry.svg` is what the script draws from the policy today, with the bounds of its jitter."""
    spec = importlib.util.spec_from_file_location("draw_retry", DOCS / "_scripts" / "draw_retry.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    drawn = module.draw()
    assert (DOCS / "_static" / "retry.svg").read_text(encoding="utf-8") == drawn
    assert "attempt 2 after 0.255 to 0.345 s, attempt 3 after 0.765 to 1.035 s" in drawn
