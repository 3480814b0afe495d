"""How the public names look to type checkers: checked by mypy and pyright, never run."""

from __future__ import annotations

import datetime
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    MutableMapping,
    Sequence,
)
from functools import partial
from typing import Any, Literal, assert_type

from booking_resilience import (
    DEFAULT_REDACTION,
    DEFAULT_RETRY,
    AlertEvent,
    AlertRule,
    AsyncChatProvider,
    AsyncChatService,
    BatchOutcome,
    BatchResult,
    BookingSource,
    BookingSuccess,
    BreakerEvent,
    Breakers,
    BreakerSnapshot,
    BreakerState,
    ChatMessage,
    ChatProvider,
    ChatRoom,
    ChatService,
    CircuitBreaker,
    CircuitOpenError,
    DeadlineExceededError,
    ErrorCategory,
    ErrorGroup,
    ErrorMonitor,
    ErrorRecord,
    ErrorRecorder,
    ErrorStats,
    FailedAttempt,
    FailureRate,
    LimitExceededError,
    Listener,
    MonitorSnapshot,
    Page,
    Permit,
    Pipeline,
    Redaction,
    ResilienceError,
    RetryBudget,
    RetryEvent,
    RetryPolicy,
    Settings,
    Severity,
    SharedSnapshot,
    Subscription,
    TransientError,
    Verdict,
    attempts_of,
    booking_attribution,
    classify,
    deadline,
    is_backend_failure,
    is_no_evidence,
    is_transient,
    iter_batch,
    iter_batch_async,
    iter_messages,
    iter_messages_async,
    load_json,
    message_for,
    remaining_time,
    resolve_source,
    retry_attempts,
    retrying,
    run_batch,
    run_batch_async,
    with_retry,
    with_retry_async,
)
from booking_resilience.dashboard import Health, HealthCheck, dashboard, dashboard_wsgi, health
from booking_resilience.dashboard.mount import Receive, Send
from booking_resilience.durable import Durable, Waiting
from booking_resilience.http import HTTP_RETRY
from booking_resilience.http.httpx2 import ResilientTransport
from booking_resilience.http.requests import ResilientAdapter
from booking_resilience.load import (
    AdaptiveLimit,
    ConcurrencyLimit,
    Fallback,
    Hedge,
    LimitSnapshot,
    RateLimit,
    ThreadTimeout,
    priority,
)
from booking_resilience.sentry import SentrySink
from booking_resilience.telemetry.logs import LogRecords
from booking_resilience.telemetry.otel import Telemetry
from booking_resilience.web import Problem, idempotent_id, problem_for


def number() -> int:
    """Return a number."""
    return 1


def shout(text: str, *, times: int = 1) -> str:
    """Return a text."""
    return text.upper() * times


async def fetch(text: str, *, times: int = 1) -> bytes:
    """Return bytes, later."""
    return text.encode() * times


class Shop:
    """Something with methods."""

    def order(self, item: str, number: int = 1) -> str:
        """Return a text."""
        return item * number

    async def order_async(self, item: str) -> bytes:
        """Return bytes, later."""
        return item.encode()

    @retrying
    def retried(self, item: str, number: int = 1) -> str:
        """Return a text."""
        return item * number

    @retrying(policy=DEFAULT_RETRY, operation="later")
    async def retried_async(self, item: str) -> bytes:
        """Return bytes, later."""
        return item.encode()

    @classmethod
    @retrying
    def made(cls, item: str) -> Shop:
        """Return a shop."""
        return cls()

    @staticmethod
    @retrying
    def price(item: str) -> float:
        """Return a number."""
        return float(item)


# Retry


def on_retry(event: RetryEvent) -> None:
    """Listen."""
    assert_type(event.operation, str)
    assert_type(event.attempt, int)
    assert_type(event.outcome, Literal["retrying", "recovered", "gave_up"])
    assert_type(event.reason, Literal["attempts", "deadline", "budget", "not_transient", "circuit_open"] | None)
    assert_type(event.error, BaseException | None)
    assert_type(event.delay, float | None)
    assert_type(event.elapsed, float)


listener: Listener[RetryEvent] = on_retry

assert_type(with_retry(number), int)
assert_type(with_retry(lambda: "x", operation="op", policy=DEFAULT_RETRY, on_event=on_retry), str)
assert_type(with_retry(partial(shout, "x", times=2)), str)
assert_type(with_retry(partial(Shop().order, "x")), str)
assert_type(with_retry(Shop), Shop)

