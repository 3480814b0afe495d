"""Settings of the parts of `booking_resilience.load`: errors name what is out of range, and the edges are allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from booking_resilience.load import AdaptiveLimit, ConcurrencyLimit, Hedge, RateLimit, ThreadTimeout, priority

fixed = partial(ConcurrencyLimit, "l", limit=1)
adaptive = partial(AdaptiveLimit, "l")
rate = partial(RateLimit, "l", rate=1.0)
hedge = partial(Hedge, idempotent=True)

WHOLE = "must be a whole number, 1 or more, not"
ABOVE = "must be a finite number above 0, not"
FROM_0 = "must be a finite number, 0 or more, not"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(ConcurrencyLimit, "", limit=1), "name must be"),
        (partial(fixed, limit=0), f"limit {WHOLE} 0"),
        (partial(fixed, limit=1_000_001), "limit must be a whole number from 1 to 1,000,000, not 1000001"),
        (partial(fixed, max_queue=-1), "max_queue must be a whole number, 0 or more, not -1"),
        (partial(fixed, max_queue=1, max_wait=-1), "max_wait must be a finite number, 0 or more, or None, not -1"),
        (partial(fixed, max_wait=0), "max_wait must be None where max_queue is 0, not 0"),
        (partial(adaptive, minimum=0), f"minimum {WHOLE} 0"),
        (partial(adaptive, maximum=0), f"maximum {WHOLE} 0"),
        (partial(adaptive, initial=0), f"initial {WHOLE} 0"),
        (
            partial(adaptive, minimum=7, maximum=6),
            "maximum must be a whole number from minimum (7) to 1,000,000, not 6",
        ),
        (
            partial(adaptive, maximum=1_000_001),
            "maximum must be a whole number from minimum (1) to 1,000,000, not 1000001",
        ),
        (
            partial(adaptive, initial=1001),
            "initial must be a whole number from minimum (1) to maximum (1000), not 1001",
        ),
        (partial(adaptive, max_wait=1.0), "max_wait must be None where max_queue is 0, not 1.0"),
        (partial(rate, rate=0), f"rate {ABOVE} 0"),
        (partial(rate, per=0), f"per {ABOVE} 0"),
        (
            partial(rate, rate=2.0, per=2e9),
            "per must be less than 1e9 seconds for each call (rate is 2.0), not 2000000000.0",
        ),
        (partial(rate, burst=0), f"burst {WHOLE} 0"),
        (partial(rate, max_queue=-1), "max_queue must be a whole number, 0 or more, not -1"),
        (partial(rate, max_wait=1), "max_wait must be None where max_queue is 0, not 1"),
        (partial(rate().try_acquire, 0), f"tokens {WHOLE} 0"),
        (partial(rate().try_acquire, 2), "tokens must be at most burst (1), not 2"),
        (partial(rate().pause, -1), f"seconds {FROM_0} -1"),
        (partial(hedge, idempotent=1), "idempotent must be True, as a hedged call may be made twice, not 1"),
        (partial(hedge, delay=-1), "delay must be a finite number, 0 or more, or None, not -1"),
        (partial(hedge, percentile=-1), f"percentile {FROM_0} -1"),
        (partial(hedge, percentile=101), "percentile must be a number from 0 to 100, not 101"),
        (partial(hedge, max_extra=-1), f"max_extra {FROM_0} -1"),
        (partial(ThreadTimeout, 0), f"seconds {ABOVE} 0"),
        (partial(ThreadTimeout, 1.0, max_abandoned=0), f"max_abandoned {WHOLE} 0"),
        (partial(priority, float("nan")), "priority must be a finite number, not nan"),
        (partial(priority, float("inf")), "priority must be a finite number, not inf"),
    ],
    ids=str,
)
def test_a_value_out_of_range(make: Callable[[], Any], words: str) -> None:
    """Each error names the setting, what is allowed and what was given."""
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        make()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(fixed, limit="1"), "limit"),
        (partial(fixed, max_queue="1"), "max_queue"),
        (partial(fixed, max_queue=1, max_wait="1"), "max_wait"),
        (partial(ConcurrencyLimit, 5, limit=1), "name"),
        (partial(adaptive, initial="1"), "initial"),
        (partial(adaptive, minimum=None), "minimum"),
        (partial(adaptive, maximum="9"), "maximum"),
        (partial(rate, rate="1"), "rate"),
        (partial(rate, per=None), "per"),
        (partial(rate, burst="1"), "burst"),
        (partial(rate().try_acquire, "1"), "tokens"),
        (partial(rate().pause, None), "seconds"),
        (partial(hedge, delay="1"), "delay"),
        (partial(hedge, percentile=None), "percentile"),
        (partial(hedge, max_extra="1"), "max_extra"),
        (partial(ThreadTimeout, "1"), "seconds"),
        (partial(ThreadTimeout, 1.0, max_abandoned="1"), "max_abandoned"),
        (partial(priority, "1"), "priority"),
        (partial(priority, True), "priority"),
    ],
    ids=str,
)
def test_a_value_of_the_wrong_type(make: Callable[[], Any], name: str) -> None:
    """Each error names the setting."""
    with pytest.raises(TypeError, match=f"^{name} must be "):
        make()


def test_the_edges_are_allowed() -> None:
    """Bounds are inclusive unless they say otherwise."""
    assert fixed(limit=1_000_000, max_queue=1, max_wait=0).snapshot().limit == 1_000_000
    for edge in (1, 1_000_000):
        assert adaptive(initial=edge, minimum=edge, maximum=edge).snapshot().limit == edge
    assert rate(rate=1e-9, per=0.5).snapshot().limit == 1
    assert rate(rate=0.5).snapshot().limit == 1
    assert rate(rate=2.9).snapshot().limit == 2
    assert rate(burst=7).try_acquire(7)
    for percentile in (0, 100):
        hedge(delay=0, percentile=percentile, max_extra=0)
    ThreadTimeout(1e-9, max_abandoned=1)


def test_the_defaults() -> None:
    """What isn't said has the documented value, and nobody waits unless it is said."""
    assert adaptive().snapshot().limit == 20
    assert repr(hedge()) == "Hedge(delay=None, percentile=95, max_extra=0.05)"
    assert repr(ThreadTimeout(2.5)) == "ThreadTimeout(2.5, max_abandoned=32)"
    assert repr(fixed()) == "<ConcurrencyLimit 'l'>"
    for limit in (fixed(), adaptive(), rate()):
        assert (limit.name, limit._max_queue, limit._max_wait) == ("l", 0, None)
    waiting: dict[str, Any] = {"max_queue": 3, "max_wait": 2.0}
    for limit in (fixed(**waiting), adaptive(**waiting), rate(**waiting)):
        assert (limit._max_queue, limit._max_wait) == (3, 2.0)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (hedge(delay=1), hedge(delay=2, percentile=50, max_extra=1)),
        (ThreadTimeout(1.0), ThreadTimeout(2.0, max_abandoned=3)),
    ],
    ids=lambda part: type(part).__name__,
)
def test_other_settings(part: Any, other: Any) -> None:
    """A part that goes on as another one has its settings."""
    part._take_settings(other)
    assert repr(part) == repr(other)
