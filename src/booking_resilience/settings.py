"""Checks of settings: what is absurd is refused when the object is made, naming it, its value and what is allowed."""

from __future__ import annotations

import math
import sys


def check(name: str, value: object, ok: bool, allowed: str) -> None:
    """Raise `ValueError` unless `ok`."""
    if not ok:
        raise ValueError(f"{name} must be {allowed}, not {value!r}")


def is_whole(value: object, least: int = 1) -> bool:
    """Tell whether it is a whole number, `least` or more; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object, least: float = 0.0, most: float = math.inf) -> bool:
    """Tell whether it is a finite number from `least` to `most`; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return least <= value <= most and value <= sys.float_info.max  # an int may be larger than any float


def is_positive(value: object) -> bool:
    """Tell whether it is a finite number above 0."""
    return is_number(value) and value != 0


def is_error_filter(value: object) -> bool:
    """Tell whether it is an exception type, a tuple of them (an empty one, too), or something to call."""
    if isinstance(value, tuple):
        return all(isinstance(item, type) and issubclass(item, BaseException) for item in value)
    if isinstance(value, type):
        return issubclass(value, BaseException)
    return callable(value)


def is_text(value: object) -> bool:
    """Tell whether it is a text that is not empty."""
    return isinstance(value, str) and value != ""
