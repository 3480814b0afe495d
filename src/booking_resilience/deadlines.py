"""How much time the current operation has left.

A context variable holds the innermost deadline: its end on the monotonic clock, the deadline around it, and a *weak*
reference to its holder, an object that lives exactly as long as the block or the attempt. To end a deadline is to drop
its holder; nothing has to be put back. So whatever ends the block, a signal's handler between any two instructions or a
generator that is closed in another context, no deadline is left behind: readers skip those whose holder is gone.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Never, ParamSpec, TypeAlias, TypeVar

from booking_resilience import clock
from booking_resilience.awaitables import decorated
from booking_resilience.checks import check_number

P = ParamSpec("P")
R = TypeVar("R")


Holder: TypeAlias = "set[Never]"
"""Keeps a deadline in force as long as somebody refers to it: an empty set, the cheapest thing to refer to weakly."""

Node: TypeAlias = "tuple[weakref.ref[Holder], float, Node | None, bool]"
"""A deadline: its holder, its end on the monotonic clock in seconds, the deadline around it; whether that is the end of
an attempt alone, after which there may be another."""

_innermost: ContextVar[Node | None] = ContextVar("booking_resilience_deadline", default=None)

get_node: Callable[[], Node | None] = _innermost.get
set_node: Callable[[Node | None], object] = _innermost.set
"""The variable's own methods, bound once: on the path of every call, looking them up costs more than calling them."""


def in_force(node: Node | None) -> Node | None:
    """Return the innermost deadline whose holder is alive: this one, or one around it."""
    while node is not None and node[0]() is None:
        node = node[2]
    return node


def hold_to(end: float) -> tuple[Holder, Node]:
    """Set a deadline for the code that follows in this context; it lasts as long as the holder that is returned."""
    holder: Holder = set()
    node = (weakref.ref(holder), end, in_force(get_node()), False)
    set_node(node)
    return holder, node


def put_back(node: Node) -> None:
    """Put back the deadline around this one, for tidiness: finding out that a holder is gone takes time.

    In a context where this one was not set, a generator's that is closed elsewhere, nothing happens.
    """
    inner = get_node()
    while inner is not None and inner is not node:
        inner = inner[2]
    if inner is node:
        set_node(node[2])


def remaining_time() -> float | None:
    """Return the seconds that the current operation has left, 0.0 if none are; None without a deadline."""
    node = in_force(get_node())
    return None if node is None else max(0.0, node[1] - clock.monotonic())


def deadline(seconds: float) -> Deadline:
    """Give the block so many seconds, or what an outer deadline leaves, if that is less.

    Nothing interrupts the block. What is called within asks `remaining_time()`: retries, the Appwrite client, your
    own code. It decorates functions, methods and coroutine functions, too: each call has its own seconds.

    Args:
        seconds: 0 or more, finite.

    Raises:
        TypeError: If `seconds` is not a number.
        ValueError: If `seconds` is negative or infinite.

    >>> with deadline(5.0):
    ...     with deadline(60.0):
    ...         remaining_time() <= 5.0
    True
    """
    check_number("seconds", seconds)  # now, not when it is entered
    return Deadline(seconds)


class Deadline:
    """A block with a deadline; made by `deadline`. It may be entered again once it was left."""

    __slots__ = ("_held", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._held: tuple[Holder, Node] | None = None

    def __enter__(self) -> None:
        if self._held is not None:
            raise RuntimeError("this deadline is in force already; make another one with `deadline(…)`")
        end, outer = clock.monotonic() + self._seconds, in_force(get_node())
        self._held = hold_to(end if outer is None else min(end, outer[1]))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        held, self._held = self._held, None
        if held is not None:
            put_back(held[1])

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function or coroutine function: each call gets the seconds.

        Raises:
            TypeError: If it is a generator function, whose body runs after the call has returned.
        """
        return decorated(functools.partial(Deadline, self._seconds), fn, "deadline")


def reset(token: Token[Any]) -> None:
    """Undo the `set` of a context variable; harmless in another context, and if it was undone already."""
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):
        pass
