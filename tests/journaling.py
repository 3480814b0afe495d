"""A journal of the tests' own, and what their processes have in common."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

from booking_resilience import AlertRule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from booking_resilience import ErrorMonitor

QUIET = AlertRule(threshold=1e12, clear_threshold=1e11)


class ListJournal:
    """A journal in memory; `mood` is called before each append, and may raise or wait."""

    def __init__(self, mood: Callable[[], object] = bool) -> None:
        self.mood, self.kept, self.appends = mood, [], 0
        self._lock = threading.Lock()

    def append(self, entries: Sequence[bytes]) -> None:
        self.mood()
        with self._lock:
            self.appends += 1
            self.kept.extend(entries)

    def read(self, after: Any = None, limit: int = 1000) -> tuple[list[bytes], Any]:
        with self._lock:
            start = after or 0
            found = self.kept[start : start + limit]
        return found, start + len(found) if found else after

    def close(self) -> None:
        pass


def record(monitor: ErrorMonitor, number: int = 1, operation: str = "op") -> None:
    """Record so many errors."""
    for place in range(number):
        try:
            raise ValueError(str(place))
        except ValueError as error:
            monitor.record(error, operation=operation)


def run(source: str, *arguments: str, within: float = 60) -> str:
    """Run a program in a process of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments], capture_output=True, text=True, timeout=within, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
