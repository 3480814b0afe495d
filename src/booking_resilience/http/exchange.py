"""One request under way, with all its attempts, whatever the client and the colour.

The sleep is outside of the `except` block, so that the next attempt's error does not get this one's as context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from booking_resilience import clock
from booking_resilience.breaker import Permit
from booking_resilience.breaker.core import Calm
from booking_resilience.cutoff import cut_off
from booking_resilience.deadlines import get_node, in_force
from booking_resilience.errors import DeadlineExceededError
from booking_resilience.events import recorded
from booking_resilience.http.rules import Rules
from booking_resilience.pipeline import Pipeline
from booking_resilience.retry.plan import earlier
from booking_resilience.retry.run import Run
from booking_resilience.verdicts import is_transient

_MOST_MS = 3_600_000
_LEAST = 0.001  # seconds: the header counts whole milliseconds, so there is nothing to say below one


class Exchange(ABC):
    """A request under way. What differs between clients stands in a subclass for each.

    Args:
        rules: The transport's settings.
        request: The client's request; its headers are put back at the end.
        origin: Where it goes, as `origin_of` writes it.
        handle: Sends a request; returns the response, or what gives it when awaited.
        can_repeat: Whether its body can be sent again.

    Attributes:
        request: The request.
        arguments: What `handle` is given besides.
        left: Seconds that the attempt under way had when it began; None for no limit.
    """

    __slots__ = (
        "_began", "_breaker", "_caller", "_calm", "_discarded", "_end", "_handle", "_headers", "_method", "_origin",
        "_permit", "_policy", "_rules", "_run", "_started", "_stop", "arguments", "left", "request",
    )  # fmt: skip

    def __init__(
        self, rules: Rules, request: Any, origin: str, handle: Callable[..., Any], *, can_repeat: bool
    ) -> None:
        self.request: Any = request
        self._method = method = (request.method or "GET").upper()
        self._headers = headers = request.headers
        self._rules, self._origin, self._handle = rules, origin, handle
        self._policy = policy = rules.policy_for(method, headers, can_repeat=can_repeat)
        self._breaker = rules.breakers.get(origin)
        self._calm: Calm | None = None
        self._permit: Permit | None = None
        self._run: Run | None = None
        self._discarded = False
        self._started, self._began = clock.monotonic(), recorded.last
        node = in_force(get_node())
        self._caller = self._end = None if node is None else node[1]
        if policy.deadline is not None:
            self._end = earlier(self._end, self._started + policy.deadline)
        self._stop: float | None = None  # when the attempt under way must have ended
        self.arguments: tuple[Any, ...] = ()
        self.left: float | None = None

    @property
    def _operation(self) -> str:
        return f"{self._method} {self._origin}"

    @abstractmethod
    def error_of(self, response: Any) -> Exception | None:
        """Return the error that stands for a response with a status of 400 or more, else None."""

    def limit(self, left: float) -> None:  # noqa: B027 - a hook: some clients can't be told
        """Tell the client that the attempt has so many seconds, as far as it can be told."""

    async def discard_async(self, response: Any) -> None:
        """Close a response, without reading what is left of it."""
        response.close()

    def send(self) -> Any:
        """Make the attempts; return the last one's response."""
        try:
            while True:
                try:
                    self._begin()
                    response = self._once()
                except BaseException as error:
                    if not self.goes_on_after(error):
                        raise
                else:
                    if not self._goes_on_with(self.error_of(response)):
                        return response
                    response.close()
                if not self._known().pause():
                    raise self._given_up()
        finally:
            self.close()

    async def send_async(self) -> Any:
        """Do the same as `send` in an event loop, cutting off each attempt at its end."""
        try:
            while True:
                try:
                    self._begin()
                    if self._stop is None:
                        response = await self._once()
                    else:
                        kind = DeadlineExceededError if self._stop == self._end else TimeoutError
                        is_own = self._stop != self._caller
                        response = await cut_off(self._once(), self._stop, kind, self._operation, is_own)
                except BaseException as error:
                    if not self.goes_on_after(error):
                        raise
                else:
                    if not self._goes_on_with(self.error_of(response)):
                        return response
                    await self.discard_async(response)
                if not await self._known().pause_async():
                    raise self._given_up()
        finally:
            self.close()

    def goes_on_after(self, error: BaseException) -> bool:
        """Note that the attempt raised; tell whether there will be another."""
        self._settle(self._evidence(error))
        return isinstance(error, Exception) and self._known().goes_on_after(error)

    def end_now(self) -> None:
        """Let the attempt under way be the last one."""
        self._known().end = self._end = self._started

    def close(self) -> None:
        """Give the request its own headers again, and let go of the errors."""
        self.request.headers = self._headers
        if self._run is not None:
            self._run.close()

    def _begin(self) -> None:
        """Begin an attempt.

        Raises:
            CircuitOpenError: If the breaker refuses.
            DeadlineExceededError: If less than a millisecond is left of the caller's deadline.
        """
        timeout = self._policy.attempt_timeout
        if self._end is not None or timeout is not None:
            now = clock.monotonic()
            self._stop = self._end if timeout is None else earlier(self._end, now + timeout)
            self.left = None if self._stop is None else max(_LEAST, self._stop - now)
            if self._caller is not None:
                left = self._caller - now
                if left < _LEAST:
                    raise self._too_late("had passed before the attempt")
                if self._rules.header is not None:
                    self.request.headers = self._headers.copy()
                    self.request.headers[self._rules.header] = str(max(1, min(_MOST_MS, int(left * 1000))))
        self._calm = calm = self._breaker._core.calm
        self._permit = self._breaker.acquire() if calm.is_over else None  # a healthy one costs nothing, as in `call`

    def _once(self) -> Any:
        """Send the request, after one more look at the clock."""
        if self.left is not None:
            self.limit(self.left)
            if self._caller is not None and clock.monotonic() >= self._caller:
                raise self._too_late("had passed before the attempt")
        return self._handle(self.request, *self.arguments)

    def _goes_on_with(self, error: Exception | None) -> bool:
        """Note that the attempt was answered; tell whether there will be another all the same.

        Args:
            error: What stands for an answer with a status of 400 or more; None for any other answer.
        """
        self._settle(error)
        if error is not None and (is_transient(error) or self._policy.passes(error)):
            self._discarded = self._known().goes_on_after(error)
            return self._discarded
        if self._run is not None or self._policy.budget is not None:
            self._known().succeeded()
        return False

    def _known(self) -> Run:
        """Return the run that counts the failures; the first failure makes it."""
        if self._run is None:
            pipeline = Pipeline(retry=self._policy, breaker=self._breaker, monitor=self._rules.monitor)
            self._run = Run(pipeline._plan_of(self._operation), self._started, self._end, self._began)
        return self._run

    def _settle(self, error: BaseException | None) -> None:
        calm, permit = self._calm, self._permit
        self._calm = self._permit = None
        if permit is None:
            if calm is None or (error is None and not calm.is_over):
                return
            permit = Permit(self._breaker._core, calm.epoch)
        permit.success() if error is None else permit.failure(error)

    def _evidence(self, error: BaseException) -> BaseException:
        """Return what the breaker should take an error for.

        A cut-off at the policy's deadline is a timeout; what comes after the caller's deadline says nothing, the
        client's own timeout, cut short by that, included. Timers of event loops may be early: uvloop's by half a
        millisecond.
        """
        if self._caller is not None and clock.monotonic() > self._caller - _LEAST:
            return self._too_late("passed during the attempt")
        is_cut_off = isinstance(error, DeadlineExceededError) and error.end is not None and error.end == self._end
        return TimeoutError("the attempt took too long") if is_cut_off else error

    def _given_up(self) -> BaseException:
        """Return what comes out where the time was up after a pause."""
        raised = self._known().error
        if raised is not None and not self._discarded:
            return raised
        error = self._too_late("passed before the next attempt")
        error.__cause__ = raised
        return error

    def _too_late(self, what: str) -> DeadlineExceededError:
        error = DeadlineExceededError(f"{self._operation}: the deadline {what}")
        error.end = self._end
        return error


def shorter(wait: Any, left: float) -> float:
    """Return a client's timeout of so many seconds, or of none, cut to what is left."""
    return min(wait, left) if isinstance(wait, (int, float)) else left
