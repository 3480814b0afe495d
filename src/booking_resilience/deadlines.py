"""How much time the current operation has left.

A context variable holds the innermost deadline. To end one is to take its holder out of it, in one step; nothing need
be put back, since readers skip what is over. So whatever ends the block, a signal's handler between any two
instructions or a generator that is closed in another context, no deadline is left behind.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, ParamSpec, TypeAlias, TypeVar

from booking_resilience import clock
from booking_resilience.awaitables import decorated
from booking_resilience.checks import check_number

P = ParamSpec("P")
R = TypeVar("R")

Node: TypeAlias = "list[Any]"
"""A deadline, as a list of four, the cheapest thing that can be changed in one step.

0. Its holder: a function that returns None once the deadline is over (a weak reference to the block, say); None itself
   once it is known to be over.
1. Its end on the monotonic clock, in seconds.
2. The deadline around it, a `Node` or None.
3. Whether it is the end of an attempt alone, after which there may be another.
"""

_innermost: ContextVar[Node | None] = ContextVar("booking_resilience_deadline", default=None)

get_node: Callable[[], Node | None] = _innermost.get
set_node: Callable[[Node | None], object] = _innermost.set
"""The variable's own methods, bound once: on the path of every call, looking them up costs more than calling them."""


def in_force(node: Node | None) -> Node | None:
    """Return the innermost deadline that is not over: this one, or one around it."""
    while node is not None:
        holder = node[0]  # read once: another thread may end it meanwhile
        if holder is not None and holder() is not None:
            break
        node = node[2]
    return node


def hold_to(end: float, holder: object, *, of_attempt: bool = False) -> Node:
    """Set a deadline for the code that follows in this context, or what the one in force leaves, if that is less.

    It is over at the latest when its holder is gone.
    """
    outer = in_force(get_node())
    if outer is not None and outer[1] < end:
        end, of_attempt = outer[1], outer[3]
    node = [weakref.ref(holder), end, outer, of_attempt]
    set_node(node)
    return node


def leave(node: Node) -> None:
    """Take the deadlines out that were set in this one's block and not left: those of generators that go on.

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
    """Limit the block to so many seconds, or to what an outer deadline leaves, if that is less.

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

    __slots__ = ("__weakref__", "_node", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._node: Node | None = None

    def __enter__(self) -> None:
        if self._node is not None:
            raise RuntimeError("this deadline is in force already; make another one with `deadline(…)`")
        self._node = hold_to(clock.monotonic() + self._seconds, self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        node, self._node = self._node, None
        if node is not None:
            node[0] = None
            leave(node)

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
