"""A circuit breaker for each key: for each host, tenant or queue that calls go to."""

from __future__ import annotations

import itertools
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from threading import RLock
from typing import Any

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.callbacks import check_callback
from booking_resilience.checks import check_whole
from booking_resilience.events import BreakerState
from booking_resilience.locks import fork_safe_lock, new_lock

_LOCK = fork_safe_lock()  # one for all: it is held for the look at a dictionary


class Breakers:
    """Makes a breaker when its key is first asked for, and keeps it.

    Beyond `max_size` the closed breaker that was asked for least recently is dropped; as long as somebody uses it the
    same one comes back. Breakers that aren't closed are never dropped, nor is the newest. Safe to share between
    threads, and across `fork`.

    Args:
        make: Makes the breaker of a key, once for each; it may ask for other keys. By default the key is the name.
        max_size: Breakers kept; 1 or more.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If `max_size` is below 1.

    >>> breakers = Breakers(lambda host: CircuitBreaker(host, cooldown=10.0))
    >>> breakers.get("api.example.com") is breakers.get("api.example.com")
    True
    """

    __slots__ = ("_dropped", "_kept", "_make", "_making", "_max_size")

    def __init__(self, make: Callable[[Any], CircuitBreaker] = CircuitBreaker, *, max_size: int = 1000) -> None:
        check_callback("make", make, "a function of the key that returns a CircuitBreaker")
        check_whole("max_size", max_size)
        self._make, self._max_size = make, max_size
        self._kept: OrderedDict[Hashable, CircuitBreaker] = OrderedDict()  # least recently asked for first
        self._dropped: weakref.WeakValueDictionary[Hashable, CircuitBreaker] = weakref.WeakValueDictionary()
        self._making: dict[tuple[int, Hashable], RLock] = {}  # by process: a child lacks its parent's threads

    def get(self, key: Hashable) -> CircuitBreaker:
        """Return the breaker of a key; whatever `make` raises comes out, and the next call asks it again.

        Raises:
            TypeError: If the key can't be hashed, or `make` returned no breaker.
        """
        while True:
            with _LOCK:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
                breaker = self._dropped.pop(key, None)
                if breaker is not None:
                    self._keep(key, breaker)
                    return breaker
                mine = os.getpid(), key
                turn = self._making.setdefault(mine, new_lock())
            with turn:  # one thread makes it, the others wait for that, and nobody waits for another key
                if self._making.get(mine) is not turn:
                    continue  # whoever had the turn before is done with it
                try:
                    breaker = self._make(key)
                    if not isinstance(breaker, CircuitBreaker):
                        raise TypeError(f"make must return a CircuitBreaker, not {breaker!r}")
                    self._keep(key, breaker)
                finally:
                    self._making.pop(mine, None)
                return breaker

    def __iter__(self) -> Iterator[CircuitBreaker]:
        with _LOCK:
            return iter(tuple(self._kept.values()))

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<Breakers {len(self)} of at most {self._max_size}>"

    def _keep(self, key: Hashable, breaker: CircuitBreaker) -> None:
        with _LOCK:
            self._kept[key] = breaker
            surplus = len(self._kept) - self._max_size
            if surplus > 0:
                closed = (old for old, other in self._kept.items() if other.state is BreakerState.CLOSED and old != key)
                for old in list(itertools.islice(closed, surplus)):
                    self._dropped[old] = self._kept.pop(old)
