"""The sliding window of the failure rate, against a brute force."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience.breaker.window import FailureRate, SlidingWindow


def record(window: SlidingWindow, now: float, failed: bool) -> None:
    """Count a call as the machine does."""
    place = window.place(now)
    window.calls[place] += 1
    window.failures[place] += failed


@given(
    steps=st.lists(st.tuples(st.floats(0, 12), st.booleans()), max_size=80),
    length=st.sampled_from([0.5, 10.0, 30.0, 60.0]),
    start=st.floats(0, 1e6),
)
def test_it_counts_what_a_brute_force_counts_within_one_bucket(
    steps: list[tuple[float, bool]], length: float, start: float
) -> None:
    """Every call younger than 29/30 of the window counts, none older than the window does."""
    window, now, calls = SlidingWindow(FailureRate(window=length)), start, []
    for step, failed in steps:
        now += step
        record(window, now, failed)
        calls.append((now, failed))
        slack = 1e-6 * length + 1e-9 * now
        surely = [bad for at, bad in calls if now - at < length * 29 / 30 - slack]
        at_most = [bad for at, bad in calls if now - at <= length + slack]
        counted, failures = window.counts(now)
        assert len(surely) <= counted <= len(at_most)
        assert sum(surely) <= failures <= sum(at_most)


@pytest.mark.parametrize("step", [3600.0, -3600.0, 1e9, -999.0])
def test_nothing_stale_is_left_after_an_idle_hour_or_a_step_of_the_clock(step: float) -> None:
    """After a long pause or a step of the clock to either side, only what comes then counts."""
    window, now = SlidingWindow(FailureRate(window=30.0)), 10_000.0
    for _ in range(50):
        now += 0.5
        record(window, now, failed=True)
    assert window.counts(now)[1] == 50
    now += step
    assert window.counts(now) == (0, 0)
    record(window, now, failed=False)
    assert window.counts(now) == (1, 0)


@pytest.mark.parametrize("length", [5e-324, 1e-320, 1e-305, 1e-9, 1e308])
def test_any_length_that_is_allowed_can_be_counted_in(length: float) -> None:
    """The shortest and the longest there are, too, late in a machine's life."""
    window = SlidingWindow(FailureRate(window=length))
    record(window, 1e8, failed=True)
    assert window.counts(1e8) == (1, 1)
    assert window.counts(1e9) == ((1, 1) if length > 1e9 else (0, 0))


def test_it_is_too_much_at_or_above_the_ratio_and_never_on_too_few_calls() -> None:
    """The ratio counts from `minimum_calls` calls on, its edge included."""
    window = SlidingWindow(FailureRate(ratio=0.5, minimum_calls=4))
    answers = {(3, 3): False, (4, 1): False, (4, 2): True, (5, 2): False, (5, 3): True}
    assert {key: window.is_too_much(*key) for key in answers} == answers


def test_an_emptied_window_has_counted_nothing_and_judges_alike() -> None:
    """The window that replaces another at closing starts from nothing, with the same settings."""
    window = SlidingWindow(FailureRate(ratio=1.0, minimum_calls=1))
    record(window, 5.0, failed=True)
    fresh = window.emptied()
    assert (window.counts(5.0), fresh.counts(5.0)) == ((1, 1), (0, 0))
    assert fresh.is_too_much(1, 1)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("ratio", 0), ("ratio", 1.1), ("ratio", float("nan")), ("window", 0), ("window", -1), ("window", float("inf")),
     ("minimum_calls", 0), ("minimum_calls", 1.5), ("minimum_calls", True), ("ratio", "much")],
)  # fmt: skip
def test_absurd_settings_are_refused(setting: str, value: Any) -> None:
    """A setting out of range raises `ValueError` with its name, its value and what is allowed."""
    allowed = {
        "ratio": "a number above 0, at most 1",
        "window": "a finite number above 0",
        "minimum_calls": "a whole number, 1 or more",
    }
    with pytest.raises(ValueError, match="must be") as caught:
        FailureRate(**{setting: value})
    assert str(caught.value) == f"{setting} must be {allowed[setting]}, not {value!r}"


def test_the_defaults_are_those_of_the_design() -> None:
    """Half of at least 10 calls within 30 seconds."""
    assert FailureRate() == FailureRate(ratio=0.5, window=30.0, minimum_calls=10)


def test_it_counts_below_zero_as_above() -> None:
    """A monotonic clock may begin anywhere, below zero as well."""
    window = SlidingWindow(FailureRate(window=30.0))
    for now in (-31.5, -0.5, 0.5):
        record(window, now, failed=True)
    assert [window.counts(now) for now in (-3.0, -0.5, 0.5, 29.4)] == [(1, 1), (1, 1), (2, 2), (1, 1)]
