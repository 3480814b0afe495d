"""Calls of the SDK's services, and the two colours of making them.

What is done and decided around a call is written once, as a coroutine that asks a colour to do what may wait. `SYNC`
never waits for an event loop, so that such a coroutine runs to its end in one go (`run_now`); `ASYNC` awaits.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from booking_resilience import clock
from booking_resilience.appwrite.classify import classify
from booking_resilience.appwrite.evidence import Evidence
from booking_resilience.appwrite.failures import AppwriteCallError
from booking_resilience.appwrite.sdk import plain_method
from booking_resilience.deadlines import deadline
from booking_resilience.parts import Role, attempt_through
from booking_resilience.pipeline import Pipeline
from booking_resilience.retry.plan import Plan
from booking_resilience.retry.run import drive, drive_async

T = TypeVar("T")

_UNFIT: Final = (AttributeError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request by a method of a service.

    Attributes:
        method: The method, bound to its service.
        args: Its arguments.
        read: Makes the result out of what the method returns.
        kwargs: Its keyword arguments.
        may_miss: The types of Appwrite's errors that aren't failures here: the result is None then.
    """

    method: Callable[..., Any]
    args: tuple[Any, ...]
    read: Callable[[Any], T]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    may_miss: tuple[str, ...] = ()

    def now(self) -> T:
        """Make the call, with a service of a synchronous client."""
        try:
            answer = plain_method(self.method)(*self.args, **self.kwargs)
        except Exception as error:
            if not self._is_missing(error):
                raise
            return cast("T", None)
        return self._read(answer)

    async def awaited(self) -> T:
        """Make the call, with a service of an asynchronous client."""
        try:
            answer = await client_of(self.method).run(self.method, *self.args, **self.kwargs)
        except Exception as error:
            if not self._is_missing(error):
                raise
            return cast("T", None)
        return self._read(answer)

    def _is_missing(self, error: Exception) -> bool:
        return bool(self.may_miss) and classify(error).type in self.may_miss

    def _read(self, answer: Any) -> T:
        try:
            return self.read(answer)
        except _UNFIT as error:
            evidence = Evidence("unreadable", "yes")
            raise AppwriteCallError(f"the answer cannot be read: {error}", evidence=evidence) from error


@dataclass(frozen=True, slots=True)
class Steps(Generic[T]):
    """Several requests that are made as one attempt.

    Attributes:
        make: Returns the coroutine that makes them in a colour.
    """

    make: Callable[[Colour], Coroutine[Any, Any, T]]

    def now(self) -> T:
        """Make them, with a service of a synchronous client."""
        return run_now(self.make(SYNC))

    async def awaited(self) -> T:
        """Make them, with a service of an asynchronous client."""
        return await self.make(ASYNC)


class Colour(Protocol):
    """How what may wait is done."""

    async def attempts(self, plan: Plan, pipeline: Pipeline | None, call: Call[T] | Steps[T]) -> T:
        """Make a call as the plan says, each attempt through the pipeline's limits and breaker."""
        ...

    async def ask(self, call: Call[T], limit: float | None = None) -> T:
        """Make a call a single time, within `limit` seconds if that is not None."""
        ...

    async def guarded(self, pipeline: Pipeline, steps: Steps[T]) -> T:
        """Make several requests a single time, as one call through the pipeline's limits and breaker."""
        ...

    async def pause(self, seconds: float) -> None:
        """Sleep."""
        ...

    async def through(self, pipeline: Pipeline, operation: str, call: Call[T]) -> T:
        """Make a call through a pipeline."""
        ...


class _Sync:
    async def attempts(self, plan: Plan, pipeline: Pipeline | None, call: Call[T] | Steps[T]) -> T:
        through = _layers(pipeline, is_async=False)
        result: T = drive(plan, call.now)() if through is None else drive(plan, through)(call.now)
        return result

    async def ask(self, call: Call[T], limit: float | None = None) -> T:
        with _within(limit):
            return call.now()

    async def guarded(self, pipeline: Pipeline, steps: Steps[T]) -> T:
        through = _layers(pipeline, is_async=False)
        return steps.now() if through is None else cast("T", through(steps.now))

    async def pause(self, seconds: float) -> None:
        clock.sleep(seconds)

    async def through(self, pipeline: Pipeline, operation: str, call: Call[T]) -> T:
        return pipeline.call(operation, call.now)


class _Async:
    async def ask(self, call: Call[T], limit: float | None = None) -> T:
        with _within(limit):
            return await call.awaited()

    async def guarded(self, pipeline: Pipeline, steps: Steps[T]) -> T:
        through = _layers(pipeline, is_async=True)
        return await (steps.awaited() if through is None else through(steps.awaited))

    async def pause(self, seconds: float) -> None:
        await clock.sleep_async(seconds)

    async def attempts(self, plan: Plan, pipeline: Pipeline | None, call: Call[T] | Steps[T]) -> T:
        through = _layers(pipeline, is_async=True)
        made = drive_async(plan, call.awaited)() if through is None else drive_async(plan, through)(call.awaited)
        result: T = await made
        return result

    async def through(self, pipeline: Pipeline, operation: str, call: Call[T]) -> T:
        return await pipeline.call_async(operation, call.awaited)


def _layers(pipeline: Pipeline | None, *, is_async: bool) -> Callable[..., Any] | None:
    """Return what a write passes through: limit, rate and breaker; None if there are none.

    Nothing is hedged or left to a thread of its own: two that write at once couldn't tell what became of either.
    """
    if pipeline is None:
        return None
    roles: tuple[Role, ...] = ("limit", "rate")
    parts = {role: part for role in roles if (part := pipeline.part(role)) is not None}
    return attempt_through(pipeline.breaker, parts, is_async=is_async)


def _within(limit: float | None) -> AbstractContextManager[None]:
    return nullcontext() if limit is None else deadline(limit)


SYNC: Final[Colour] = _Sync()
ASYNC: Final[Colour] = _Async()


def run_now(steps: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the synchronous colour: it waits for nothing that an event loop would have to bring."""
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError(f"{steps!r} waits for an event loop")


def client_of(method: Callable[..., Any]) -> Any:
    """Return the client of the service that a method is bound to; None if it is none of a service."""
    service = getattr(method, "__self__", None)
    return getattr(service, "client", None)


def check_colour(tables: Any, *, is_async: bool, called: str, instead: str) -> None:
    """Check that a service belongs to a client of the colour that is called.

    Raises:
        TypeError: If it does not; it names what to call instead.
    """
    found = getattr(type(getattr(tables, "client", None)), "is_asynchronous", False)
    if found is not is_async:
        kind = "an asynchronous" if is_async else "a synchronous"
        other = "`AsyncAppwriteClient`" if is_async else "`AppwriteClient`"
        raise TypeError(f"{called} needs a service of {kind} client ({other}), not {tables!r}; use {instead} with it")
