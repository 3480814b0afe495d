"""How calls went lately: counts over a sliding window. Pure: the time comes in as an argument, and nothing changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from booking_resilience.checks import check, check_number, check_whole

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
        TypeError: If a setting isn't a number.
        ValueError: If a setting is out of its range.
    """

    ratio: float = 0.5
    window: float = 30.0
    minimum_calls: int = 10

    def __post_init__(self) -> None:
        allowed = "a number above 0, at most 1"
        check_number("ratio", self.ratio, above=True, allowed=allowed)
        check("ratio", self.ratio, self.ratio <= 1, allowed)
        check_number("window", self.window, above=True)
        check_whole("minimum_calls", self.minimum_calls)


class Bucket(NamedTuple):
    """The calls that ended in one thirtieth of the window; `stamp` numbers the thirtieths since time 0."""

    stamp: int
    calls: int
    failures: int


Buckets = tuple[Bucket, ...]
"""What a window has counted, the bucket that was counted in last at the end.

Only buckets stamped with a time inside the window count. So an idle hour leaves nothing stale behind, and after a
step of the clock, in either direction, what was measured at other times doesn't count.
"""


def with_call(rate: FailureRate, buckets: Buckets, now: float, *, failed: bool) -> Buckets:
    """Return the buckets with one more call, which ended at `now`, in monotonic seconds."""
    stamp = _stamp(rate, now)
    if buckets and buckets[-1].stamp == stamp:
        others, before = buckets[:-1], buckets[-1]
    else:  # threads may come out of order by a bucket, so what is stamped with a little later is kept as well
        others = tuple(bucket for bucket in buckets if 0 < abs(bucket.stamp - stamp) < _BUCKETS)
        before = next((bucket for bucket in buckets if bucket.stamp == stamp), Bucket(stamp, 0, 0))
    return (*others, Bucket(stamp, before.calls + 1, before.failures + failed))


def recent(rate: FailureRate, buckets: Buckets, now: float) -> tuple[int, int]:
    """Return how many calls ended within the window before `now`, and how many of them failed."""
    newest = _stamp(rate, now)
    inside = [bucket for bucket in buckets if newest - _BUCKETS < bucket.stamp <= newest]
    return sum(bucket.calls for bucket in inside), sum(bucket.failures for bucket in inside)


def is_too_much(rate: FailureRate, calls: int, failures: int) -> bool:
    """Tell whether so many failures among so many calls are too many."""
    return calls >= rate.minimum_calls and failures / calls >= rate.ratio


def _stamp(rate: FailureRate, now: float) -> int:
    return int(now // max(rate.window / _BUCKETS, _NARROWEST))
