"""Calls of the SDK's services, and the two colours of making them.

What is done and decided around a call is written once, as a coroutine that asks a colour to do what may wait. `SYNC`
never waits for an event loop, so that such a coroutine runs to its end in one go (`run_now`); `ASYNC` awaits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

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

Work: TypeAlias = Callable[[], Coroutine[Any, Any, T]]
"""What makes one request or several, whatever the colour."""

_UNFIT: Final = (AttributeError, KeyError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request by a method of a service.

    Attributes:
        method: The method, bound to its service; or that of the client itself.
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


class Colour(ABC):
    """How what may wait is done."""

    async def ask(self, call: Call[T], limit: float | None = None) -> T:
        """Make a call a single time, within `limit` seconds if that is not None."""
        try:
            with nullcontext() if limit is None else deadline(limit):
                answer = await self.request(call)
        except Exception as error:
            if call.may_miss and classify(error).type in call.may_miss:
                return cast("T", None)
            raise
        try:
            return call.read(answer)
        except _UNFIT as error:
            evidence = Evidence("unreadable", "yes")
            raise AppwriteCallError(f"the answer cannot be read: {error}", evidence=evidence) from error

    @abstractmethod
    async def request(self, call: Call[Any]) -> Any:
        """Return what the call's method returns."""

    @abstractmethod
    async def attempts(self, plan: Plan, work: Work[T]) -> T:
        """Do the work as the plan says."""

    @abstractmethod
    async def guarded(self, pipeline: Pipeline, work: Work[T]) -> T:
        """Do the work a single time, as one call through the pipeline's limits and breaker."""

    @abstractmethod
    async def through(self, pipeline: Pipeline, operation: str, work: Work[T]) -> T:
        """Do the work through a pipeline."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Sleep."""


class _Sync(Colour):
    async def request(self, call: Call[Any]) -> Any:
        return plain_method(call.method)(*call.args, **call.kwargs)

    async def attempts(self, plan: Plan, work: Work[T]) -> T:
        result: T = drive(plan, run_now)(work)
        return result

    async def guarded(self, pipeline: Pipeline, work: Work[T]) -> T:
        return cast("T", _layers(pipeline, is_async=False)(run_now, work))

    async def through(self, pipeline: Pipeline, operation: str, work: Work[T]) -> T:
        return pipeline.call(operation, run_now, work)

    async def pause(self, seconds: float) -> None:
        clock.sleep(seconds)


class _Async(Colour):
    async def request(self, call: Call[Any]) -> Any:
        owner: Any = getattr(call.method, "__self__", None)
        return await getattr(owner, "client", owner).run(call.method, *call.args, **call.kwargs)

    async def attempts(self, plan: Plan, work: Work[T]) -> T:
        result: T = await drive_async(plan, work)()
        return result

    async def guarded(self, pipeline: Pipeline, work: Work[T]) -> T:
        return cast("T", await _layers(pipeline, is_async=True)(work))

    async def through(self, pipeline: Pipeline, operation: str, work: Work[T]) -> T:
        return await pipeline.call_async(operation, work)

    async def pause(self, seconds: float) -> None:
        await clock.sleep_async(seconds)


def _layers(pipeline: Pipeline, *, is_async: bool) -> Callable[..., Any]:
    """Return what a write passes through: limit, rate and breaker.

    Nothing is hedged or left to a thread of its own: two that write at once couldn't tell what became of either.
    """
    roles: tuple[Role, ...] = ("limit", "rate")
    parts: dict[Role, Any] = {role: part for role in roles if (part := pipeline.part(role)) is not None}
    return attempt_through(pipeline.breaker, parts, is_async=is_async)


SYNC: Final[Colour] = _Sync()
ASYNC: Final[Colour] = _Async()


def run_now(work: Work[T]) -> T:
    """Do the work in the synchronous colour: it waits for nothing that an event loop would have to bring."""
    steps = work()
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise RuntimeError(f"{steps!r} waits for an event loop")


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
