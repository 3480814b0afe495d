"""What colour a function is: telling what must be awaited from what need not be, and refusing the wrong one.

Everything here is asked of the function that is to be called; of callbacks see `callbacks`.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar, cast

from booking_resilience.callbacks import is_awaitable, is_coroutine_function, is_generator_function

P = ParamSpec("P")
R = TypeVar("R")

_OURS = "booking_resilience."
_SDK = "appwrite."

AWAITABLE_NEVER = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set})
"""The most frequent types of results; asking for membership is cheaper than asking whether one can be awaited."""

_OF_GENERATORS = (types.GeneratorType, types.AsyncGeneratorType, contextlib._GeneratorContextManagerBase)
"""What a call of a generator function gives; asking the function itself takes some microseconds."""


def refuse_awaitable(value: object, called: str, instead: str, fn: object = None) -> type | None:
    """Raise `TypeError` if the value must be awaited, naming what to call instead; a coroutine is closed.

    Args:
        value: What the function returned.
        called: What the function was given to.
        instead: What it should have been given to.
        fn: The function, if it is to be refused should it be a generator function, too.

    Returns:
        The value's type, if no other value of that type must be awaited either: comparing the next result's type with
        it is cheaper than asking again. None where it depends on the value (some generators can be awaited) or on the
        function.
    """
    kind = type(value)
    if kind in AWAITABLE_NEVER:
        return kind
    if is_awaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError(f"{called} was given a function that returns an awaitable; use {instead}")
    if not issubclass(kind, _OF_GENERATORS):
        return kind
    if is_generator_function(fn):
        raise TypeError(f"{called} was given the generator function {fn!r}, whose body runs after it returned")
    return None


def not_awaitable(fn: object, called: str, instead: str) -> TypeError:
    """Return the error of a function that should have returned an awaitable, and has been called by now."""
    if is_generator_function(fn):
        return TypeError(f"{called} was given the generator function {fn!r}, whose body runs after it returned")
    return TypeError(f"{called} was given {fn!r}, which is not async and has already run; use {instead}")


def refuse_uncallable(fn: object) -> None:
    """Raise `TypeError` if what was to be called isn't a function; a coroutine, made by a call too early, is closed."""
    if not callable(fn):
        if inspect.iscoroutine(fn):
            fn.close()
        raise TypeError(f"fn must be a function, not {fn!r}; pass the function itself, not its result") from None


def gives_coroutines(fn: Callable[..., Any], decorator: str) -> bool:
    """Tell whether the function that is being decorated is a coroutine function.

    Raises:
        TypeError: If it is a generator or asynchronous generator function, or a context manager made of one, whose
            body runs after it has returned; if it is an exception type, or cannot be called.
    """
    if not callable(fn) or (isinstance(fn, type) and issubclass(fn, BaseException)):
        raise TypeError(f"{decorator} decorates functions, not {fn!r}")
    if is_generator_function(fn):
        raise TypeError(f"{decorator} cannot decorate the generator function {fn!r}: its body runs after it returned")
    return is_coroutine_function(fn)


def refuse_synchronous(fn: object) -> None:
    """Raise `TypeError` for a synchronous function of this library or method of Appwrite's SDK, before it is called.

    What isn't known to be synchronous passes: it may give an awaitable.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    function = getattr(fn, "__func__", fn)
    if not isinstance(function, types.FunctionType):
        return
    owner = getattr(fn, "__self__", None)
    is_sdks = owner is not None and any(str(kind.__module__).startswith(_SDK) for kind in type(owner).__mro__)
    # One that was made for somebody else's function has "<locals>" in its name.
    is_ours = str(function.__module__).startswith(_OURS) and "<locals>" not in function.__qualname__
    if (is_sdks or is_ours) and not inspect.iscoroutinefunction(function):
        instead = "`client.run` of an AsyncAppwriteClient, or " if is_sdks else _twin(function, owner)
        raise TypeError(
            f"{function.__qualname__} is synchronous and was not called, since it would block the event loop; use "
            f"{instead}`await asyncio.to_thread(pipeline.call, …)`"
        )


def _twin(function: types.FunctionType, owner: object) -> str:
    """Return the asynchronous form of a function, and a comma; nothing if there is none under the usual names."""
    module, name = sys.modules.get(function.__module__), f"{function.__name__}_async"
    if owner is None:
        return f"`{name}`, or " if hasattr(module, name) else ""
    if hasattr(type(owner), name):
        return f"`{name}`, or "
    kind = f"Async{type(owner).__name__}"
    return f"`{kind}`, or " if hasattr(module, kind) else ""


def within(decorate: Callable[[Callable[..., Any]], Callable[..., Any]], fn: Any) -> Any:
    """Decorate a function, or the one in a `classmethod` or `staticmethod`; those may stand on either side."""
    if isinstance(fn, (classmethod, staticmethod)):
        return type(fn)(decorate(fn.__func__))
    return decorate(fn)


def name_of(fn: Callable[..., Any]) -> str:
    """Return a name for the function: its qualified name, that of what a partial calls, or its type's."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return getattr(fn, "__qualname__", None) or type(fn).__qualname__


def decorated(block: Callable[[], AbstractContextManager[Any]], fn: Callable[P, R], decorator: str) -> Callable[P, R]:
    """Return a function that calls `fn`, of either colour, in a block of its own, which `block` makes.

    Raises:
        TypeError: As `gives_coroutines` does.
    """
    if gives_coroutines(fn, decorator):

        @functools.wraps(fn)
        async def within_block_async(*args: Any, **kwargs: Any) -> Any:
            with block():
                return await cast("Any", fn)(*args, **kwargs)

        return cast("Callable[P, R]", within_block_async)

    @functools.wraps(fn)
    def within_block(*args: P.args, **kwargs: P.kwargs) -> R:
        with block():
            return fn(*args, **kwargs)

    return within_block
