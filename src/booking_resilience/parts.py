"""The order of a pipeline's optional parts.

Outermost first: fallback( deadline( retry( limit( rate( breaker( hedge( timeout( call )))))))).

The parts live in `booking_resilience.load`, of which the core imports nothing: a part is known by its `role`, the
keyword that it is given as. Each that wraps an attempt has `call(fn, *args)` and `call_async`, as a breaker has, so
that one part inside of another is `partial(outer.call, inner.call)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from booking_resilience.awaitables import refuse_uncallable
from booking_resilience.breaker import CircuitBreaker
from booking_resilience.checks import check_type, is_a
from booking_resilience.events import recorded, tell_began

Attempt: TypeAlias = Callable[..., Any]
"""Calls its first argument with the others."""

Role: TypeAlias = Literal["limit", "rate", "fallback", "hedge", "timeout"]
R = TypeVar("R", bound=Role, covariant=True)

ALLOWED: dict[Role, str] = {
    "limit": "a ConcurrencyLimit or an AdaptiveLimit",
    "rate": "a RateLimit",
    "fallback": "a Fallback",
    "hedge": "a Hedge",
    "timeout": "a ThreadTimeout",
}


class Part(Protocol[R]):
    """A part of one role: a `RateLimit` is a `Part[Literal["rate"]]`."""

    @property
    def role(self) -> R:
        """The keyword that it is given as."""
        ...


def checked(parts: dict[Role, Any]) -> dict[Role, Any]:
    """Return the parts that there are.

    Raises:
        TypeError: If one isn't what its role asks for.
    """
    for role, part in parts.items():
        fits = part is None or (not isinstance(part, type) and getattr(part, "role", None) == role)
        check_type(role, part, fits, f"{ALLOWED[role]}, or None")
    return {role: part for role, part in parts.items() if part is not None}


def attempt_through(breaker: CircuitBreaker | None, parts: dict[Role, Any], *, is_async: bool) -> Attempt:
    """Return what makes each attempt, through the breaker and the parts that there are."""
    ending = "_async" if is_async else ""
    limits = [parts[role] for role in ("limit", "rate") if role in parts]
    inner = [parts[role] for role in ("hedge", "timeout") if role in parts]
    # Who must know of the places: a hedged call and an abandoned thread; and a rate, whose wait is no latency.
    entered = "_call_holding" if inner or len(limits) == 2 else "call"
    layers = [getattr(limit, entered + ending) for limit in limits]
    if breaker is not None:
        layers.append(getattr(breaker, "call" + ending))
    layers += [getattr(part, "call" + ending) for part in inner]
    attempt: Attempt = layers.pop() if layers else _apply
    while layers:
        attempt = functools.partial(layers.pop(), attempt)
    return attempt if breaker is None or not limits else _unless_refused(breaker, attempt)


def _apply(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Stand where the breaker would."""
    try:
        return fn(*args, **kwargs)
    except TypeError:
        refuse_uncallable(fn)
        raise


def _unless_refused(breaker: CircuitBreaker, attempt: Attempt) -> Attempt:
    """Let a breaker that would refuse now do so before a place is taken or waited for."""
    core = breaker._core

    def call(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if core.calm.is_over:
            core.knock()
        return attempt(fn, *args, **kwargs)

    return call


def falling_back(
    driver: Callable[..., Any],
    fallback: Any,
    told: Callable[[Exception, Exception | None], None] | None,
    *,
    is_async: bool,
) -> Callable[..., Any]:
    """Return what calls the driver, and gives the fallback's answer where that fails.

    `told` is called with the operation's error, and with what came out all the same, None if an answer did.
    """
    if is_async:

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            began = recorded.last
            try:
                return await driver(*args, **kwargs)
            except Exception as error:
                with _Ending(error, began, told):
                    if not fallback.accepts(error):
                        raise
                    return await fallback.answer_async(error)

        return call_async

    def call(*args: Any, **kwargs: Any) -> Any:
        began = recorded.last
        try:
            return driver(*args, **kwargs)
        except Exception as error:
            with _Ending(error, began, told):
                if not fallback.accepts(error):
                    raise
                return fallback.answer(error)

    return call


class _Ending:
    """The end of an operation that failed; whatever comes of it is told."""

    __slots__ = ("_began", "_error", "_told")

    def __init__(
        self, error: Exception, began: int, told: Callable[[Exception, Exception | None], None] | None
    ) -> None:
        self._error, self._began, self._told = error, began, told

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, tb: object) -> None:
        if self._told is not None and (raised is None or is_a(raised, Exception)):  # an interrupt is nobody's failure
            tell_began(self._began, self._told, self._error, raised)
