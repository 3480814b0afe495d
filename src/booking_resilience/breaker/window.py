"""How calls went lately: a sliding window of counts. Pure: the time comes in as an argument."""

from __future__ import annotations

from dataclasses import dataclass

from booking_resilience.checks import check, is_positive, is_whole

_BUCKETS = 30
_NARROWEST = 1e-12  # seconds: finer than any clock, and no time is too many of it to be counted


@dataclass(frozen=True, slots=True)
class FailureRate:
    """When a share of the recent calls fails, trip.

    Attributes:
        ratio: Trip at or above this share of failures; above 0, at most 1.
        window: Seconds that count as recent; above 0. Counted in 30 buckets: a call counts for at least 29/30 of the
            window and never longer than the window.
        minimum_calls: Never trip on fewer calls than that; 1 or more.

    Raises:
        ValueError: If a setting is out of its range.
    """

    ratio: float = 0.5
    window: float = 30.0
    minimum_calls: int = 10

    def __post_init__(self) -> None:
        right = is_positive(self.ratio) and self.ratio <= 1
        check("ratio", self.ratio, right, "a number above 0, at most 1")
        check("window", self.window, is_positive(self.window), "a finite number above 0")
        check("minimum_calls", self.minimum_calls, is_whole(self.minimum_calls), "a whole number, 1 or more")


class SlidingWindow:
    """Counts of calls and failures over the last seconds, in buckets of a ring.

    Each bucket is stamped with the time that it stands for, and only those stamped with a time inside the window
    count. So an idle hour leaves nothing stale behind, and after a step of the clock, in either direction, what was
    measured at other times does not count.
    """

    __slots__ = ("_rate", "_stamps", "_width", "calls", "failures")

    def __init__(self, rate: FailureRate) -> None:
        self._rate = rate
        self._width = max(rate.window / _BUCKETS, _NARROWEST)
        self._stamps = [-1] * _BUCKETS
        self.calls: list[int] = [0] * _BUCKETS
        self.failures: list[int] = [0] * _BUCKETS

    def emptied(self) -> SlidingWindow:
        """Return one like it that has counted nothing."""
        return SlidingWindow(self._rate)

    def place(self, now: float) -> int:
        """Return the place in `calls` and `failures` where what ends at `now`, in monotonic seconds, is counted."""
        stamp = int(now // self._width)
        place = stamp % _BUCKETS
        if self._stamps[place] != stamp:
            self._stamps[place], self.calls[place], self.failures[place] = stamp, 0, 0
        return place

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many calls ended within the window before `now`, and how many of them failed."""
        newest = int(now // self._width)
        inside = [place for place, stamp in enumerate(self._stamps) if newest - _BUCKETS < stamp <= newest]
        return sum(self.calls[place] for place in inside), sum(self.failures[place] for place in inside)

    def is_too_much(self, calls: int, failures: int) -> bool:
        """Tell whether so many failures among so many calls are too many."""
        return calls >= self._rate.minimum_calls and failures / calls >= self._rate.ratio
