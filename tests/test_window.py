"""The sliding window of the failure rate, against a brute force."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience.breaker.window import Buckets, FailureRate, is_too_much, recent, with_call


class Window:
    """A rate and what was counted for it."""

    def __init__(self, **settings: Any) -> None:
        self.rate, self.buckets = FailureRate(**settings), ()

    def record(self, now: float, *, failed: bool) -> None:
        """Count a call as the machine does; what was counted before stays as it is."""
        before: Buckets = self.buckets
        self.buckets = with_call(self.rate, before, now, failed=failed)
        assert self.buckets is not before

    def counts(self, now: float) -> tuple[int, int]:
        """Return calls and failures."""
        return recent(self.rate, self.buckets, now)


@given(
    steps=st.lists(st.tuples(st.floats(0, 12), st.booleans()), max_size=80),
    length=st.sampled_from([0.5, 10.0, 30.0, 60.0]),
    start=st.floats(0, 1e6),
)
def test_it_counts_what_a_brute_force_counts_within_one_bucket(
    steps: list[tuple[float, bool]], length: float, start: float
) -> None:
    """Every call younger than 29/30 of the window counts, none older than the window does."""
    window, now, calls = Window(window=length), start, []
    for step, failed in steps:
        now += step
        window.record(now, failed=failed)
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
    window, now = Window(window=30.0), 10_000.0
    for _ in range(50):
        now += 0.5
        window.record(now, failed=True)
    assert window.counts(now)[1] == 50
    now += step
    assert window.counts(now) == (0, 0)
    window.record(now, failed=False)
    assert window.counts(now) == (1, 0)


@pytest.mark.parametrize("length", [5e-324, 1e-320, 1e-305, 1e-9, 1e308])
def test_any_length_that_is_allowed_can_be_counted_in(length: float) -> None:
    """The shortest and the longest there are, too, late in a machine's life."""
    window = Window(window=length)
    window.record(1e8, failed=True)
    assert window.counts(1e8) == (1, 1)
    assert window.counts(1e9) == ((1, 1) if length > 1e9 else (0, 0))


def test_it_is_too_much_at_or_above_the_ratio_and_never_on_too_few_calls() -> None:
    """The ratio counts from `minimum_calls` calls on, its edge included."""
    rate = FailureRate(ratio=0.5, minimum_calls=4)
    answers = {(3, 3): False, (4, 1): False, (4, 2): True, (5, 2): False, (5, 3): True}
    assert {key: is_too_much(rate, *key) for key in answers} == answers


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 30), st.booleans()), max_size=60))
def test_threads_that_come_out_of_order_lose_no_call(steps: list[tuple[float, int, bool]]) -> None:
    """A call that is counted a little after a later one counts as if in order, and the buckets stay few."""
    window, ordered, now, calls = Window(window=30.0), Window(window=30.0), 100.0, []
    for step, late, failed in steps:
        now += step
        calls.append((now - late / 31, failed))
        window.record(*calls[-1][:1], failed=failed)
    for at, failed in sorted(calls):
        ordered.record(at, failed=failed)
    assert window.counts(now) == ordered.counts(now)
    assert len(window.buckets) <= 59


@pytest.mark.parametrize(
    ("setting", "value", "kind"),
    [("ratio", 0, ValueError), ("ratio", 1.1, ValueError), ("ratio", float("nan"), ValueError),
     ("window", 0, ValueError), ("window", -1, ValueError), ("window", float("inf"), ValueError),
     ("minimum_calls", 0, ValueError), ("minimum_calls", 1.5, ValueError), ("minimum_calls", True, TypeError),
     ("ratio", "much", TypeError), ("window", None, TypeError)],
)  # fmt: skip
def test_absurd_settings_are_refused(setting: str, value: Any, kind: type[Exception]) -> None:
    """A setting of the wrong type or out of range raises with its name, its value and what is allowed."""
    allowed = {
        "ratio": "a number above 0, at most 1",
        "window": "a finite number above 0",
        "minimum_calls": "a whole number, 1 or more",
    }
    with pytest.raises(kind, match="must be") as caught:
        FailureRate(**{setting: value})
    assert str(caught.value) == f"{setting} must be {allowed[setting]}, not {value!r}"


def test_a_call_that_comes_late_joins_its_own_bucket() -> None:
    """Each call counts once, also where another bucket was begun in the meantime."""
    window = Window(window=30.0)
    for moment, failed in ((10.0, True), (11.5, False), (10.2, True)):
        window.record(moment, failed=failed)
    assert window.counts(11.5) == (3, 2)


def test_all_calls_may_have_to_fail() -> None:
    """A ratio of 1, the largest, trips when no call succeeds."""
    rate = FailureRate(ratio=1, minimum_calls=2)
    assert [is_too_much(rate, 2, failures) for failures in (1, 2)] == [False, True]


def test_the_defaults_are_those_of_the_design() -> None:
    """Half of at least 10 calls within 30 seconds."""
    assert FailureRate() == FailureRate(ratio=0.5, window=30.0, minimum_calls=10)


def test_it_counts_below_zero_as_above() -> None:
    """A monotonic clock may begin anywhere, below zero as well."""
    window, counts = Window(window=30.0), []
    for moment, later in ((-31.5, -3.0), (-0.5, -0.5), (0.5, 0.5)):
        window.record(moment, failed=True)
        counts.append(window.counts(later))
    assert [*counts, window.counts(29.4)] == [(1, 1), (1, 1), (2, 2), (1, 1)]
