"""Retrying a block of code instead of a function: `for attempt in retry_attempts(): with attempt: ...`."""

from __future__ import annotations

import weakref
from types import TracebackType
from typing import Self

from booking_resilience import clock
from booking_resilience.checks import is_a
from booking_resilience.deadlines import Node, get_node, hold_to, leave
from booking_resilience.events import Listener, RetryEvent, recorded
from booking_resilience.retry.plan import Plan, check_arguments
from booking_resilience.retry.policy import DEFAULT_RETRY, RetryPolicy
from booking_resilience.retry.run import Run


def retry_attempts(
    *,
    policy: RetryPolicy = DEFAULT_RETRY,
    operation: str = "retry_attempts",
    on_event: Listener[RetryEvent] | None = None,
) -> Attempts:
    """Return the attempts at a block of code, for a `for` or an `async for` loop.

    Inside the block `remaining_time()` works, but the block is never cut off. The loop ends after the first block that
    succeeds.

    Raises:
        ValueError: If the policy has `retry_on_result`: a block has no result.

    >>> for attempt in retry_attempts():
    ...     with attempt:
    ...         print("attempt", attempt.number)
    attempt 1
    """
    check_arguments(policy, operation, on_event)
    if policy.retry_on_result is not None:
        raise ValueError("policy must have no retry_on_result for retry_attempts: a block has no result")
    return Attempts(Plan(policy, operation, on_event))


class Attempts:
    """The attempts at one block; made by `retry_attempts`. Each loop over it is an operation of its own.

    The loop, not the attempt, holds the deadline of the block: a variable may keep the attempt after the loop.
    """

    __slots__ = ("__weakref__", "_attempt", "_plan", "_run", "unspent")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._run: Run | None = None
        self._attempt: Attempt | None = None
        self.unspent: _Unspent | None = None

    def __iter__(self) -> Attempts:
        return Attempts(self._plan)

    def __aiter__(self) -> Attempts:
        return Attempts(self._plan)

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
            started = clock.monotonic()
            self._run = Run(self._plan, started, self._plan.ends(started, get_node())[1], recorded.last)
        return self._run

    def _next_attempt(self, run: Run) -> Attempt:
        run.is_paid, self.unspent = False, None  # by now it is spent
        self._attempt = Attempt(run, self)
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

    __slots__ = ("__weakref__", "_is_entered", "_loop", "_node", "_run", "goes_on", "number", "unspent")

    def __init__(self, run: Run, loop: Attempts) -> None:
        self._run: Run | None = run
        self._loop = weakref.ref(loop)
        self._is_entered = False
        self._node: Node | None = None
        self.unspent: _Unspent | None = None  # where the loop is gone already
        self.number: int = run.attempt + 1
        self.goes_on: bool | None = None

    def __enter__(self) -> Self:
        if self._run is None or self._is_entered:
            raise RuntimeError("an attempt of retry_attempts can be entered only once")
        self._is_entered = True
        end = self._run.end
        stop = self._run.plan.stop(end)
        if stop is not None:
            self._node = hold_to(stop, self._loop() or self, of_attempt=stop is not end)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> bool:
        # The run leads to the errors, their tracebacks to the frame of the loop, and that to this attempt.
        run, self._run = self._run, None
        if run is None or not self._is_entered:
            raise RuntimeError("an attempt of retry_attempts must be entered before it is left, and left only once")
        if self._node is not None:
            self._node[0] = None
            leave(self._node)
        self.goes_on = False
        try:
            if error is None:
                run.succeeded()
            elif is_a(error, Exception):
                self.goes_on = run.goes_on_after(error)
        finally:
            if not self.goes_on:
                run.close()
        if run.is_paid:
            (self._loop() or self).unspent = _Unspent(run)
        return self.goes_on


class _Unspent:
    """Gives the next attempt's token back if the loop is left before it.

    Not the loop's own finaliser: Python swallows what a signal's handler raises in one, so it only exists when needed.
    """

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    def __del__(self) -> None:
        self._run.refund()
