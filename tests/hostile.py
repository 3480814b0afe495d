"""Errors and values that do their worst to whoever looks at them. They are made when they are asked for.

They live apart from the tests, since a test runner looks at what is in a test module.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any


class Rude(Exception):  # noqa: N818 - it is a fake
    """Raises from everything that could give its text."""

    def __init__(self, raises: BaseException) -> None:
        self.raises = raises

    def __str__(self) -> str:
        raise self.raises

    __repr__ = __str__


class Liar(Exception):  # noqa: N818 - it is a fake
    """Lies about, or refuses, everything that a record is made of."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class Deceiver(Exception):  # noqa: N818 - it is a fake
    """Has attributes in the way of those that every exception has."""

    args = property(lambda self: 1 / 0)  # type: ignore[assignment] # that is the point
    __traceback__ = property(lambda self: self)  # type: ignore[assignment] # that is the point
    tb_next = property(lambda self: self)
    __cause__ = property(lambda self: self)  # type: ignore[assignment] # that is the point
    __context__ = "no error"  # type: ignore[assignment] # that is the point
    __suppress_context__ = property(lambda self: exit())  # type: ignore[assignment] # that is the point
    __dict__ = property(lambda self: 3)  # type: ignore[assignment] # that is the point
    __class__ = property(lambda self: int)  # type: ignore[assignment] # that is the point


class Meta(type):
    """A metaclass that hides what its classes are."""

    def __getattribute__(cls, name: str) -> Any:
        raise SystemExit(name)

    def __hash__(cls) -> int:
        raise SystemExit("hash")

    def __eq__(cls, other: object) -> bool:
        raise SystemExit("eq")

    def __instancecheck__(cls, instance: object) -> bool:
        raise SystemExit("instance")


class Hidden(Exception, metaclass=Meta):  # noqa: N818 - it is a fake
    pass


class Text(str):
    """A text with a life of its own."""

    __slots__ = ()

    def __str__(self) -> str:
        raise SystemExit

    __repr__ = __len__ = __iter__ = __eq__ = __hash__ = __format__ = __getitem__ = __str__  # type: ignore[assignment] # that is the point
    encode = translate = casefold = isascii = startswith = __str__  # type: ignore[assignment] # that is the point


class Key(str):
    """A text that can be a key, and no more."""

    __slots__ = ()

    def __str__(self) -> str:
        raise SystemExit


class Whole(int):
    """A number with a life of its own."""

    def __int__(self) -> int:
        raise SystemExit

    __abs__ = __index__ = __ge__ = __lt__ = __eq__ = __hash__ = __str__ = __repr__ = __int__  # type: ignore[assignment] # that is the point


class Fraction(float):
    """Another."""

    def __float__(self) -> float:
        raise SystemExit

    __abs__ = __ge__ = __lt__ = __eq__ = __hash__ = __str__ = __repr__ = __float__  # type: ignore[assignment] # that is the point


class Enumerated(enum.Enum):
    """Enumerates a liar."""

    A = Rude(SystemExit())


def freed_memory() -> memoryview:
    """Return a view of memory that is no longer there."""
    view = memoryview(b"x")
    view.release()
    return view


def nested_tuple(depth: int) -> tuple[Any, ...]:
    """Return a tuple in a tuple in a tuple, which can be a key."""
    nested: tuple[Any, ...] = ()
    for _ in range(depth):
        nested = (nested,)
    return nested


class Recursing(Exception):  # noqa: N818 - it is a fake
    def __str__(self) -> str:
        return str(self)


class Falsy(Exception):  # noqa: N818 - it is a fake
    def __bool__(self) -> bool:
        raise SystemExit

    __len__ = __eq__ = __hash__ = __bool__  # type: ignore[assignment] # that is the point


def chained(error: BaseException) -> BaseException:
    """Return an error that was raised from the error."""
    top = RuntimeError("top")
    top.__cause__ = error
    return top


def long_chain(length: int) -> BaseException:
    """Return an error at the end of a long chain of causes."""
    error = ValueError(0)
    for number in range(1, length):
        error, last = ValueError(number), error
        error.__context__ = last
    return error


def cyclic() -> BaseException:
    """Return an error whose causes go round in a circle."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    return first


def nested_list(depth: int) -> list[Any]:
    """Return a list in a list in a list."""
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def nested_group(depth: int) -> BaseException:
    """Return a group in a group in a group."""
    error: Exception = ValueError("bottom")
    for _ in range(depth):
        error = ExceptionGroup("group", [error])
    return error


ERRORS: dict[str, Callable[[], BaseException]] = {
    "rude": lambda: Rude(ValueError("no")),
    "exits": lambda: Rude(SystemExit(1)),
    "recursion": lambda: Rude(RecursionError()),
    "recursing": Recursing,
    "huge": lambda: ValueError("x" * 10_000_000),
    "surrogate": lambda: ValueError("\ud83d and \0"),
    "cycle": cyclic,
    "long chain": lambda: long_chain(5000),
    "wide group": lambda: ExceptionGroup("wide", [ValueError(number) for number in range(1000)]),
    "deep group": lambda: nested_group(400),
    "object": lambda: ValueError(object()),
    "values": lambda: ValueError(float("nan"), b"bytes"),
    "liar": Liar,
    "deceiver": lambda: Deceiver("x"),
    "hidden": lambda: Hidden("x"),
    "falsy": Falsy,
    "text": lambda: ValueError(Text("x")),
    "texts of the system": lambda: OSError(Text("x"), Text("y")),
    "text of the system": lambda: ConnectionError(Text("x")),
    "key": lambda: KeyError(Text("x")),
    "unicode": lambda: UnicodeDecodeError("x", b"", 0, 1, "y"),
    "empty": ValueError,
    "exit": lambda: SystemExit(3),
    "interrupt": lambda: KeyboardInterrupt("x"),
    "memory": MemoryError,
    "deep argument": lambda: ValueError(nested_list(5000)),
}

FACTS: dict[str, Callable[[], Any]] = {
    "text": lambda: Text("x"),
    "rude": lambda: Rude(SystemExit()),
    "liar": Liar,
    "object": object,
    "bytes": lambda: b"x",
    "nan": lambda: float("nan"),
    "big": lambda: 10**6000,
    "lists": lambda: [[]],
    "keys": lambda: {1: 2, Key("k"): Text("v"), None: Key("w"), (1, 2): 3, b"x": 4},
    "deep": lambda: {"nan": float("nan"), "deep": nested_list(5000), nested_tuple(5000): 1},
    "liars": lambda: {"liar": Liar(), "hidden": Hidden, "x": Hidden("x"), "exits": Rude(SystemExit())},
    "empty": str,
    "tuple": lambda: (Liar(), 3),
    "negative": lambda: -3,
    "secret": lambda: {Key("password"): "hunter2"},
    "endless": lambda: range(10**9),
    "iterator": lambda: iter([1]),
    "surrogate": lambda: "\ud83d\0",
    "type": lambda: Meta,
    "numbers": lambda: {"a": Whole(3), "b": Fraction(0.5), "c": Enumerated.A},
    "freed": freed_memory,
}
