"""The error rate and its alert. Pure: the time comes in as an argument."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

from booking_resilience.checks import check, check_number, is_number

State: TypeAlias = Literal["firing", "repeat", "resolved"]
_CLEAR = 5
_EXACT, _MOST_EXACT = 4096, 1 << 20
_NEVER = 2.0**53  # events in a window: more than can come, and still a whole number
_SLICES = 512
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

    Exact for as many events in the window as it is told to. Of more, each that comes within 1/512 of the window of the
    last one counts as of that one's moment, so that memory stays bounded in a storm.

    Args:
        window: Its length in seconds.
        exact: How many events are kept apart.

    Attributes:
        kept: How many there were in it when it was last looked at.
    """

    __slots__ = ("_moments", "_more", "exact", "kept", "window")

    def __init__(self, window: float, exact: int = _EXACT) -> None:
        self.window: float = window
        self.exact: int = exact
        self.kept: int = 0
        self._moments: deque[float] = deque()  # oldest first
        self._more: defaultdict[float, int] = defaultdict(int)  # how many others count as of one of these moments

    def add(self, moment: float) -> int:
        """Count an event, which may lie before others; return how many there are."""
        moments = self._moments
        self.kept = kept = self.kept + 1
        newest = moments[-1] if moments else moment
        if moment < newest:
            self._insert(moment)
        elif len(moments) >= self.exact and moment - newest < self.window / _SLICES:
            self._more[newest] += 1
        else:
            moments.append(moment)
        return self.count(moment) if moments[0] <= moment - self.window + _SLACK else kept

    def _insert(self, moment: float) -> None:
        moments = self._moments
        place = bisect.bisect_right(moments, moment)
        if len(moments) >= self.exact:
            self._more[moments[max(0, place - 1)]] += 1
        else:
            moments.insert(place, moment)

    def count(self, now: float) -> int:
        """Return how many there are, and forget what has left the window."""
        moments, oldest = self._moments, now - self.window + _SLACK
        while moments and moments[0] <= oldest:
            self.kept -= 1 + self._more.pop(moments.popleft(), 0)
        if not moments:
            self.kept = 0  # an interrupt may have left more
        return self.kept

    def rewind(self, now: float) -> bool:
        """Forget what lies after `now`, if anything does: the clock was another one then; tell whether it was."""
        moments = self._moments
        if not moments or moments[-1] <= now + _SLACK:
            return False
        while moments and moments[-1] > now:
            self.kept -= 1 + self._more.pop(moments.pop(), 0)
        return True

    def per_minute(self, now: float) -> float:
        """Return the rate, in events per minute."""
        return self.count(now) * 60.0 / self.window

    def falls_below(self, count: int) -> float:
        """Return when fewer than `count` events (1 or more) will be left if no more come; -inf if there are fewer."""
        if count > self.kept:
            return -math.inf
        later = math.nan
        for moment in reversed(self._moments):
            count -= 1 if moment == later else 1 + self._more.get(moment, 0)
            if count <= 0:
                return moment + self.window
            later = moment
        return -math.inf


class Alert:
    """The life cycle of the alert: it fires, repeats, resolves.

    Between two events the rate only falls, so what happened in between is known when it is next looked at.

    Args:
        rule: When it fires and ends.
        window: The window of the rate, in seconds.

    Attributes:
        firing: Whether it fires, as of when it was last looked at.
        top: It need not be looked at after an event, unless there are more than so many in the window...
        due: ...or it is so late, on the clock of the events. Then also before the event.
        exact: How many events the rate must keep apart.
    """

    __slots__ = (
        "_above_since", "_below_since", "_enough", "_fired", "_peak", "_per_event", "_quiet", "_rule", "_sent", "due",
        "exact", "firing", "top",
    )  # fmt: skip

    def __init__(self, rule: AlertRule, window: float) -> None:
        self._rule = rule
        self._per_event = 60.0 / window
        self._quiet = math.floor(min(rule.threshold * window / 60.0, _NEVER) + 1e-9)
        self._enough = max(1, math.ceil(min((rule.clear_threshold or _CLEAR) * window / 60.0, _NEVER) - 1e-9))
        self.exact: int = min(max(_EXACT, self._quiet + 1, self._enough), _MOST_EXACT)
        self.firing: bool = False
        self.top: int = self._quiet
        self.due: float = math.inf
        self._peak = 0
        self._above_since: float | None = None
        self._below_since: float | None = None
        self._fired = self._sent = 0.0

    def renewed(self, rule: AlertRule, window: float) -> Alert:
        """Return an alert with another rule that stands where this one does, and is looked at before the next event."""
        other = Alert(rule, window)
        for name in ("firing", "_above_since", "_below_since", "_fired", "_sent"):
            setattr(other, name, getattr(self, name))
        other._peak = round(self._peak * self._per_event / other._per_event)
        other.top = round(self.top * self._per_event / other._per_event) if self.firing else other._quiet
        other.due = -math.inf
        return other

    @property
    def peak(self) -> float:
        """The highest rate since it began, in events per minute; once it has ended, that of the last one."""
        return (self.top if self.firing else self._peak) * self._per_event

    def rewind(self, now: float) -> None:
        """Take nothing to have happened after `now`: the clock was another one then."""
        self._fired, self._sent = min(self._fired, now), min(self._sent, now)
        self._above_since = None if self._above_since is None else min(self._above_since, now)
        self._below_since = None if self._below_since is None else min(self._below_since, now)
        self.due = -math.inf

    def take(self, now: float, peak: float | None) -> None:
        """Take it to fire since `now`, with a peak in events per minute; or, with None, to have ended."""
        if peak is None:
            self._peak, self.top = self.top, self._quiet
        else:
            self.top = round(peak / self._per_event)
        self.firing, self.due = peak is not None, math.inf if peak is None else -math.inf
        self._above_since = self._below_since = None
        self._fired = self._sent = now

    def before(self, rate: SlidingRate, now: float) -> tuple[State, ...]:
        """Take the rate as it has become by `now`, when an event comes that is not yet in it, or when it is read."""
        if not self.firing:
            if self._above_since is not None and rate.count(now) <= self._quiet:
                self._above_since, self.due = None, math.inf
            return ()
        fallen = rate.falls_below(self._enough)
        self.due = min(fallen, self._sent + self._rule.repeat_every - _SLACK)
        if fallen > now + _SLACK:
            self._below_since = None
            return ()
        if self._below_since is None:
            self._below_since = max(fallen, self._fired)
        if now - self._below_since < self._rule.keep_firing - _SLACK:
            return ()
        self._peak = self.top
        self.firing, self.top, self.due = False, self._quiet, math.inf
        self._above_since = self._below_since = None
        return ("resolved",)

    def after(self, rate: SlidingRate, now: float, count: int) -> tuple[State, ...]:
        """Take the rate with the event in it, or as it is read: `count` events at `now`."""
        if self.firing:
            self.top = max(self.top, count)
            if rate.falls_below(self._enough) > now + _SLACK:
                self._below_since = None
            if now - self._sent < self._rule.repeat_every - _SLACK:
                return ()
            self._sent = now
            return ("repeat",)
        if count <= self._quiet:
            return ()
        if self._above_since is None:
            self._above_since, self.due = now, -math.inf
        if now - self._above_since < self._rule.for_seconds - _SLACK:
            return ()
        self.firing, self.top, self.due = True, count, -math.inf
        self._fired = self._sent = now
        return ("firing",)
