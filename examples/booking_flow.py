"""The booking workflow: store a booking, claim its time, open its chat, tell the chat provider.

`create_booking` stores the booking, its slots, its chat room and the two messages in one transaction: all or none.
Where the server has no transactions, or with `steps=True`, the rows go one by one, each through retry and breaker.
Every row has an ID that is made before the first attempt, so repeating never stores anything twice. If the booking
can't be stored, `BookingError` comes out with a message for people; if only its chat can't, the booking stands and the
result says what is missing.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from appwrite.services.tables_db import TablesDB

from booking_request import BookingError, BookingRequest, BookingResult, booking_data
from booking_resilience import (
    AsyncChatProvider,
    ChatProvider,
    CircuitBreaker,
    ErrorCategory,
    ErrorMonitor,
    Pipeline,
    RetryPolicy,
)
from booking_resilience.appwrite import (
    AppwriteClient,
    AsyncAppwriteClient,
    appwrite_breaker,
    appwrite_retry,
    outcome_unknown,
)
from booking_steps import Flow, Hands, run, run_async
from booking_tables import BOOKINGS, DATABASE_ID, DURATIONS, SETUP, TABLES, bootstrap

if TYPE_CHECKING:
    import datetime

    from appwrite.client import Client

__all__ = [
    "BOOKINGS",
    "DATABASE_ID",
    "DURATIONS",
    "SETUP",
    "TABLES",
    "AsyncBookingFlow",
    "BookingError",
    "BookingFlow",
    "BookingRequest",
    "BookingResult",
    "booking_data",
    "bootstrap",
]

MOST_OPEN = 1_000
"""Bookings that are kept as long as their outcome is unknown."""


class _Recorder:
    """Hands the pipelines' errors on to a monitor, and says which leave the outcome unknown."""

    def __init__(self, monitor: ErrorMonitor) -> None:
        self._monitor = monitor

    def record(self, error: BaseException, **facts: Any) -> object:
        is_unknown = facts["outcome"] == "failed" and outcome_unknown(error)
        return self._monitor.record(error, context={"outcome_unknown": True} if is_unknown else None, **facts)


class _Flow:
    """What the flows of both colours share: their parts, and the bookings whose outcome is unknown."""

    def __init__(
        self,
        client: Client,
        monitor: ErrorMonitor,
        breaker: CircuitBreaker | None,
        retry: RetryPolicy | None,
        provider: object,
        *,
        steps: bool,
        is_async: bool,
    ) -> None:
        self.monitor = monitor
        self.breaker = appwrite_breaker() if breaker is None else breaker
        one_row = appwrite_retry() if retry is None else retry
        # An attempt to store several rows takes three requests, each of which may fail: more attempts, shorter pauses.
        count = 2 * one_row.max_attempts - 1
        several = dataclasses.replace(one_row, max_attempts=count, base_delay=one_row.base_delay / 2)
        recorder = _Recorder(monitor)

        def pipeline(retry: RetryPolicy, category: ErrorCategory) -> Pipeline:
            return Pipeline(retry=retry, breaker=self.breaker, monitor=recorder, category=category)

        one, together = pipeline(one_row, ErrorCategory.BOOKING), pipeline(several, ErrorCategory.BOOKING)
        self._steps = Flow(monitor, one, together, is_stepwise=steps)
        self._hands = Hands(TablesDB(client), pipeline(one_row, ErrorCategory.CHAT), provider, is_async=is_async)
        self._open: OrderedDict[str, BookingRequest] = OrderedDict()

    def _keep(self, request: BookingRequest, error: BookingError) -> None:
        """Keep a booking whose outcome is unknown, so that it can be resumed."""
        if error.unknown:
            self._open[str(request.booking_id)] = request
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)


