"""What every client asks: what may be sent again, through which breaker, until when, and who hears of it.

`Rules` are a transport's settings, an `Exchange` is one request under way: the state that the loops of loops.py ask
before and after each attempt. Neither knows a client.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

from booking_resilience import clock
from booking_resilience.breaker import CircuitBreaker, Permit
from booking_resilience.breaker.core import Calm
from booking_resilience.breakers import Breakers
from booking_resilience.checks import check_text, check_type
from booking_resilience.deadlines import remaining_time
from booking_resilience.errors import DeadlineExceededError
from booking_resilience.events import recorded
from booking_resilience.pipeline import ErrorRecorder, Pipeline
from booking_resilience.retry import DEFAULT_RETRY, RetryPolicy
from booking_resilience.retry.run import Run
from booking_resilience.verdicts import classify, is_transient

HTTP_RETRY: RetryPolicy = dataclasses.replace(DEFAULT_RETRY, deadline=None)
"""`DEFAULT_RETRY` without a deadline: the client has timeouts of its own, and the caller may set a deadline."""

DEADLINE_HEADER = "X-Request-Timeout-Ms"
KEY_HEADER = "Idempotency-Key"

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1
_PORTS = {"http": 80, "https": 443}
_MOST_MS = 3_600_000
_LEAST = 0.001  # seconds: the header counts whole milliseconds, so there is nothing to say below one


class Rules:
    """A transport's settings.

    Args:
        retry: When to send again; without `retry_on_result`.
        breakers: The breakers, by origin; None for new ones.
        monitor: Gets a record of each request that failed or recovered, or None.
        deadline_header: The request header that tells what is left of the caller's deadline; None to send none.

    Raises:
        TypeError: If a setting is of the wrong type.
        ValueError: If the policy has `retry_on_result`, or the header's name is empty.
    """

    def __init__(
        self,
        retry: RetryPolicy,
        breakers: Breakers | None,
        monitor: ErrorRecorder | None,
        deadline_header: str | None,
    ) -> None:
        check_type("breakers", breakers, breakers is None or isinstance(breakers, Breakers), "Breakers or None")
        if deadline_header is not None:
            check_text("deadline_header", deadline_header)
        Pipeline(retry=retry, monitor=monitor)  # which checks both
        if retry.retry_on_result is not None:
            raise ValueError("retry must be a policy without retry_on_result: responses are judged by their status")
        self.header = deadline_header
        self.breakers: Breakers = Breakers() if breakers is None else breakers
        self.monitor = monitor
        self._freely = retry
        self._if_never_left = dataclasses.replace(
            retry, retry_on=lambda error: classify(error).sent == "no" and retry.passes(error)
        )
        self._never = dataclasses.replace(retry, retry_on=())

    def begin(self, method: str, origin: str, headers: Mapping[str, str], *, can_repeat: bool) -> Exchange:
        """Begin a request.

        Args:
            method: Its HTTP method.
            origin: Where it goes, as `origin_of` writes it.
            headers: Its headers, found whatever their case.
            can_repeat: Whether its body can be sent again.
        """
        method = method.upper()
        if not can_repeat:
            policy = self._never
        elif method in _SAFE or headers.get(KEY_HEADER):
            policy = self._freely
        else:
            policy = self._if_never_left
        return Exchange(self, f"{method} {origin}", policy, self.breakers.get(origin))


class Exchange:
    """One request under way, with all its attempts.

    Attributes:
        operation: Its name in records, events and errors.
        end: When it must have ended, on the monotonic clock; None for never.
        stop: When the attempt under way must have ended, on the same clock; None for never.
        left: Seconds that the attempt had when it began; None for no limit.
        header: What the attempt sends as its deadline header, in milliseconds; None for nothing.
    """

    __slots__ = (
        "_began", "_breaker", "_caller", "_calm", "_discarded", "_permit", "_policy", "_rules", "_run", "_started",
        "end", "header", "left", "operation", "stop",
    )  # fmt: skip

    def __init__(self, rules: Rules, operation: str, policy: RetryPolicy, breaker: CircuitBreaker) -> None:
        self.operation = operation
        self._rules, self._policy, self._breaker = rules, policy, breaker
        self._calm: Calm | None = None
        self._permit: Permit | None = None
        self._run: Run | None = None
        self._discarded = False
        self._started, self._began = clock.monotonic(), recorded.last
        left = remaining_time()
        self._caller = None if left is None else self._started + left
        self.end = _earlier(self._caller, None if policy.deadline is None else self._started + policy.deadline)
        self.stop: float | None = None
        self.left: float | None = None
        self.header: str | None = None

    @property
    def is_own(self) -> bool:
        """Whether the attempt's end is a limit of the policy, and not what the caller's deadline leaves."""
        return self.stop != self._caller

    def attempt(self) -> None:
        """Begin an attempt.

        Raises:
            CircuitOpenError: If the breaker refuses.
            DeadlineExceededError: If less than a millisecond is left of the caller's deadline.
        """
        timeout = self._policy.attempt_timeout
        if self.end is not None or timeout is not None:
            now = clock.monotonic()
            self.stop = _earlier(self.end, None if timeout is None else now + timeout)
            self.left = None if self.stop is None else max(_LEAST, self.stop - now)
            if self._caller is not None:
                left = self._caller - now
                if left < _LEAST:
                    raise self._too_late("had passed before the attempt")
                self.header = str(max(1, min(_MOST_MS, int(left * 1000))))
        self._calm = calm = self._breaker._core.calm
        self._permit = self._breaker.acquire() if calm.is_over else None  # a healthy one costs nothing, as in `call`

    def look(self) -> None:
        """Look at the clock once more, right before the attempt is sent.

        Raises:
            DeadlineExceededError: If the caller's deadline has passed.
        """
        if self._caller is not None and clock.monotonic() >= self._caller:
            raise self._too_late("had passed before the attempt")

    def goes_on_after(self, error: BaseException) -> bool:
        """Note that the attempt raised; tell whether there will be another."""
        self._settle(self._evidence(error))
        return isinstance(error, Exception) and self._known().goes_on_after(error)

    def goes_on_with(self, error: Exception | None) -> bool:
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

    def pause(self) -> None:
        """Wait until the next attempt is due.

        Raises:
            DeadlineExceededError: If the time was up after it, and the attempt before was answered.
            Exception: What the attempt before raised, if it raised.
        """
        run = self._known()
        if not run.pause():
            raise self._given_up(run)

    async def pause_async(self) -> None:
        """Do as `pause`, without blocking the event loop."""
        run = self._known()
        if not await run.pause_async():
            raise self._given_up(run)

    def close(self) -> None:
        """Let go of the errors."""
        if self._run is not None:
            self._run.close()

    def _known(self) -> Run:
        """Return the run that counts the failures; the first failure makes it."""
        if self._run is None:
            pipeline = Pipeline(retry=self._policy, breaker=self._breaker, monitor=self._rules.monitor)
            self._run = Run(pipeline._plan_of(self.operation), self._started, self.end, self._began)
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
        client's own timeout, cut short by that, included.
        """
        if self._caller is not None and clock.monotonic() >= self._caller:
            return self._too_late("passed during the attempt")
        is_cut_off = isinstance(error, DeadlineExceededError) and error.end is not None and error.end == self.end
        return TimeoutError("the attempt took too long") if is_cut_off else error

    def _given_up(self, run: Run) -> BaseException:
        if run.error is not None and not self._discarded:
            return run.error
        error = self._too_late("passed before the next attempt")
        error.__cause__ = run.error
        return error

    def _too_late(self, what: str) -> DeadlineExceededError:
        error = DeadlineExceededError(f"{self.operation}: the deadline {what}")
        error.end = self.end
        return error


@functools.lru_cache(1024)
def origin_of(scheme: str, host: str, port: int | None) -> str:
    """Return `scheme://host:port` in lower case, with the port that the scheme implies."""
    scheme, host = scheme.lower(), host.lower()
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    port = _PORTS.get(scheme) if port is None else port
    return f"{scheme}://{host}" if port is None else f"{scheme}://{host}:{port}"


def _earlier(end: float | None, other: float | None) -> float | None:
    if end is None or other is None:
        return other if end is None else end
    return min(end, other)
