"""The error rate and its alert. Pure: the time comes in as an argument."""

from __future__ import annotations

import bisect
import math
from array import array
from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

from booking_resilience.checks import check, check_number, is_number

State: TypeAlias = Literal["firing", "repeat", "resolved"]
_CLEAR = 5
_EXACT, _MOST_EXACT = 4096, 1 << 20  # eight bytes each
_NEVER = 2.0**53  # events in a window: more than can come, and still a whole number
_SLICES, _CHUNK = 512, 64
_TRIM = 1024
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
        allowed = "a number above 0, at most threshold" if self.threshold else "a number above 0, at most 1"
        check_number("clear_threshold", self.clear_threshold, above=True, allowed=allowed)
        check("clear_threshold", self.clear_threshold, is_number(self.clear_threshold, most=highest), allowed)
        for name in ("for_seconds", "keep_firing"):
            check_number(name, getattr(self, name))
        check_number("repeat_every", self.repeat_every, above=True)


class SlidingRate:
    """How many events there were in (now - window, now].

    Exact for as many events in the window as it is told to; of more, those that come within 1/512 of the window of
    each other leave it together, with the first of them, so that memory stays bounded in a storm. Whether there are
    more than `exact - 1` of them is always known exactly.

    Args:
        window: Its length in seconds.
        exact: How many events are kept apart.

    Attributes:
        kept: How many there were in it when it was last looked at.
    """

    __slots__ = ("_coarse", "_exact", "_expires", "_full", "_head", "_moments", "_newest", "kept", "window")

    def __init__(self, window: float, exact: int = _EXACT) -> None:
        self.window: float = window
        self._exact = max(1, exact)
        self._moments = array("d")  # from `_head` on: the newest events, oldest first
        self._head = 0
        self._coarse: deque[list[float]] = deque()  # older ones: [moment of the first, how many]
        self.kept: int = 0
        self._newest = self._expires = -math.inf  # the newest event, and when the oldest leaves the window
        self._full = 0  # with more moments there are some to be made coarse

    def add(self, moment: float) -> int:
        """Count an event, which may lie before others; return how many there are as of the newest."""
        self.kept = count = self.kept + 1
        if moment < self._newest:
            self._insert(moment)
            return self.count(self._newest)
        self._newest = moment
        self._moments.append(moment)
        return self.count(moment) if moment >= self._expires or len(self._moments) > self._full else count

    def _insert(self, moment: float) -> None:
        moments, head, coarse = self._moments, self._head, self._coarse
        if coarse and moment < moments[head]:
            earlier = [slot for slot in coarse if slot[0] <= moment]
            (earlier[-1] if earlier else coarse[0])[1] += 1
        else:
            moments.insert(bisect.bisect_right(moments, moment, lo=head), moment)

    def count(self, now: float) -> int:
        """Return how many there are, and forget what has left the window."""
        oldest = now - self.window + _SLACK
        coarse, moments, head = self._coarse, self._moments, self._head
        while coarse and coarse[0][0] <= oldest:
            self.kept -= int(coarse.popleft()[1])
        end = len(moments)
        while head < end and moments[head] <= oldest:
            head += 1
        self.kept -= head - self._head
        while end - head >= self._exact + _CHUNK:
            self._make_coarse(moments[head : head + _CHUNK])
            head += _CHUNK
        if head > _TRIM and head * 2 > end:
            del moments[:head]
            head, end = 0, end - head
        self._head = head
        self._full = head + self._exact + _CHUNK - 1
        first = coarse[0][0] if coarse else moments[head] if head < end else -math.inf
        self._expires = first + self.window - _SLACK
        return self.kept

    def rewind(self, now: float) -> bool:
        """Forget what lies after `now`, if anything does: the clock was another one then; tell whether it was."""
        if self._newest <= now + _SLACK:
            return False
        kept = [moment for moment in self._moments[self._head :] if moment <= now]
        self._moments, self._head = array("d", kept), 0
        self._coarse = deque(slot for slot in self._coarse if slot[0] <= now)
        self.kept = len(kept) + int(sum(count for _, count in self._coarse))
        self._newest, self._expires = max(kept, default=-math.inf), -math.inf
        return True

    def resize(self, window: float, exact: int) -> None:
        """Count in another window from now on, and keep so many events apart; what was forgotten stays forgotten."""
        self.window, self._exact, self._expires = window, max(1, exact), -math.inf

    def per_minute(self, now: float) -> float:
        """Return the rate, in events per minute."""
        return self.count(now) * 60.0 / self.window

    def falls_below(self, count: int) -> float:
        """Return when fewer than `count` events will be left if no more come; -inf if it never had so many.

        Args:
            count: From 1 to as many as are kept apart.
        """
        moments = self._moments
        return moments[-count] + self.window if count <= len(moments) else -math.inf

    def _make_coarse(self, moments: array[float]) -> None:
        """Take the oldest ones, which come after all that are coarse already, together where they are close."""
        coarse, slice_ = self._coarse, self.window / _SLICES
        if coarse and moments[-1] - coarse[-1][0] < slice_:
            coarse[-1][1] += len(moments)
            return
        for moment in moments:
            if coarse and moment - coarse[-1][0] < slice_:
                coarse[-1][1] += 1
            else:
                coarse.append([moment, 1])


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
        self._enough = min(self._enough, self.exact)
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
