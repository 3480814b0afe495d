"""The error rate and its alert. Pure: the time comes in as an argument."""

from __future__ import annotations

import bisect
import math
from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

from booking_resilience.checks import check, check_number, is_number

State: TypeAlias = Literal["firing", "repeat", "resolved"]
_CLEAR = 5
_EXACT, _MOST_EXACT = 4096, 1 << 20
_NEVER = 2.0**53  # events in a window: more than can come, and still a whole number
_SLICES, _BLOCK = 512, 512
_SLACK = 1e-6  # seconds: sums of float seconds may miss the end of a window by the last bit, and never by more


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When the error rate is worth an alert. Rates are errors per minute, durations seconds.

    Attributes:
        threshold: It fires when the rate is above this; 0 or more.
        clear_threshold: It may end when the rate is below this; above 0, at most `threshold` (1 where that is 0).
            None means 5, or `threshold` where that is less (1 for 0); the attribute is the number.
        for_seconds: It fires only after the rate was above for so long; 0 or more.
        keep_firing: It ends only after the rate was below for so long; 0 or more.
        repeat_every: While it lasts it is repeated every so many seconds; above 0.

    Raises:
        TypeError: If a setting is not a number.
        ValueError: If a setting is out of its range.
    """

    threshold: float = 10
    clear_threshold: float | None = None
    for_seconds: float = 0.0
    keep_firing: float = 60.0
    repeat_every: float = 300.0

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold)
        highest = self.threshold or 1
        if self.clear_threshold is None:
            object.__setattr__(self, "clear_threshold", min(_CLEAR, highest))
        most = f"threshold ({self.threshold:g})" if self.threshold else "1"
        allowed = f"a number above 0, at most {most}"
        check_number("clear_threshold", self.clear_threshold, above=True, allowed=allowed)
        check("clear_threshold", self.clear_threshold, is_number(self.clear_threshold, most=highest), allowed)
        for name in ("for_seconds", "keep_firing"):
            check_number(name, getattr(self, name))
        check_number("repeat_every", self.repeat_every, above=True)


class SlidingRate:
    """How many events there were in (now - window, now].

    It keeps as many of the newest events apart as it is told to. The older ones are counted by slices of 1/512 of the
    window, each of which leaves the window as a whole, with its first event. So memory stays bounded in a storm.

    Args:
        window: Its length in seconds.
        exact: How many events are kept apart.
    """

    __slots__ = ("_moments", "_older", "_slices", "exact", "window")

    def __init__(self, window: float, exact: int = _EXACT) -> None:
        self.window: float = window
        self.exact: int = exact
        self._moments: deque[float] = deque()  # of the newest events, oldest first
        self._slices: deque[list[float]] = deque()  # of the older ones: when each begins, and how many are in it
        self._older = 0.0  # how many are in all slices

    def add(self, moment: float) -> float:
        """Count an event, which may lie before others; return how many there are."""
        moments = self._moments
        if moments and moment < moments[-1]:
            moments.insert(bisect.bisect_right(moments, moment), moment)
        else:
            moments.append(moment)
        if len(moments) >= self.exact + _BLOCK:
            self._merge()
        return self.count(moment)

    def _merge(self) -> None:
        slices, width = self._slices, self.window / _SLICES
        for _ in range(_BLOCK):
            moment = self._moments.popleft()
            if not slices or moment >= slices[-1][0] + width:
                slices.append([moment, 0])
            slices[-1][1] += 1
        self._older = sum(size for _, size in slices)

    def count(self, now: float) -> float:
        """Return how many there are, and forget what has left the window."""
        moments, slices, oldest = self._moments, self._slices, now - self.window + _SLACK
        while moments and moments[0] <= oldest:
            moments.popleft()
        if not slices:
            return len(moments)
        while slices and slices[0][0] <= oldest:
            self._older -= slices.popleft()[1]
        return len(moments) + self._older

    def rewind(self, now: float) -> bool:
        """Forget what lies after `now`, if anything does: the clock was another one then; tell whether it was."""
        moments = self._moments
        if not moments or moments[-1] <= now + _SLACK:
            return False
        while moments and moments[-1] > now:
            moments.pop()
        if not moments:
            self._slices.clear()
        return True

    def per_minute(self, now: float) -> float:
        """Return the rate, in events per minute."""
        return self.count(now) * 60.0 / self.window

    def falls_below(self, count: int) -> float:
        """Return when fewer than `count` events (1 or more) will be left if no more come; -inf if there are fewer."""
        if count <= len(self._moments):
            return self._moments[-count] + self.window
        older: float = count - len(self._moments)
        for began, size in reversed(self._slices):
            older -= size
            if older <= 0:
                return began + self.window
        return -math.inf


class Alert:
    """The life cycle of the alert: it fires, repeats, resolves.

    Between two events the rate only falls, so what happened in between is known when it is next looked at.

    Args:
        rule: When it fires and ends.
        rate: The rate that it watches; it is told to keep as many events apart as the rule has to count.

    Attributes:
        firing: Whether it fires, as of when it was last looked at.
        due: When it has to be looked at before the next event, too, since something may have ended by then.
    """

    __slots__ = (
        "_above_since", "_enough", "_high_until", "_peak", "_quiet", "_rate", "_rule", "_sent", "_top", "due", "firing",
    )  # fmt: skip

    def __init__(self, rule: AlertRule, rate: SlidingRate) -> None:
        self._rate = rate
        self.firing: bool = False
        self._peak = self._top = 0.0  # a rate, and the most events in the window since that was taken
        self._above_since: float | None = None
        self._high_until = self._sent = 0.0
        self.take_rule(rule, rate.window)

    def take_rule(self, rule: AlertRule, window: float) -> None:
        """Go on by another rule, and with another window of the rate."""
        self._peak, self._top = self.peak, 0.0
        self._rule, self._rate.window = rule, window
        self._quiet = math.floor(min(rule.threshold * window / 60.0, _NEVER) + 1e-9)
        self._enough = max(1, math.ceil(min((rule.clear_threshold or _CLEAR) * window / 60.0, _NEVER) - 1e-9))
        self._rate.exact = min(max(_EXACT, self._quiet + 1, self._enough), _MOST_EXACT)
        self.due: float = -math.inf

    @property
    def peak(self) -> float:
        """The highest rate since it began, in events per minute; once it has ended, that of the last one."""
        return max(self._peak, self._top * 60.0 / self._rate.window)

    def take(self, now: float, peak: float | None) -> None:
        """Take it to fire since `now`, with a peak in events per minute; or, with None, to have ended."""
        self.firing, self._peak, self._top = peak is not None, self.peak if peak is None else peak, 0.0
        self._above_since, self._high_until, self._sent, self.due = None, now, now, -math.inf

    def rewind(self, now: float) -> None:
        """Take nothing to have happened after `now`: the clock was another one then."""
        self._sent, self._high_until = min(self._sent, now), min(self._high_until, now)
        self._above_since = None if self._above_since is None else min(self._above_since, now)
        self.due = -math.inf

    def calm_until(self, now: float, events: int) -> float:
        """Return until when there will be nothing to tell, if no more than so many events come."""
        return self.due if self.firing or self._rate.count(now) + events <= self._quiet else -math.inf

    def look(self, now: float) -> State | None:
        """Return what there is to tell when somebody reads."""
        return self.before(now) or self.after(now, self._rate.count(now))

    def before(self, now: float) -> State | None:
        """Return what there is to tell before an event that comes now."""
        if not self.firing:
            if self._rate.count(now) <= self._quiet:
                self._above_since, self.due = None, math.inf
            return None
        falls = self._rate.falls_below(self._enough)
        self._high_until = max(self._high_until, falls)
        if falls <= now + _SLACK and now - self._high_until >= self._rule.keep_firing - _SLACK:
            self.take(now, None)
            return "resolved"
        self.due = min(self._high_until, self._sent + self._rule.repeat_every) - _SLACK
        return None

    def after(self, now: float, count: float) -> State | None:
        """Return what there is to tell after an event, with which there are so many in the window."""
        if self.firing:
            if count > self._top:
                self._top = count
            if now - self._sent < self._rule.repeat_every - _SLACK:
                return None
            self._sent = now
            return "repeat"
        if count <= self._quiet:
            return None
        if self._above_since is None:
            self._above_since, self.due = now, -math.inf
        if now - self._above_since < self._rule.for_seconds - _SLACK:
            return None
        self.take(now, self._rate.per_minute(now))
        return "firing"
