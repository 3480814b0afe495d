"""Check arguments and settings: the wrong type is a `TypeError`, a wrong value a `ValueError`.

Every error names the argument, its value and what is allowed, and is raised before anything has been done.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import TypeVar, cast

from typing_extensions import TypeIs

T = TypeVar("T")

_exceptions = BaseExceptionGroup.exceptions  # past a subclass that overrides it
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2


def check(name: str, value: object, ok: bool, allowed: str) -> None:
    """Raise `ValueError` unless `ok`."""
    if not ok:
        raise ValueError(f"{name} must be {allowed}, not {value!r}")


def check_type(name: str, value: object, ok: bool, allowed: str) -> None:
    """Raise `TypeError` unless `ok`."""
    if not ok:
        raise TypeError(f"{name} must be {allowed}, not {value!r}")


def has_method(thing: object, name: str) -> bool:
    """Tell whether it is an object, not a class, with something to call by that name."""
    return callable(getattr(thing, name, None)) and not isinstance(thing, type)


def check_number(
    name: str, value: object, least: float = 0.0, *, above: bool = False, or_none: bool = False, allowed: str = ""
) -> None:
    """Check for a finite number, `least` or more; `above` excludes `least` itself, `or_none` allows None.

    `allowed` says what is allowed where these bounds alone don't tell. `True` and `False` are not numbers.
    """
    if value is None and or_none:
        return
    if not allowed:
        allowed = f"a finite number above {least:g}" if above else f"a finite number, {least:g} or more"
    allowed += ", or None" if or_none else ""
    check_type(name, value, isinstance(value, (int, float)) and not isinstance(value, bool), allowed)
    check(name, value, is_number(value, least) and not (above and value == least), allowed)


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Check for a whole number, `least` or more: a string is the wrong type, 1.5 the wrong value."""
    allowed = f"a whole number, {least} or more"
    check_type(name, value, isinstance(value, (int, float)) and not isinstance(value, bool), allowed)
    check(name, value, is_whole(value, least), allowed)


def check_text(name: str, value: object) -> None:
    """Check for a string that isn't empty."""
    check_type(name, value, isinstance(value, str), "a string")
    check(name, value, value != "", "a string that isn't empty")


def check_strings(name: str, value: object) -> None:
    """Check for a collection of strings, which one string is not."""
    is_many = isinstance(value, Collection) and not isinstance(value, (str, bytes, Mapping))
    are_strings = is_many and all(isinstance(item, str) for item in cast("Collection[object]", value))
    check_type(name, value, are_strings, "a collection of strings")


def check_header_name(name: str, value: object) -> None:
    """Check for a string that can be the name of an HTTP header."""
    check_text(name, value)
    check(name, value, _HEADER_NAME.fullmatch(str(value)) is not None, "the name of a header")


def is_a(value: object, kind: type[T]) -> TypeIs[T]:
    """Tell whether a value is of a type, as `except` does: it isn't asked for its `__class__`, which may raise."""
    return issubclass(type(value), kind)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors of a group and of the groups in it, in order; of any other error, itself."""
    waiting = [error]
    while waiting:
        item = waiting.pop()
        if is_a(item, BaseExceptionGroup):
            waiting.extend(reversed(_exceptions.__get__(item)))
        else:
            yield item


def is_whole(value: object, least: int = 1) -> bool:
    """Tell whether the value is a whole number, `least` or more; `True` and `False` are not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object, least: float = 0.0, most: float = math.inf) -> bool:
    """Tell whether the value is a finite number from `least` to `most`; `True` and `False` are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return least <= value <= most and value <= sys.float_info.max  # an int may be larger than any float
