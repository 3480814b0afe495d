"""How much time the current operation has left.

The end of the operation is a moment on the monotonic clock in a context variable: code called from within, in the
same thread or task, sees it, and a nested deadline can only make it earlier.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from booking_resilience import clock
from booking_resilience.checks import check, is_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import _GeneratorContextManager
    from contextvars import Token

current_end: ContextVar[float | None] = ContextVar("booking_resilience_deadline", default=None)
"""When the current operation ends, in seconds on the monotonic clock; None for never."""

get_end: Callable[[], float | None] = current_end.get
set_end: Callable[[float | None], Token[float | None]] = current_end.set
reset_end: Callable[[Token[float | None]], None] = current_end.reset
"""The variable's own methods, bound once: on the path of every call, looking them up costs more than calling them."""


def remaining_time() -> float | None:
    """Return the seconds that the current operation has left, 0.0 if none are; None without a deadline."""
    end = current_end.get()
    return None if end is None else max(0.0, end - clock.monotonic())


def deadline(seconds: float) -> _GeneratorContextManager[None]:
    """Give the block so many seconds, or what an outer deadline leaves, if that is less.

    Nothing interrupts the block. What is called within asks `remaining_time()`: retries, the Appwrite client, your
    own code.

    Args:
        seconds: 0 or more, finite.

    Raises:
        ValueError: If `seconds` is negative, infinite or not a number.

    >>> with deadline(5.0):
    ...     with deadline(60.0):
    ...         remaining_time() <= 5.0
    True
    """
    check("seconds", seconds, is_number(seconds), "a finite number, 0 or more")  # now, not when it is entered
    return _deadline(seconds)


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    end = clock.monotonic() + seconds
    outer = current_end.get()
    token = current_end.set(end if outer is None else min(end, outer))
    try:
        yield
    finally:
        reset(token)


def reset(token: Token[Any]) -> None:
    """Undo the `set` of a context variable; harmless in another context (a generator closed by the collector).

    Nor does it mind if it was undone already: an interrupt may come right after that.
    """
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        pass
