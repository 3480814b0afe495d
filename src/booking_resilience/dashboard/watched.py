"""The breakers and limits that the page shows, the breakers' latest transitions, and what operators do with them."""

from __future__ import annotations

import datetime
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from booking_resilience import clock
from booking_resilience.breaker import BreakerSnapshot, CircuitBreaker
from booking_resilience.dashboard.mount import Breakers, Limits
from booking_resilience.dashboard.readiness import checked_breakers, checked_limits, is_full, named
from booking_resilience.events import BreakerEvent
from booking_resilience.locks import new_lock
from booking_resilience.monitor import DEFAULT_REDACTION

_KEPT = 500


class Transition(NamedTuple):
    """A transition of a breaker, and when it was, aware UTC."""

    at: datetime.datetime
    event: BreakerEvent


class Watched:
    """The breakers and limits of this process. An iterator is read once; other collections each time.

    Args:
        breakers: A mapping or an iterable.
        limits: A mapping or an iterable.

    Raises:
        TypeError: If one is neither, or holds anything but breakers, or limits.
    """

    def __init__(self, breakers: Breakers, limits: Limits = ()) -> None:
        self._breakers = _kept(breakers)
        self._limits = _kept(limits)
        checked_breakers(self._breakers)
        checked_limits(self._limits)
        self._lock = new_lock()
        self._known: weakref.WeakSet[CircuitBreaker] = weakref.WeakSet()
        self.transitions: deque[Transition] = deque(maxlen=_KEPT)
        self._watch()

    def named(self) -> list[tuple[str, CircuitBreaker]]:
        """Return the breakers there are now, with their names on the page: in a mapping the keys."""
        return [(breaker.name if name is None else name, breaker) for name, breaker in named(self._breakers)]

    def facts(self) -> list[dict[str, Any]]:
        """Return what the page shows of the breakers; `nth` tells those of one name apart."""
        self._watch()
        return _numbered([{"name": name, **_facts_of(breaker.snapshot())} for name, breaker in self.named()])

    def limits(self) -> list[dict[str, Any]]:
        """Return what the page shows of the limits and rates; `nth` tells those of one name apart."""
        rows = []
        for name, limit in named(self._limits):
            found = limit.snapshot()
            facts = {fact: getattr(found, fact) for fact in ("limit", "in_flight", "queued", "refused")}
            is_rate = getattr(limit, "role", None) == "rate"
            rows.append({"name": name or found.name, **facts, "is_rate": is_rate, "is_full": is_full(found)})
        return _numbered(rows)

    def act(self, name: str, nth: int, action: Literal["isolate", "reset"], reason: str) -> bool:
        """Isolate or reset a breaker, in its whole fleet if it is shared; return False if there is no such breaker."""
        found = [breaker for known, breaker in self.named() if known == name]
        if not 0 <= nth < len(found):
            return False
        breaker = found[nth]
        do = breaker.isolate if action == "isolate" else breaker.reset
        shared = breaker.snapshot().shared
        if shared is None:
            do(reason)
            return True
        try:
            do(reason, fleet=True)
        except ValueError:  # its RedisBreaker has been closed, so the breaker is on its own
            do(reason)
        return True

    def _watch(self) -> None:
        """Note the transitions of breakers that weren't there before."""
        for _, breaker in self.named():
            with self._lock:
                is_new = breaker not in self._known
                self._known.add(breaker)
            if is_new:
                breaker.subscribe(_Listener(self.transitions))


def _kept(given: Any) -> Any:
    return list(given) if isinstance(given, Iterator) else given


def _numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: dict[str, int] = {}
    for row in rows:
        row["nth"] = seen[row["name"]] = seen.get(row["name"], -1) + 1
    return rows


class _Listener:
    """Keeps the transitions of a breaker; holds nothing of the page alive but their list."""

    def __init__(self, transitions: deque[Transition]) -> None:
        self._transitions = transitions

    def __call__(self, event: BreakerEvent) -> None:
        self._transitions.append(Transition(clock.utc_now(), event))


def _facts_of(found: BreakerSnapshot) -> dict[str, Any]:
    shared = found.shared
    return {
        "state": found.state.value,
        "retry_after": found.retry_after,
        "reason": None if found.reason is None else DEFAULT_REDACTION.clean(found.reason),
        "consecutive_failures": found.consecutive_failures,
        "failures": found.failures,
        "refused": found.refused,
        "trips": found.trips,
        "shared": None
        if shared is None
        else {"connected": shared.connected, "state": shared.state.value, "reporters": shared.reporters},
    }
