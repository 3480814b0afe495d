"""Functions that are known to block, so that an event loop need not call them to find out."""

from __future__ import annotations

import functools
import inspect
import sys
from types import FunctionType

_OURS = "booking_resilience."
_SDK = "appwrite."


def refuse_synchronous(fn: object) -> None:
    """Raise `TypeError` for a synchronous function of this library or method of Appwrite's SDK, before it is called.

    What isn't known to be synchronous passes: it may give an awaitable.
    """
    while isinstance(fn, functools.partial):
        fn = fn.func
    function = getattr(fn, "__func__", fn)
    if not isinstance(function, FunctionType):
        return
    owner = getattr(fn, "__self__", None)
    if owner is not None and _is_of_the_sdk(owner) and not inspect.iscoroutinefunction(function):
        instead = "`client.run` of an AsyncAppwriteClient, or "
    elif str(function.__module__).startswith(_OURS) and _is_synchronous(function):
        instead = _twin(function, owner)
    else:
        return
    raise TypeError(
        f"{function.__qualname__} is synchronous and was not called, since it would block the event loop; use "
        f"{instead}`await asyncio.to_thread(pipeline.call, …)`"
    )


def _is_synchronous(function: FunctionType) -> bool:
    """Tell whether the function is none that was made for somebody else's, and gives no coroutine."""
    return "<locals>" not in function.__qualname__ and not inspect.iscoroutinefunction(function)


def _is_of_the_sdk(owner: object) -> bool:
    return any(str(kind.__module__).startswith(_SDK) for kind in type(owner).__mro__)


def _twin(function: FunctionType, owner: object) -> str:
    """Return the asynchronous form of a function, and a comma; nothing if there is none under the usual names."""
    module, name = sys.modules.get(function.__module__), f"{function.__name__}_async"
    if owner is None:
        return f"`{name}`, or " if hasattr(module, name) else ""
    if hasattr(type(owner), name):
        return f"`{name}`, or "
    kind = f"Async{type(owner).__name__}"
    return f"`{kind}`, or " if hasattr(module, kind) else ""