class BookingFlow(_Flow):
    """Makes bookings through one client; share it between threads.

    Args:
        client: Where the bookings go.
        monitor: Gets every failure and recovery with the booking's context.
        breaker: The breaker of this backend; by default one of its own.
        retry: When to try again; by default `appwrite_retry()`.
        chat_provider: Told of each booking whose chat room stands, or None.
        steps: Store the rows one by one, even if the server has transactions.
    """

    def __init__(
        self,
        client: AppwriteClient,
        *,
        monitor: ErrorMonitor,
        breaker: CircuitBreaker | None = None,
        retry: RetryPolicy | None = None,
        chat_provider: ChatProvider | None = None,
        steps: bool = False,
    ) -> None:
        super().__init__(client, monitor, breaker, retry, chat_provider, steps=steps, is_async=False)

    def create_booking(self, request: BookingRequest) -> BookingResult:
        """Store a booking, claim its time, and open its chat.

        Raises:
            ValueError: If the source or the booking type is unknown.
            BookingError: If the booking could not be stored; its cause is a `SlotTakenError` if its time is taken.
        """
        try:
            return run(self._steps.create(request), self._hands)
        except BookingError as error:
            self._keep(request, error)
            raise

    def resume_booking(self, booking_id: str) -> BookingResult:
        """Find out what became of a booking whose outcome is unknown, and finish it.

        Raises:
            LookupError: If there is no such booking, and this flow was not asked for it.
            BookingError: If it could not be stored.
        """
        result = run(self._steps.resume(booking_id, self._open.get(str(booking_id))), self._hands)
        self._open.pop(str(booking_id), None)
        return result

    def reschedule_booking(
        self, booking_id: str, start: datetime.datetime, duration: int | None = None
    ) -> BookingRequest:
        """Move a booking to another time; the same call again finishes what was stopped half-way.

        Args:
            booking_id: The booking.
            start: When it is to begin, aware.
            duration: Its new length in minutes; None to keep it.

        Raises:
            LookupError: If there is no such booking.
            BookingError: If it could not be moved; its cause tells.
        """
        return run(self._steps.reschedule(booking_id, start, duration), self._hands)

    def cancel_booking(self, booking_id: str) -> bool:
        """Delete a booking and give its time back; tell whether this call deleted it.

        Raises:
            BookingError: If it could not be cancelled; the same call again finishes it.
        """
        return run(self._steps.cancel(booking_id), self._hands)

    def complete(self, result: BookingResult) -> BookingResult:
        """Try again what is missing; what is there already stays as it is."""
        return run(self._steps.open_chat(result), self._hands) if result.missing else result


class AsyncBookingFlow(_Flow):
    """Makes bookings without blocking, through one asynchronous client; share it between the tasks of an event loop.

    Args:
        client: Where the bookings go.
        monitor: Gets every failure and recovery with the booking's context.
        breaker: The breaker of this backend; by default one of its own.
        retry: When to try again; by default `appwrite_retry()`.
        chat_provider: Told of each booking whose chat room stands, or None.
        steps: Store the rows one by one, even if the server has transactions.
    """

    def __init__(
        self,
        client: AsyncAppwriteClient,
        *,
        monitor: ErrorMonitor,
        breaker: CircuitBreaker | None = None,
        retry: RetryPolicy | None = None,
        chat_provider: AsyncChatProvider | None = None,
        steps: bool = False,
    ) -> None:
        super().__init__(client, monitor, breaker, retry, chat_provider, steps=steps, is_async=True)

    async def create_booking(self, request: BookingRequest) -> BookingResult:
        """Do as `BookingFlow.create_booking`; a booking whose call is cancelled may have been stored."""
        try:
            return await run_async(self._steps.create(request), self._hands)
        except BookingError as error:
            self._keep(request, error)
            raise

    async def resume_booking(self, booking_id: str) -> BookingResult:
        """Do as `BookingFlow.resume_booking`."""
        result = await run_async(self._steps.resume(booking_id, self._open.get(str(booking_id))), self._hands)
        self._open.pop(str(booking_id), None)
        return result

    async def reschedule_booking(
        self, booking_id: str, start: datetime.datetime, duration: int | None = None
    ) -> BookingRequest:
        """Do as `BookingFlow.reschedule_booking`."""
        return await run_async(self._steps.reschedule(booking_id, start, duration), self._hands)

    async def cancel_booking(self, booking_id: str) -> bool:
        """Do as `BookingFlow.cancel_booking`."""
        return await run_async(self._steps.cancel(booking_id), self._hands)

    async def complete(self, result: BookingResult) -> BookingResult:
        """Try again what is missing; what is there already stays as it is."""
        return await run_async(self._steps.open_chat(result), self._hands) if result.missing else result
