"""The error rate and the alert, against models that know every event."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import AlertRule
from booking_resilience.monitor.rate import Alert, SlidingRate

MOMENTS = st.lists(st.integers(0, 4000).map(lambda tenths: tenths / 10), max_size=120).map(sorted)


@given(moments=MOMENTS, window=st.sampled_from([1.0, 10.0, 60.0]), later=st.integers(0, 900).map(lambda n: n / 10))
def test_rate_counts_exactly_what_is_in_the_window(moments: list[float], window: float, later: float) -> None:
    """The rate is the number of events in (now - window, now], per minute, at every event and later."""
    rate = SlidingRate(window)
    for number, now in enumerate(moments):
        rate.add(now)
        expected = sum(1 for moment in moments[: number + 1] if moment > now - window + 1e-6)
        assert rate.per_minute(now) == pytest.approx(expected * 60 / window)
    end = (moments[-1] if moments else 0.0) + later
    expected = sum(1 for moment in moments if moment > end - window + 1e-6)
    assert rate.per_minute(end) == pytest.approx(expected * 60 / window)


def test_rate_is_bounded_and_nearly_exact_in_a_storm() -> None:
    """A hundred thousand events in a window are counted, in at most about a thousand places."""
    rate = SlidingRate(60.0)
    for number in range(100_000):
        rate.add(number / 1000)
    assert len(rate._events) <= 1100
    assert rate.per_minute(100.0) == pytest.approx(60_000, rel=0.01)
    assert rate.per_minute(1000.0) == 0


class Model:
    """The alert as a brute force sees it: looks at every tenth of a second."""

    def __init__(self, rule: AlertRule) -> None:
        self.rule, self.events, self.firing = rule, [], False
        self.below: float | None = None
        self.above: float | None = None

    def tick(self, now: float, window: float) -> list[str]:
        rate = sum(1 for moment in self.events if moment > now - window + 1e-6) * 60 / window
        told = []
        if self.firing:
            if rate < self.rule.clear_threshold:
                self.below = now if self.below is None else self.below
                if now - self.below >= self.rule.keep_firing - 1e-6:
                    self.firing, self.below = False, None
                    told.append("resolved")
            else:
                self.below = None
        if rate > self.rule.threshold and not self.firing:
            self.firing = True
            told.append("firing")
        return told


@given(moments=st.lists(st.integers(0, 3000), min_size=1, max_size=80).map(sorted))
def test_alert_fires_and_resolves_when_the_model_does(moments: list[int]) -> None:
    """Looked at only at events and at the end, the alert tells the same story as one that is looked at all the time."""
    rule, window = AlertRule(threshold=10, clear_threshold=5, keep_firing=20.0, repeat_every=1e9), 60.0
    rate, alert, model = SlidingRate(window), Alert(rule), Model(rule)
    told: list[Any] = []
    expected: list[Any] = []
    due = list(moments)
    for tenth in range(moments[-1] + 1300):
        now = tenth / 10
        while due and due[0] == tenth:
            due.pop(0)
            told += alert.look(rate, now)
            expected += model.tick(now, window)
            rate.add(now)
            model.events.append(now)
            told += alert.look(rate, now)
        expected += model.tick(now, window)
    told += alert.look(rate, now)
    assert told == expected
    assert not alert.firing


def test_alert_fires_at_the_eleventh_error_and_repeats() -> None:
    """Ten errors in a minute are quiet, the eleventh fires; then it repeats every `repeat_every`, and resolves once."""
    rate, alert = SlidingRate(60.0), Alert(AlertRule())
    story = []
    for second in range(700):
        if second < 11 or 11 <= second < 400:
            rate.add(float(second))
        story += [(second, state) for state in alert.look(rate, float(second))]
    assert story[0] == (10, "firing")
    assert [state for _, state in story] == ["firing", "repeat", "resolved"]
    assert alert.peak == 60.0


def test_missed_repeats_are_not_sent() -> None:
    """An alert that was not looked at for long repeats itself once, not once for each interval that passed."""
    rate, alert = SlidingRate(6000.0), Alert(AlertRule(repeat_every=10.0, threshold=0, clear_threshold=0.001))
    rate.add(0.0)
    assert alert.look(rate, 0.0) == ["firing"]
    assert alert.look(rate, 95.0) == ["repeat"]
    assert alert.look(rate, 96.0) == []


def test_for_seconds_waits_before_firing() -> None:
    """With `for_seconds` the rate must have been above the threshold for that long."""
    rate, alert = SlidingRate(60.0), Alert(AlertRule(for_seconds=5.0))
    for _ in range(20):
        rate.add(0.0)
    assert alert.look(rate, 0.0) == []
    assert alert.look(rate, 4.9) == []
    assert alert.look(rate, 5.0) == ["firing"]


@pytest.mark.parametrize(
    "setting",
    [
        {"threshold": -1},
        {"threshold": float("nan")},
        {"clear_threshold": 0},
        {"clear_threshold": 11},
        {"for_seconds": -1},
        {"keep_firing": float("inf")},
        {"repeat_every": 0},
        {"threshold": True},
    ],
)
def test_absurd_rules_are_refused(setting: dict[str, Any]) -> None:
    """A rule out of its range is refused with an error that names the setting."""
    with pytest.raises(ValueError, match=next(iter(setting))):
        AlertRule(**setting)
