"""The breakers that the page shows, their latest transitions, and what operators do with them."""

from __future__ import annotations

import datetime
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from booking_resilience import clock
from booking_resilience.breaker import BreakerSnapshot, CircuitBreaker
from booking_resilience.checks import check_type
from booking_resilience.dashboard.mount import Breakers
from booking_resilience.events import BreakerEvent
from booking_resilience.monitor import DEFAULT_REDACTION

_KEPT = 500


class Transition(NamedTuple):
    """A transition of a breaker, and when it was, aware UTC."""

    at: datetime.datetime
    event: BreakerEvent


class Watched:
    """The breakers of this process.

    Args:
        breakers: A mapping or an iterable. An iterator is read once; other collections each time.

    Raises:
        TypeError: If it is neither, or holds something else than breakers.
    """

    def __init__(self, breakers: Breakers) -> None:
        check_type("breakers", breakers, isinstance(breakers, Iterable), "an iterable or a mapping of breakers")
        self._given: Breakers = list(breakers) if isinstance(breakers, Iterator) else breakers
        self._lock = threading.Lock()
        self._known: weakref.WeakSet[CircuitBreaker] = weakref.WeakSet()
        self.transitions: deque[Transition] = deque(maxlen=_KEPT)
        for _, breaker in self.named():
            check_type("each of breakers", breaker, isinstance(breaker, CircuitBreaker), "a CircuitBreaker")
        self._watch()

    def named(self) -> list[tuple[str, CircuitBreaker]]:
        """Return the breakers there are now, with their names on the page: in a mapping the keys."""
        given = self._given
        if isinstance(given, Mapping):
            return [(str(key), breaker) for key, breaker in given.items()]
        return [(breaker.name if isinstance(breaker, CircuitBreaker) else "", breaker) for breaker in given]

    def facts(self) -> list[dict[str, Any]]:
        """Return what the page shows of them; `nth` tells breakers of one name apart."""
        self._watch()
        seen: dict[str, int] = {}
        rows = []
        for name, breaker in self.named():
            seen[name] = nth = seen.get(name, -1) + 1
            rows.append({"name": name, "nth": nth, **_facts_of(breaker.snapshot())})
        return rows

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
        except ValueError:  # the sharing has been closed, so the breaker goes by itself
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
