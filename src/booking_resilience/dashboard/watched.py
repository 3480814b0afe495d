"""The breakers and limits that the page shows, the breakers' latest transitions, and what operators do with them."""

from __future__ import annotations

import datetime
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Literal

from booking_resilience import clock
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.dashboard.readiness import Breakers, Limits, breakers_of, is_full, limits_of
from booking_resilience.events import BreakerEvent
from booking_resilience.locks import fork_safe_lock
from booking_resilience.monitor import DEFAULT_REDACTION

_KEPT = 500
_LOCK = fork_safe_lock()  # one for all dashboards: it is held for the look at a set


class Watched:
    """The breakers and limits of this process. An iterator is read once; other collections each time.

    Args:
        breakers: A mapping or an iterable.
        limits: A mapping or an iterable.

    Attributes:
        transitions: The latest transitions of breakers, each with its moment, aware UTC.

    Raises:
        TypeError: If one is neither, or holds anything but breakers, or limits.
    """

    def __init__(self, breakers: Breakers, limits: Limits) -> None:
        self._breakers: Any = list(breakers) if isinstance(breakers, Iterator) else breakers
        self._limits: Any = list(limits) if isinstance(limits, Iterator) else limits
        self._known: weakref.WeakSet[CircuitBreaker] = weakref.WeakSet()
        self.transitions: deque[tuple[datetime.datetime, BreakerEvent]] = deque(maxlen=_KEPT)
        limits_of(self._limits)
        self._watch()

    def breakers(self) -> list[dict[str, Any]]:
        """Return what the page shows of the breakers; `nth` tells those of one name apart."""
        self._watch()
        rows = []
        for name, breaker in breakers_of(self._breakers):
            row = asdict(breaker.snapshot())
            if row["reason"] is not None:
                row["reason"] = DEFAULT_REDACTION.clean(row["reason"])
            rows.append({**row, "name": name})
        return _numbered(rows)

    def limits(self) -> list[dict[str, Any]]:
        """Return what the page shows of the limits and rates; `nth` tells those of one name apart."""
        rows = []
        for name, limit in limits_of(self._limits):
            found = limit.snapshot()
            facts = {fact: getattr(found, fact) for fact in ("limit", "in_flight", "queued", "refused")}
            is_rate = getattr(limit, "role", None) == "rate"
            rows.append({"name": name or found.name, **facts, "is_rate": is_rate, "is_full": is_full(found)})
        return _numbered(rows)

    def act(self, name: str, nth: int, action: Literal["isolate", "reset"], reason: str) -> bool:
        """Isolate or reset a breaker, in its whole fleet if it is shared; return False if there is no such breaker."""
        found = [breaker for known, breaker in breakers_of(self._breakers) if known == name]
        if nth >= len(found):
            return False
        breaker = found[nth]
        do = breaker.isolate if action == "isolate" else breaker.reset
        try:
            do(reason, fleet=breaker.snapshot().shared is not None)
        except ValueError:  # its RedisBreaker has been closed, so the breaker is on its own
            do(reason)
        return True

    def _watch(self) -> None:
        """Note the transitions of breakers that weren't there before."""
        transitions = self.transitions  # a breaker's listener holds nothing else of the page alive
        for _, breaker in breakers_of(self._breakers):
            with _LOCK:
                is_new = breaker not in self._known
                self._known.add(breaker)
            if is_new:
                breaker.subscribe(lambda event: transitions.append((clock.utc_now(), event)))


def _numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: dict[str, int] = {}
    for row in rows:
        row["nth"] = seen[row["name"]] = seen.get(row["name"], -1) + 1
    return rows
