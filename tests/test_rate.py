"""The error rate and the alert, against models that know every event."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import AlertEvent, AlertRule, ErrorMonitor
from booking_resilience.monitor.rate import Alert, SlidingRate
from booking_resilience.testing import virtual_time

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


def test_rate_is_exact_in_a_storm_as_far_as_it_is_told_to() -> None:
    """Events beyond those it keeps apart leave the window at most 1/512 of it early, and none counts twice."""
    rate = SlidingRate(60.0, exact=100)
    moments: list[float] = []
    for number in range(15_000):
        now = number / 100 if number < 10_000 else 100 + (number - 10_000)
        moments.append(now)
        found = rate.add(now)
        if number % 73 == 0:
            inside = [moment for moment in moments[-6001:] if moment > now - 60 + 1e-6]
            apart = sum(1 for moment in inside if moment > now - 60 * (1 - 1 / 512))
            assert apart <= found <= len(inside)
            assert found == number + 1 or number > 6000
    assert rate.count(1e9) == 0


def test_rate_is_bounded_in_a_storm() -> None:
    """Two hundred thousand events take no more memory than a few thousands, and when they are over nothing is left."""
    rate = SlidingRate(60.0)
    for number in range(200_000):
        rate.add(number / 2_000)
    assert len(rate._moments) < 10_000
    assert len(rate._more) <= 514
    assert rate.per_minute(100.0) == pytest.approx(120_000, rel=0.01)
    assert rate.per_minute(1000.0) == 0


def test_rate_bears_moments_out_of_order() -> None:
    """Events whose moments come a little out of order, as those of threads may, are all counted, and all leave."""
    rate = SlidingRate(10.0)
    for moment in (1.0, 3.0, 2.0, 3.5, 3.4):
        rate.add(moment)
    assert rate.count(4.0) == 5
    assert rate.count(14.0) == 0


class Model:
    """The alert as a brute force sees it: it knows every event, and looks at every tenth of a second in between."""

    def __init__(self, rule: AlertRule, window: float) -> None:
        self.rule, self.window, self.events = rule, window, []
        self.above: int | None = None
        self.below: int | None = None
        self.fired: int | None = None
        self.sent = 0
        self.peak = 0.0

    def rate(self, tenth: int) -> float:
        return sum(1 for moment in self.events if tenth - self.window * 10 < moment <= tenth) * 60 / self.window

    def step(self, tenth: int) -> None:
        """See what the rate is; between two looks only this happens."""
        rate = self.rate(tenth)
        self.above = None if rate <= self.rule.threshold else tenth if self.above is None else self.above
        self.below = None if rate >= self.rule.clear_threshold else tenth if self.below is None else self.below

    def look(self, tenth: int) -> list[str]:
        """Say what there is to tell."""
        told = []
        if self.fired is not None:
            self.peak = max(self.peak, self.rate(tenth))
            if self.below is not None and tenth - max(self.below, self.fired) >= self.rule.keep_firing * 10:
                self.fired = None
                told.append("resolved")
        if self.fired is None:
            if self.above is not None and tenth - self.above >= self.rule.for_seconds * 10:
                self.fired = self.sent = tenth
                self.peak = self.rate(tenth)
                told.append("firing")
        elif tenth - self.sent >= self.rule.repeat_every * 10:
            self.sent = tenth
            told.append("repeat")
        return told


RULES = st.builds(
    AlertRule,
    threshold=st.sampled_from([0, 3, 10]),
    clear_threshold=st.sampled_from([0.5, 1]),
    for_seconds=st.sampled_from([0.0, 0.5, 7.0]),
    keep_firing=st.sampled_from([0.0, 2.0, 20.0, 60.0]),
    repeat_every=st.sampled_from([1.0, 15.0, 300.0]),
) | st.just(AlertRule())


def look(alert: Alert, rate: SlidingRate, now: float) -> list[Any]:
    """Return what there is to tell when the monitor is read."""
    return [*alert.before(rate, now), *alert.after(rate, now, rate.count(now))]


@given(
    happenings=st.lists(st.tuples(st.integers(0, 250), st.booleans()), min_size=1, max_size=60),
    rule=RULES, window=st.sampled_from([6.0, 60.0]), start=st.sampled_from([0, 98_765_432]),
)  # fmt: skip
def test_alert_tells_what_the_model_tells(
    happenings: list[tuple[int, bool]], rule: AlertRule, window: float, start: int
) -> None:
    """Looked at at events and reads only, as the ledger does, the alert tells what a model tells that knows it all."""
    alert, model = Alert(rule, window), Model(rule, window)
    rate = SlidingRate(window, alert.exact)
    tenth = start
    for pause, is_event in happenings:
        for between in range(tenth + 1, tenth + pause):
            model.step(between)
        tenth += pause
        model.step(tenth)
        now, expected = tenth / 10, []
        if is_event:
            is_due = now >= alert.due
            told: list[Any] = list(alert.before(rate, now)) if is_due else []
            resolved = model.look(tenth)
            expected += [state for state in resolved if state == "resolved"]
            assert told == expected
            count = rate.add(now)
            model.events.append(tenth)
            model.step(tenth)
            if is_due or count > alert.top:
                told += alert.after(rate, now, count)
            expected = resolved + model.look(tenth)
        else:
            told, expected = look(alert, rate, now), model.look(tenth)
        assert told == expected
        assert alert.firing == (model.fired is not None)
        if "firing" in told or "resolved" in told:
            assert alert.peak == pytest.approx(model.peak)


@given(
    happenings=st.lists(
        st.tuples(st.integers(0, 250), st.sampled_from(["error", "critical", "warning", "read", "storm"])),
        min_size=1, max_size=40,
    ),
    rule=RULES, window=st.sampled_from([6.0, 60.0]),
)  # fmt: skip
def test_monitor_tells_what_the_model_tells(happenings: list[tuple[int, str]], rule: AlertRule, window: float) -> None:
    """A monitor in virtual time tells of its alert what the model does, at the very record or read, never later."""
    told: list[AlertEvent] = []
    with virtual_time() as clock:
        monitor, model = ErrorMonitor(window=window, alert=rule, on_alert=told.append), Model(rule, window)
        tenth = 0
        for pause, what in happenings:
            for between in range(tenth + 1, tenth + pause):
                model.step(between)
            tenth += pause
            clock.advance(pause / 10)
            model.step(tenth)
            expected: list[str] = []
            told.clear()
            for _ in range(25 if what == "storm" else 1):
                if what != "read":
                    monitor.record(ValueError(), operation="x", severity="error" if what == "storm" else what)
                expected += model.look(tenth)
                if what in ("error", "critical", "storm"):
                    model.events.append(tenth)
                    model.step(tenth)
                    expected += model.look(tenth)
            if what == "read":
                assert monitor.error_rate == pytest.approx(model.rate(tenth))
            assert [event.state for event in told] == expected
        model.look(tenth)
        assert monitor.alerting == (model.fired is not None)


def test_alert_fires_at_the_eleventh_error_and_repeats() -> None:
    """Ten errors in a minute are quiet, the eleventh fires; then it repeats every `repeat_every`, and resolves once."""
    rate, alert = SlidingRate(60.0), Alert(AlertRule(), 60.0)
    story = []
    for second in range(700):
        if second < 11 or 11 <= second < 400:
            rate.add(float(second))
        story += [(second, state) for state in look(alert, rate, float(second))]
    assert story[0] == (10, "firing")
    assert [state for _, state in story] == ["firing", "repeat", "resolved"]
    assert alert.peak == 60.0


def test_missed_repeats_are_not_sent() -> None:
    """An alert that was not looked at for long repeats itself once, not once for each interval that passed."""
    rule = AlertRule(repeat_every=10.0, threshold=0, clear_threshold=0.001)
    rate, alert = SlidingRate(6000.0), Alert(rule, 6000.0)
    rate.add(0.0)
    assert look(alert, rate, 0.0) == ["firing"]
    assert look(alert, rate, 95.0) == ["repeat"]
    assert look(alert, rate, 96.0) == []


def test_alert_is_exact_at_a_high_threshold() -> None:
    """A threshold of thousands is passed by exactly one error more, and cleared by exactly one fewer."""
    rule = AlertRule(threshold=9000, clear_threshold=8000, keep_firing=0.0)
    alert = Alert(rule, 60.0)
    rate = SlidingRate(60.0, alert.exact)
    for number in range(9000):
        now = number / 1000
        assert alert.after(rate, now, rate.add(now)) == ()
    assert alert.after(rate, 9.0, rate.add(9.0)) == ("firing",)
    assert look(alert, rate, 61.0) == []  # what came until 1.0 has left: 8000 are in it
    assert look(alert, rate, 61.001) == ["resolved"]


def test_for_seconds_waits_before_firing() -> None:
    """With `for_seconds` the rate must have been above the threshold for that long."""
    rate, alert = SlidingRate(60.0), Alert(AlertRule(for_seconds=5.0), 60.0)
    for _ in range(20):
        rate.add(0.0)
    assert look(alert, rate, 0.0) == []
    assert look(alert, rate, 4.9) == []
    assert look(alert, rate, 5.0) == ["firing"]


ALLOWED = {
    "threshold": "a finite number, 0 or more",
    "clear_threshold": "a number above 0, at most threshold",
    "for_seconds": "a finite number, 0 or more",
    "keep_firing": "a finite number, 0 or more",
    "repeat_every": "a finite number above 0",
}


@pytest.mark.parametrize(
    "setting",
    [
        {"threshold": -1},
        {"threshold": float("nan")},
        {"clear_threshold": 0},
        {"clear_threshold": 11},
        {"clear_threshold": 1.5, "threshold": 1},
        {"clear_threshold": 1.5, "threshold": 0},
        {"for_seconds": -1},
        {"keep_firing": float("inf")},
        {"repeat_every": 0},
    ],
)
def test_absurd_rules_are_refused(setting: dict[str, Any]) -> None:
    """A rule out of its range is refused with an error that names the setting, its value and what is allowed."""
    name, value = next(iter(setting.items()))
    with pytest.raises(ValueError, match="must be") as caught:
        AlertRule(**setting)
    threshold = setting.get("threshold", 10)
    allowed = ALLOWED[name].replace("threshold", f"threshold ({threshold})" if threshold else "1")
    assert str(caught.value) == f"{name} must be {allowed}, not {value!r}"


@pytest.mark.parametrize("name", ["threshold", "clear_threshold", "for_seconds", "keep_firing", "repeat_every"])
@pytest.mark.parametrize("value", [True, "5", [5]])
def test_rules_of_the_wrong_type_are_refused(name: str, value: Any) -> None:
    """What is no number is a `TypeError` that names the setting."""
    with pytest.raises(TypeError, match=f"{name} must be"):
        AlertRule(**{name: value})


def test_a_clear_threshold_that_was_given_is_never_lowered() -> None:
    """Only the default gives way to a low threshold; what was said may not."""
    with pytest.raises(ValueError, match=r"clear_threshold must be a number above 0, at most threshold \(3\), not 5"):
        AlertRule(threshold=3, clear_threshold=5)


def test_events_that_are_counted_together_leave_together() -> None:
    """When fewer than so many events are left is known for those that are counted as of one moment, too."""
    rate = SlidingRate(512.0, exact=1)  # so events within a second count as of one moment
    for number in range(513):
        rate.add(number / 4)
    expected = {1: 640.0, 2: 639.0, 5: 639.0, 6: 638.0, 513: 512.0, 514: -math.inf}
    assert {count: rate.falls_below(count) for count in expected} == expected


def test_a_rate_that_never_was_so_high_has_fallen_below_it_long_ago() -> None:
    """When fewer than so many events are left is never, for more events than there were."""
    rate = SlidingRate(60.0)
    for moment in (1.0, 2.0):
        rate.add(moment)
    assert [rate.falls_below(count) for count in (1, 2, 3)] == [62.0, 61.0, -math.inf]


def test_an_alert_is_due_no_later_than_its_next_repeat_or_its_end() -> None:
    """While it fires it must be looked at by the next repeat, or when the rate falls, whichever is first."""
    for repeat_every, due in ((10.0, 10.0), (300.0, 60.0)):
        rate, alert = SlidingRate(60.0), Alert(AlertRule(repeat_every=repeat_every), 60.0)
        for _ in range(11):
            rate.add(0.0)
        assert look(alert, rate, 0.0) == ["firing"]
        assert alert.before(rate, 1.0) == ()
        assert due - 1e-5 <= alert.due <= due


def test_an_alert_that_is_only_asked_before_events_resolves_as_well() -> None:
    """What was high at one look may be low at the next, without an event in between."""
    rate, alert = SlidingRate(60.0), Alert(AlertRule(), 60.0)
    for _ in range(11):
        rate.add(0.0)
    assert look(alert, rate, 0.0) == ["firing"]
    told = [alert.before(rate, now) for now in (1.0, 70.0, 119.0, 121.0)]
    assert told == [(), (), (), ("resolved",)]


def test_an_alert_that_never_fired_has_no_peak() -> None:
    """Before the first alert the peak is 0."""
    assert Alert(AlertRule(), 60.0).peak == 0.0


@pytest.mark.parametrize(
    ("rule", "window", "exact"),
    [
        (AlertRule(), 60.0, 4096),
        (AlertRule(threshold=9000), 60.0, 9001),
        (AlertRule(threshold=0, clear_threshold=1), 6e6, 100_000),
        (AlertRule(threshold=1e9), 60.0, 1 << 20),
        (AlertRule(threshold=1e308), 1e308, 1 << 20),
    ],
)
def test_as_many_events_are_kept_apart_as_the_rule_has_to_count(rule: AlertRule, window: float, exact: int) -> None:
    """One more than the threshold, or as many as clear it, thousands at least, and never without bound."""
    assert Alert(rule, window).exact == exact


def test_an_alert_repeats_at_the_end_of_its_interval() -> None:
    """The repeat comes at the very end of the interval, and not before."""
    rate, alert = SlidingRate(60.0), Alert(AlertRule(repeat_every=10.0), 60.0)
    for _ in range(11):
        rate.add(0.0)
    assert [look(alert, rate, now) for now in (0.0, 9.9, 10.0, 19.9, 20.0)] == [
        ["firing"], [], ["repeat"], [], ["repeat"],
    ]  # fmt: skip


def test_in_a_storm_only_events_of_one_slice_leave_together() -> None:
    """Events that are taken together lie less than 1/512 of the window apart; one further on stays on its own."""
    rate = SlidingRate(512.0, exact=1)
    for moment in (0.0, 0.5, 0.9, 1.0, 1.5, 0.2, 3.0, 2.0):
        rate.add(moment)
    assert [rate.count(512.0 + later) for later in (-0.1, 0.0, 0.9, 1.0, 2.9, 3.0)] == [8, 4, 4, 1, 1, 0]


@pytest.mark.parametrize(("threshold", "clear"), [(3, 3), (0.5, 0.5), (0, 1), (5, 5), (10, 5)])
def test_default_clear_threshold_is_never_above_threshold(threshold: float, clear: float) -> None:
    """A rule with a low threshold needs no second setting."""
    assert AlertRule(threshold=threshold).clear_threshold == clear