assert_type(retrying(shout)("x", times=2), str)
assert_type(retrying(policy=DEFAULT_RETRY, operation="op", on_event=on_retry)(shout)("x", times=2), str)
assert_type(retrying(Shop)(), Shop)
assert_type(Shop().retried("x", number=2), str)
assert_type(Shop.made("x"), Shop)
assert_type(Shop.price("1"), float)
plain: Callable[[Shop, str], str] = Shop.retried
retrying(shout)(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # its argument is a text
Shop().retried("x", colour=3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] # there is no such one
with_retry(shout)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # it needs an argument

policy = RetryPolicy(
    max_attempts=3,
    base_delay=0.3,
    multiplier=2,
    max_delay=3,
    jitter="full",
    deadline=None,
    attempt_timeout=1.0,
    retry_on=(ConnectionError, TimeoutError),
    retry_on_result=lambda result: result is None,
    budget=RetryBudget(capacity=10.0, initial=5.0, deposit=0.1, cost=1.0),
)
assert_type(policy.delays(), tuple[float, ...])
assert_type(policy.max_attempts, int)
assert_type(policy.deadline, float | None)
assert_type(policy.budget, RetryBudget | None)
RetryPolicy(retry_on=ConnectionError)
RetryPolicy(retry_on=is_transient)
RetryPolicy(retry_on=lambda error: "again" in str(error))
RetryPolicy(3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] # settings are keywords
RetryPolicy(jitter="half")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # it knows "full" only
policy.max_attempts = 4  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue] # it is frozen

assert_type(RetryBudget().tokens, float)
assert_type(RetryBudget().try_spend(), bool)
assert_type(is_transient(ValueError()), bool)
assert_type(is_backend_failure(ValueError()), bool)
assert_type(is_no_evidence(ValueError()), bool)
verdict = classify(ValueError())
assert_type(verdict, Verdict)
assert_type(verdict.sent, Literal["no", "maybe", "yes"])
assert_type(verdict.retry_after, float | None)
CircuitBreaker("b", failure_on=is_backend_failure, ignore=is_no_evidence)
assert_type(attempts_of(ValueError()), tuple[FailedAttempt, ...])
assert_type(remaining_time(), float | None)
with deadline(3.0) as nothing:
    assert_type(nothing, None)
for failed in attempts_of(ValueError()):
    assert_type(failed.number, int)
    assert_type(failed.error, BaseException)
    assert_type(failed.delay, float | None)
    assert_type(failed.elapsed, float)
for attempt in retry_attempts(policy=policy, operation="op", on_event=on_retry):
    with attempt:
        assert_type(attempt.number, int)


async def retries() -> None:
    """Retry what is asynchronous."""
    assert_type(await with_retry_async(lambda: fetch("x"), operation="op", policy=policy, on_event=on_retry), bytes)
    assert_type(await with_retry_async(partial(fetch, "x", times=2)), bytes)
    assert_type(await with_retry_async(partial(Shop().order_async, "x")), bytes)
    assert_type(await retrying(fetch)("x", times=2), bytes)
    assert_type(await retrying(policy=policy)(fetch)("x"), bytes)
    assert_type(await Shop().retried_async("x"), bytes)
    async for attempt in retry_attempts():
        with attempt:
            assert_type(attempt.number, int)
    await with_retry_async(number)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # it must be awaitable


# Breaker

