"""Retrying a block of code instead of a function: `for attempt in retry_attempts(): with attempt: ...`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from booking_resilience import clock
from booking_resilience.deadlines import current_end, reset
from booking_resilience.events import recorded
from booking_resilience.retry.plan import Plan, check_arguments, too_late
from booking_resilience.retry.policy import DEFAULT_RETRY, RetryPolicy
from booking_resilience.retry.run import Run

if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType
    from typing import Self

    from booking_resilience.events import Listener, RetryEvent


def retry_attempts(
    *,
    policy: RetryPolicy = DEFAULT_RETRY,
    operation: str = "retry_attempts",
    on_event: Listener[RetryEvent] | None = None,
) -> Attempts:
    """Return the attempts at a block of code, for a `for` or an `async for` loop.

    Inside the block `remaining_time()` works, but the block is never cut off, and the policy's `retry_on_result` has
    nothing to look at. The loop ends after the first block that succeeds.

    >>> for attempt in retry_attempts():
    ...     with attempt:
    ...         print("attempt", attempt.number)
    attempt 1
    """
    check_arguments(policy, on_event)
    return Attempts(Plan(policy, operation, on_event))


class Attempts:
    """The attempts at one block; made by `retry_attempts`. Each loop over it is an operation of its own."""

    __slots__ = ("_attempt", "_is_taken", "_plan", "_run")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._run: Run | None = None
        self._attempt: Attempt | None = None
        self._is_taken = False

    def __iter__(self) -> Attempts:
        if self._is_taken or self._run is not None:
            return Attempts(self._plan)
        self._is_taken = True  # another loop may begin, in another thread, before this one has its first attempt
        return self

    def __aiter__(self) -> Attempts:
        return self.__iter__()

    def __next__(self) -> Attempt:
        run = self._next_run()
        if run is None:
            raise StopIteration
        if run.delay and not run.pause():
            raise self._late(run)
        return self._next_attempt(run)

    async def __anext__(self) -> Attempt:
        run = self._next_run()
        if run is None:
            raise StopAsyncIteration
        if run.attempt and not await run.pause_async():
            raise self._late(run)
        return self._next_attempt(run)

    def _next_run(self) -> Run | None:
        """Return the run, begun if it was not; None if the last attempt has succeeded."""
        if self._attempt is not None:
            if self._attempt.goes_on is None:
                raise RuntimeError("each attempt of retry_attempts must be entered and left: `with attempt:`")
            return self._run if self._attempt.goes_on else None
        if self._run is None:
            started, end, limit = clock.monotonic(), current_end.get(), self._plan.policy.deadline
            if limit is not None and (end is None or started + limit < end):
                end = started + limit
            if end is not None and end <= started:
                raise too_late(self._plan, end)
            self._run = Run(self._plan, started, end, recorded.last)
        return self._run

    def _next_attempt(self, run: Run) -> Attempt:
        self._attempt = Attempt(run)
        return self._attempt

    def _late(self, run: Run) -> BaseException:
        error = run.error
        run.close()
        assert error is not None  # noqa: S101 - a block has no result, so only an error can have failed it
        return error


class Attempt:
    """One attempt at a block: a context manager that swallows an error which will be followed by another attempt.

    Entered once; `RuntimeError` if it is entered again.

    Attributes:
        number: Which attempt it is, from 1.
    """

    __slots__ = ("_run", "_token", "goes_on", "number")

    def __init__(self, run: Run) -> None:
        self._run: Run | None = run
        self._token: Token[float | None] | None = None
        self.number: int = run.attempt + 1
        self.goes_on: bool | None = None

    def __enter__(self) -> Self:
        if self._run is None or self._token is not None:
            raise RuntimeError("an attempt of retry_attempts can be entered once")
        end, limit = self._run.end, self._run.plan.policy.attempt_timeout
        if limit is not None and (end is None or clock.monotonic() + limit < end):
            end = clock.monotonic() + limit
        self._token = current_end.set(end)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        # The run leads to the errors, their tracebacks to the frame of the loop, and that to this attempt.
        run, self._run = self._run, None
        if run is None or self._token is None:
            raise RuntimeError("an attempt of retry_attempts is left once, after it was entered")
        reset(self._token)
        self.goes_on = False
        try:
            if isinstance(error, Exception):
                self.goes_on = run.goes_on_after(error)
            elif error is None:
                run.succeeded()
        finally:
            if not self.goes_on:
                run.close()
        return self.goes_on
