"""How the public names look to type checkers: checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import assert_type

from booking_resilience import ErrorMonitor, Pipeline, with_retry


def number() -> int:
    """Return a number."""
    return 1


assert_type(with_retry(number), int)
assert_type(Pipeline(monitor=ErrorMonitor()).call("count", number), int)