rate = FailureRate(ratio=0.5, window=30.0, minimum_calls=10)
breaker = CircuitBreaker(
    "b",
    failure_threshold=5,
    failure_rate=rate,
    cooldown=30.0,
    max_cooldown=None,
    trial_calls=1,
    trial_timeout=60.0,
    slow_call=None,
    failure_on=Exception,
    ignore=(ValueError,),
)
assert_type(breaker.name, str)
assert_type(breaker.state, BreakerState)
assert_type(breaker.call(shout, "x", times=2), str)
assert_type(breaker.call(Shop().order, "x", 2), str)
assert_type(breaker(shout)("x", times=2), str)
assert_type(breaker(Shop.order)(Shop(), "x"), str)
breaker.call(shout, 3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # its argument is a text
with breaker.guard() as permit:
    assert_type(permit, Permit)
taken = breaker.acquire()
assert_type(taken, Permit)
taken.success()
taken.failure()
taken.failure(ValueError())
taken.release()
snapshot = breaker.snapshot()
assert_type(snapshot, BreakerSnapshot)
assert_type(snapshot.epoch, int)
assert_type(snapshot.retry_after, float | None)
assert_type(snapshot.reason, str | None)
assert_type(snapshot.shared, SharedSnapshot | None)
assert_type(snapshot.would_refuse, int)
CircuitBreaker("b", shadow=True)
several = Breakers(lambda host: CircuitBreaker(str(host), cooldown=10.0), max_size=10)
assert_type(several.get("host"), CircuitBreaker)
assert_type(list(several), list[CircuitBreaker])
assert_type(len(several), int)

# Settings, HTTP clients and web frameworks

settings = Settings.load("bookings.toml")
Settings.load(os.environ)
assert_type(settings.pipeline("p"), Pipeline)
assert_type(settings.breaker("b"), CircuitBreaker)
assert_type(settings.monitor("m"), ErrorMonitor)
assert_type(settings.limit("l"), ConcurrencyLimit)
assert_type(settings.rate("r"), RateLimit)
settings.reload()
assert_type(HTTP_RETRY, RetryPolicy)
ResilientTransport(retry=HTTP_RETRY, breakers=several, monitor=ErrorMonitor(), deadline_header=None, http2=True)
ResilientAdapter(breakers=several, pool_maxsize=10)
assert_type(problem_for(ValueError()), Problem | None)
assert_type(idempotent_id("user", "slot"), str)
with ErrorMonitor().context(request_id="r1"):
    pass


def on_breaker(event: BreakerEvent) -> None:
    """Listen."""
    assert_type(event.name, str)
    assert_type(event.old, BreakerState)
    assert_type(event.new, BreakerState)
    assert_type(event.reason, str)


with breaker.subscribe(on_breaker) as subscription:
    assert_type(subscription, Subscription)
subscription.close()
breaker.isolate("maintenance")
breaker.reset()
breaker.reset("done")


async def breakers() -> None:
    """Use a breaker asynchronously."""
    assert_type(await breaker.call_async(fetch, "x", times=2), bytes)
    assert_type(await breaker(fetch)("x"), bytes)
    async with breaker.guard() as permit:
        assert_type(permit, Permit)


# Errors

limited = LimitExceededError("limit", 1.0)
refusal = CircuitOpenError("b", 1.0, "cause")
assert_type(refusal.name, str)
assert_type(refusal.retry_after, float | None)
assert_type(refusal.cause, str | None)
assert_type(TransientError().retry_after, float | None)
root: ResilienceError = refusal
timeout: TimeoutError = DeadlineExceededError("late")
root = DeadlineExceededError("late")


# Pipeline and batch

monitor = ErrorMonitor(capacity=10, window=60.0, alert=AlertRule(), redact=DEFAULT_REDACTION, on_alert=None)
recorder: ErrorRecorder = monitor
pipeline = Pipeline(retry=policy, breaker=breaker, monitor=monitor, category=ErrorCategory.BOOKING)
assert_type(pipeline.retry, RetryPolicy)
assert_type(pipeline.breaker, CircuitBreaker | None)
assert_type(pipeline.category, ErrorCategory)
assert_type(pipeline.call("op", shout, "x", times=2), str)
assert_type(pipeline.call("op", Shop().order, "x", 2), str)
assert_type(pipeline.call("op", lambda: 3), int)
assert_type(pipeline.protect("op")(shout)("x", times=2), str)
pipeline.call("op", shout, 3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # its argument is a text
pipeline.call(shout, "x")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # the operation comes first


class Protected:
    """Something with protected methods."""

    @pipeline.protect("order")
    def order(self, item: str, number: int = 1) -> str:
        """Return a text."""
        return item * number

    @breaker
    async def order_async(self, item: str) -> bytes:
        """Return bytes, later."""
        return item.encode()


assert_type(Protected().order("x", number=2), str)


def length(item: str) -> int:
    """Return a number."""
    return len(item)


async def length_async(item: str) -> int:
    """Return a number, later."""
    return len(item)


def on_item(outcome: BatchOutcome[str, int]) -> None:
    """Listen."""
    assert_type(outcome.index, int)
    assert_type(outcome.item, str)
    assert_type(outcome.value, int | None)
    assert_type(outcome.error, Exception | None)
    assert_type(outcome.attempts, int)


def is_busy(error: Exception) -> bool:
    """Judge an error, and ask for a pause on it."""
    vars(error)["retry_after"] = 1.0
    return True


RetryPolicy(retry_on=is_busy)


result = run_batch(length, ["x"], pipeline=pipeline, operation="op", max_concurrency=2, on_item=on_item)
assert_type(result, BatchResult[str, int])
assert_type(result.outcomes, tuple[BatchOutcome[str, int], ...])
assert_type(result.succeeded, tuple[BatchOutcome[str, int, None], ...])
assert_type(result.failed, tuple[BatchOutcome[str, int, Exception], ...])
assert_type(result.failed[0].error, Exception)
any_outcomes: tuple[BatchOutcome[str, int], ...] = result.failed
assert_type(result.values(), list[int])
result.raise_if_failed()
assert_type(iter_batch(length, iter(["x"])), Generator[BatchOutcome[str, int], None, None])
outcomes: Iterator[BatchOutcome[str, int]] = iter_batch(length, ["x"])
run_batch(length, [3])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # its items are texts


async def items() -> AsyncIterator[str]:
    """Give texts."""
    yield "x"


async def batches() -> None:
    """Use pipeline and batch asynchronously."""
    assert_type(await pipeline.call_async("op", fetch, "x", times=2), bytes)
    assert_type(await pipeline.protect("op")(fetch)("x"), bytes)
    assert_type(await Protected().order_async("x"), bytes)
    assert_type(await run_batch_async(length_async, ["x"], on_item=on_item), BatchResult[str, int])
    assert_type(await run_batch_async(length_async, items()), BatchResult[str, int])
    assert_type(iter_batch_async(length_async, items()), AsyncGenerator[BatchOutcome[str, int], None])


# Monitor

record = monitor.record(ValueError(), operation="op", category="booking", severity=Severity.ERROR, context={"a": 1})
assert_type(record, ErrorRecord)
assert_type(record.id, str)
assert_type(record.timestamp, datetime.datetime)
assert_type(record.category, ErrorCategory)
assert_type(record.severity, Severity)
assert_type(record.context, dict[str, Any])
assert_type(record.stacktrace, str)
assert_type(record.to_dict(), dict[str, Any])
assert_type(monitor.log_booking_error("op", ValueError(), therapist_id="t"), ErrorRecord)
assert_type(monitor.log_chat_error("op", ValueError()), ErrorRecord)
assert_type(monitor.log_payment_error("op", ValueError()), ErrorRecord)
assert_type(monitor.log_appwrite_error("op", ValueError()), ErrorRecord)
assert_type(monitor.log_network_error("op", ValueError()), ErrorRecord)
assert_type(monitor.error_rate, float)
assert_type(monitor.alerting, bool)
assert_type(monitor.stats(), ErrorStats)
assert_type(monitor.recent(5, category="booking", severity=None), list[ErrorRecord])
assert_type(monitor.groups(5), list[ErrorGroup])
assert_type(monitor.snapshot(), MonitorSnapshot)
assert_type(monitor.to_json(), str)
assert_type(monitor.to_jsonl(), str)
assert_type(monitor.to_csv(), str)
assert_type(monitor.to_csv(excel=True), str)
assert_type(monitor.subscribe(lambda record: None), Subscription)
assert_type(load_json("[]"), list[ErrorRecord])
monitor.export("errors.json")
monitor.export("errors.csv", excel=True)
monitor.clear()
with monitor.capture("op", category="booking", user="u"):
    pass


def on_alert(event: AlertEvent) -> None:
    """Listen."""
    assert_type(event.state, Literal["firing", "repeat", "resolved"])
    assert_type(event.rate, float)
    assert_type(event.peak, float)
    assert_type(event.since, datetime.datetime)


ErrorMonitor(on_alert=on_alert, redact=Redaction())


async def monitors() -> None:
    """Watch a monitor."""
    await monitor.export_async("errors.csv")
    async for seen in monitor.watch(1.0):
        assert_type(seen, MonitorSnapshot)


# Booking

assert_type(resolve_source(booking_type="scheduled", chat_window_open=True, source=None), BookingSource)
assert_type(resolve_source(source="direct"), BookingSource)
attribution = booking_attribution(booking_type=None, source=BookingSource.CHAT_WINDOW)
assert_type(attribution["source"], str)
assert_type(attribution["chatWindowOpen"], bool)
assert_type(message_for(ValueError()), str)
success = BookingSuccess("r", "b", "p", "Ada", source="booking_flow")
assert_type(success.to_payload(), dict[str, str])


class Chat:
    """Both protocols."""

    def handle_booking_success(self, event: BookingSuccess) -> None:
        """Open the chat."""

    def create_chat_room(self, *, booking_id: str, participants: Sequence[str]) -> ChatRoom:
        """Make a room."""
        return ChatRoom("r", booking_id, tuple(participants))

    def send_welcome_message(self, room_id: str) -> ChatMessage:
        """Send a message."""
        return ChatMessage("m", room_id, "hello", datetime.datetime.now(datetime.UTC))

    def send_booking_received_message(self, room_id: str, booking_id: str) -> ChatMessage:
        """Send a message."""
        return self.send_welcome_message(room_id)

    def list_messages(
        self, room_id: str, *, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page[ChatMessage]:
        """Return a page."""
        return Page((), None)


provider: ChatProvider = Chat()
service: ChatService = Chat()
assert_type(iter_messages(service, "r", page_size=5, newest_first=False), Iterator[ChatMessage])
assert_type(service.list_messages("r").next_cursor, str | None)


class AsyncChat:
    """Both protocols, asynchronous."""

    async def handle_booking_success(self, event: BookingSuccess) -> None:
        """Open the chat."""

    async def create_chat_room(self, *, booking_id: str, participants: Sequence[str]) -> ChatRoom:
        """Make a room."""
        return Chat().create_chat_room(booking_id=booking_id, participants=participants)

    async def send_welcome_message(self, room_id: str) -> ChatMessage:
        """Send a message."""
        return Chat().send_welcome_message(room_id)

    async def send_booking_received_message(self, room_id: str, booking_id: str) -> ChatMessage:
        """Send a message."""
        return Chat().send_booking_received_message(room_id, booking_id)

    async def list_messages(
        self, room_id: str, *, limit: int = 50, cursor: str | None = None, newest_first: bool = True
    ) -> Page[ChatMessage]:
        """Return a page."""
        return Page((), None)


async_provider: AsyncChatProvider = AsyncChat()
async_service: AsyncChatService = AsyncChat()
assert_type(iter_messages_async(async_service, "r", page_size=5), AsyncIterator[ChatMessage])

place_limit: ConcurrencyLimit = ConcurrencyLimit("backend", limit=10, max_queue=20, max_wait=1.0)
adaptive: AdaptiveLimit = AdaptiveLimit("backend", initial=20, minimum=1, maximum=100)
turns: RateLimit = RateLimit("backend", rate=10.0, per=1.0, burst=5)
assert_type(place_limit.call(len, "abc"), int)
assert_type(adaptive.snapshot(), LimitSnapshot)
assert_type(turns.try_acquire(2), bool)
assert_type(turns.pause(3.0), None)
assert_type(ThreadTimeout(2.0).call(len, "abc"), int)
assert_type(Hedge(idempotent=True).call(len, "abc"), int)
loaded: Pipeline = Pipeline(
    limit=adaptive, rate=turns, fallback=Fallback([]), hedge=Hedge(idempotent=True), timeout=ThreadTimeout(2.0)
)
assert_type(loaded.call("op", len, "abc"), int)
Pipeline(limit=turns)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # it is the rate
with priority(10):
    assert_type(run_batch(len, ["abc"], pipeline=loaded, max_open_wait=60.0), BatchResult[str, int])
app = dashboard(ErrorMonitor(), breakers={"rows": CircuitBreaker("appwrite")}, authorize=lambda scope: scope["user"])
assert_type(app, Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]])
wsgi = dashboard_wsgi(ErrorMonitor(), breakers=[CircuitBreaker("appwrite")], title="Errors", secret=b"s")
assert_type(wsgi({}, print), Iterable[bytes])
assert_type(health(breakers=[CircuitBreaker("appwrite")], monitor=ErrorMonitor()), Health)
dashboard(ErrorMonitor(), limits=[ConcurrencyLimit("rows", limit=2)])
assert_type(health(limits={"mails": RateLimit("mails", rate=1)}), Health)
assert_type(Telemetry().watch_limit(ConcurrencyLimit("rows", limit=2)), Subscription)
assert_type(health().checks, tuple[HealthCheck, ...])
assert_type(health().status, Literal["ok", "degraded", "down"])
ErrorMonitor().subscribe(SentrySink(interval=60.0))
ErrorMonitor().subscribe(LogRecords())


def durable_bookings(durable: Durable) -> None:
    """What a `Durable` gives."""

    async def store(booking: str) -> int:
        return len(booking)

    def store_now(booking: str) -> int:
        return len(booking)

    @durable.workflow
    async def book(booking: str) -> int:
        assert_type(await durable.call("store", store_now, booking), int)
        return assert_type(await durable.call("store", store, booking), int)

    assert_type(durable.submit(book, "b1", id="b1"), str)
    assert_type(durable.waiting(), list[Waiting])
    assert_type(durable.waiting()[0].next_try, datetime.datetime | None)
    assert_type(durable.try_now("b1"), bool)
    assert_type(durable.cancel("b1"), bool)
