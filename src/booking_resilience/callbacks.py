"""Functions that users hand in (filters, listeners, redactors), all of which are called synchronously.

A coroutine function in such a place would never be awaited: `check_callback` refuses it when it is given, and `ask`
drops what only turns out to be awaitable when it is returned. `safely` and `text_of` stand whatever users' code raises.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import types
import weakref
from typing import TYPE_CHECKING, Any

from booking_resilience.checks import check_type, is_a

if TYPE_CHECKING:
    from collections.abc import Callable

_warned: weakref.WeakSet[Any] = weakref.WeakSet()


def bodies_of(fn: object) -> tuple[object, ...]:
    """Return the functions whose code may run when `fn` is called: itself and its type's `__call__`.

    Partials and bound methods are looked through.
    """
    while isinstance(fn, (functools.partial, types.MethodType)):
        fn = fn.func if isinstance(fn, functools.partial) else fn.__func__
    return fn, inspect.getattr_static(type(fn), "__call__", None)


def is_coroutine_function(fn: object) -> bool:
    """Tell whether calling `fn` gives a coroutine."""
    return any(inspect.iscoroutinefunction(body) for body in bodies_of(fn))


def is_generator_function(fn: object) -> bool:
    """Tell whether calling `fn` gives a generator, synchronous or asynchronous: its body runs after it returned.

    So does what `contextlib` makes of one: calling it gives a context manager.
    """
    bodies = bodies_of(fn)
    made_of = [getattr(body, "__wrapped__", None) for body in bodies if _is_contextlibs(body)]
    return any(inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body) for body in (*bodies, *made_of))


def _is_contextlibs(body: object) -> bool:
    return isinstance(body, types.FunctionType) and body.__globals__ is vars(contextlib)


def is_awaitable(value: object) -> bool:
    """Tell whether the value can be awaited."""
    return type(value) is types.CoroutineType or hasattr(type(value), "__await__") or inspect.isawaitable(value)


def check_callback(name: str, fn: object, allowed: str) -> None:
    """Check that `fn` can be called and has a body that runs when it is called.

    Raises:
        TypeError: If it can't be called, or is a coroutine or generator function; exception types and tuples of them
            are the caller's to accept before.
    """
    if not callable(fn):
        raise TypeError(f"{name} must be {allowed}, not {fn!r}")
    if is_coroutine_function(fn):
        raise TypeError(f"{name} must be {allowed}; {fn!r} is a coroutine function, which nobody would await")
    if is_generator_function(fn):
        raise TypeError(f"{name} must be {allowed}; {fn!r} is a generator function, whose body would never run")


def check_filter(name: str, errors: object) -> None:
    """Check for an exception type, a tuple of them (an empty one, too), or a function of the error."""
    allowed = "an exception type, a tuple of them, or a function of the error"
    if isinstance(errors, (type, tuple)):
        kinds = errors if isinstance(errors, tuple) else (errors,)
        are_errors = all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)
        check_type(name, errors, are_errors, allowed)
    else:
        check_callback(name, errors, allowed)


def matches(errors: Any, error: BaseException, *, unknown: bool, logger: logging.Logger) -> bool:
    """Tell whether a filter fits an error: types as in an `except` clause, a function as in `ask`."""
    if isinstance(errors, (type, tuple)):
        return issubclass(type(error), errors)
    return bool(ask(errors, error, unknown=unknown, logger=logger))


def ask(fn: Callable[..., Any], *args: object, unknown: Any, logger: logging.Logger) -> Any:
    """Call `fn` and return its answer; `unknown` if the answer can only be awaited.

    Such an answer is closed, and logged once for each callable.
    """
    answer = fn(*args)
    if answer is None or answer is True or answer is False or not is_awaitable(answer):
        return answer
    drop_awaitable(fn, answer, logger)
    return unknown


def drop_awaitable(fn: object, answer: object, logger: logging.Logger) -> None:
    """Close an awaitable that nobody will await, and log it once for each callable."""
    if close := getattr(answer, "close", None) or getattr(answer, "cancel", None):
        with contextlib.suppress(Exception):  # the coroutine's own clean-up failed; it is dropped all the same
            close()
    body = bodies_of(fn)[0]
    try:
        is_known = body in _warned
        _warned.add(body)
    except TypeError:  # not hashable, or not weakly referable: then its type stands for it
        is_known = type(body) in _warned
        _warned.add(type(body))
    if not is_known:
        with contextlib.suppress(Exception):  # a logging handler that raises
            logger.error("%r returned an awaitable, which nobody awaits; it must be a plain function", fn)


def safely(failed: Any, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what the function returns; `failed` if it raises anything but an interrupt, even an exit."""
    try:
        return fn(*args, **kwargs)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - the caller's work matters more
        return failed


def text_of(value: object, convert: Callable[[Any], str] = str) -> str:
    """Return the value's text; a marker if it cannot be had, whatever its `__str__` raises. A string is its own."""
    try:
        return str.__str__(value if convert is str and is_a(value, str) else convert(value))
    except BaseException:  # noqa: BLE001 - it may even exit; the caller's work matters more
        return f"<{convert.__name__}() failed>"
