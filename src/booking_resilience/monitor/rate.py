"""The error rate and its alert. Pure: the time comes in as an argument."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

from booking_resilience.settings import check, is_number, is_positive

_EXACT = 512
_SLACK = 1e-6  # seconds: sums of float seconds may miss the end of a window by the last bit, and never by more


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When the error rate is worth an alert. Rates are errors per minute, durations seconds.

    Attributes:
        threshold: It fires when the rate is above this; 0 or more.
        clear_threshold: It may end when the rate is below this; above 0, at most `threshold` where that is not 0.
        for_seconds: It fires only after the rate was above for so long; 0 or more.
        keep_firing: It ends only after the rate was below for so long; 0 or more.
        repeat_every: While it lasts it is repeated every so many seconds; above 0.

    Raises:
        ValueError: If a setting is out of its range.
    """

    threshold: float = 10
    clear_threshold: float = 5
    for_seconds: float = 0.0
    keep_firing: float = 60.0
    repeat_every: float = 300.0

    def __post_init__(self) -> None:
        check("threshold", self.threshold, is_number(self.threshold), "a finite number, 0 or more")
        right = is_positive(self.clear_threshold) and self.clear_threshold <= max(self.threshold, 1)
        check("clear_threshold", self.clear_threshold, right, "a number above 0, at most threshold")
        for name in ("for_seconds", "keep_firing"):
            check(name, getattr(self, name), is_number(getattr(self, name)), "a finite number, 0 or more")
        check("repeat_every", self.repeat_every, is_positive(self.repeat_every), "a finite number above 0")


class SlidingRate:
    """How many events there were in (now - window, now].

    Exact for up to 512 events in the window. Of more than that, those that come within 1/512 of the window of each
    other count as of the first of them, so that memory stays bounded in a storm.
    """

    __slots__ = ("_events", "count", "window")

    def __init__(self, window: float) -> None:
        self.window: float = window
        self.count: int = 0
        self._events: deque[list[float]] = deque()  # [moment, how many]

    def add(self, now: float) -> None:
        """Count an event."""
        self.expire(now)
        if len(self._events) >= _EXACT and now - self._events[-1][0] < self.window / _EXACT:
            self._events[-1][1] += 1
        else:
            self._events.append([now, 1])
        self.count += 1

    def expire(self, now: float) -> None:
        """Forget what has left the window."""
        events, oldest = self._events, now - self.window + _SLACK
        while events and events[0][0] <= oldest:
            self.count -= int(events.popleft()[1])

    def per_minute(self, now: float) -> float:
        """Return the rate, in events per minute."""
        self.expire(now)
        return self.count * 60.0 / self.window

    def falls_below(self, count: int) -> float:
        """Return when fewer than `count` events will be left if no more come; -inf if there are fewer already."""
        left = 0
        for moment, number in reversed(self._events):
            left += int(number)
            if left >= count:
                return moment + self.window
        return -math.inf


class Alert:
    """The life cycle of the alert: it fires, repeats, resolves.

    Between two events the rate only falls, so what happened in between is known when it is next looked at.

    Attributes:
        firing: Whether it fires, as of when it was last looked at.
        peak: The highest rate since it began.
    """

    __slots__ = ("_above_since", "_below_since", "_rule", "_sent", "firing", "peak")

    def __init__(self, rule: AlertRule) -> None:
        self._rule = rule
        self.firing: bool = False
        self.peak: float = 0.0
        self._above_since: float | None = None
        self._below_since: float | None = None
        self._sent = 0.0

    def look(self, rate: SlidingRate, now: float) -> list[Literal["firing", "repeat", "resolved"]]:
        """Take the rate as it has become by `now`; return what there is to tell, in order."""
        rule, told = self._rule, []
        if self.firing:
            enough = math.ceil(rule.clear_threshold * rate.window / 60.0 - 1e-9)
            fallen = rate.falls_below(enough)
            if fallen > now + _SLACK:
                self._below_since = None
            elif self._below_since is None:
                self._below_since = fallen if fallen > -math.inf else now
            if self._below_since is not None and now - self._below_since >= rule.keep_firing - _SLACK:
                self.firing, self._above_since, self._below_since = False, None, None
                told.append("resolved")
        current = rate.per_minute(now)
        if current <= rule.threshold:
            self._above_since = None
        elif self._above_since is None:
            self._above_since = now
        if self.firing:
            self.peak = max(self.peak, current)
            if now - self._sent >= rule.repeat_every - _SLACK:
                self._sent = now
                told.append("repeat")
        elif self._above_since is not None and now - self._above_since >= rule.for_seconds - _SLACK:
            self.firing, self.peak, self._sent, self._below_since = True, current, now, None
            told.append("firing")
        return told  # type: ignore[return-value] # a list of literals
