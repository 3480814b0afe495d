"""The booking workflow: store a booking, open its chat, tell the chat provider. Used by the other examples.

Steps 2 to 5 (booking, chat room, two messages) go through retry and breaker, one by one. Every row has an ID that is
made before the first attempt, so repeating a step never stores anything twice. If the booking itself cannot be stored,
`BookingError` comes out with a message for people; if a later step fails, the booking stands and the result says what
is missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from appwrite.services.tables_db import TablesDB

from booking_resilience import (
    AsyncChatProvider,
    BookingSource,
    BookingSuccess,
    ChatProvider,
    CircuitBreaker,
    ErrorCategory,
    ErrorMonitor,
    Pipeline,
    RetryPolicy,
    booking_attribution,
    message_for,
)
from booking_resilience.appwrite import (
    AppwriteChatService,
    AppwriteClient,
    AsyncAppwriteChatService,
    AsyncAppwriteClient,
    appwrite_breaker,
    appwrite_retry,
    create_row_once,
    create_row_once_async,
)
from booking_tables import BOOKINGS, DATABASE_ID, DURATIONS, SETUP, TABLES, bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

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


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingRequest:
    """What somebody wants to book.

    Attributes:
        booking_id: The booking's ID, made before anything is sent; the same in all attempts.
        run: Whose bookings these are, to find them again.
    """

    therapist_id: str
    therapist_name: str
    user_id: str
    booking_type: str = "immediate"
    duration: int = 60
    source: BookingSource | str | None = None
    chat_window_open: bool = False
    booking_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    run: str = "default"

    def context(self) -> dict[str, object]:
        """Return what the monitor keeps with each error of this booking."""
        return {
            "therapist_id": self.therapist_id,
            "therapist_name": self.therapist_name,
            "booking_type": self.booking_type,
            "duration": self.duration,
            "user_id": self.user_id,
            "booking_id": self.booking_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BookingResult:
    """A stored booking; `missing` names the steps that failed after it was stored."""

    request: BookingRequest
    data: Mapping[str, Any]
    chat_room_id: str | None
    missing: tuple[str, ...] = ()

    def to_payload(self) -> dict[str, Any]:
        """Return it as a web page or a JSON file would want it."""
        return {
            "id": self.request.booking_id,
            **self.data,
            "chatRoomId": self.chat_room_id,
            "missing": list(self.missing),
        }


class BookingError(Exception):
    """The booking could not be stored; `message` is for people, `__cause__` is what went wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class _Recorder:
    """Hands errors on to a monitor with a booking's context."""

    def __init__(self, monitor: ErrorMonitor, context: dict[str, object]) -> None:
        self._monitor, self._context = monitor, context

    def record(self, error: BaseException, **facts: Any) -> object:
        return self._monitor.record(error, context=self._context, **facts)


class _Flow:
    """What the flows of both colours share: their parts, and the steps that follow a stored booking."""

    def __init__(
        self, client: Client, monitor: ErrorMonitor, breaker: CircuitBreaker | None, retry: RetryPolicy | None
    ) -> None:
        self.monitor = monitor
        self.breaker = appwrite_breaker() if breaker is None else breaker
        self._tables = TablesDB(client)
        self._retry = appwrite_retry() if retry is None else retry

    def _creation(self, request: BookingRequest, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that store a booking."""
        return {
            "database_id": DATABASE_ID,
            "table_id": BOOKINGS,
            "row_id": request.booking_id,
            "data": data,
            "pipeline": self._pipeline(request, ErrorCategory.BOOKING),
            "operation": "createBooking",
        }

    def _refused(self, request: BookingRequest, error: Exception) -> BookingError:
        """Return the error of a booking that could not be stored, recorded."""
        self.monitor.log_booking_error("createBooking", error, **request.context())
        return BookingError(message_for(error))

    def _pipeline(self, request: BookingRequest, category: ErrorCategory) -> Pipeline:
        recorder = _Recorder(self.monitor, request.context())
        return Pipeline(retry=self._retry, breaker=self.breaker, monitor=recorder, category=category)


class _Opening:
    """Opens the chat of a stored booking, step by step; whoever makes the steps waits in his own colour.

    Args:
        flow: Whose booking it is.
        result: The booking as it is so far.
        chat: The chat service, of either colour.
        provider: The chat provider of that colour, or None.
    """

    def __init__(self, flow: _Flow, result: BookingResult, chat: Any, provider: Any) -> None:
        self._flow, self._result, self._chat, self._provider = flow, result, chat, provider
        self._missing: list[str] = []
        self._room_id: str | None = None

    def steps(self) -> Generator[tuple[str, Callable[[], Any]], Any, None]:
        """Yield each step's name and what to call for it; to be sent what that returned, None if it failed."""
        request, chat = self._result.request, self._chat
        participants = [request.user_id, request.therapist_id]
        room = yield (
            "createChatRoom",
            lambda: chat.create_chat_room(booking_id=request.booking_id, participants=participants),
        )
        if room is None:
            self._missing += ["sendWelcomeMessage", "sendBookingReceivedMessage", "handleBookingSuccess"]
            return
        self._room_id = room.id
        yield "sendWelcomeMessage", lambda: chat.send_welcome_message(room.id)
        yield (
            "sendBookingReceivedMessage",
            lambda: chat.send_booking_received_message(room.id, request.booking_id),
        )
        is_told = self._result.chat_room_id is not None and "handleBookingSuccess" not in self._result.missing
        if self._provider is not None and not is_told:
            event = BookingSuccess(room.id, request.booking_id, request.therapist_id, request.therapist_name)
            yield "handleBookingSuccess", lambda: self._provider.handle_booking_success(event)

    def failed(self, name: str, error: Exception) -> None:
        """Note that a step failed: the booking stands, what is missing is said and recorded."""
        self._flow.monitor.log_chat_error(name, error, **self._result.request.context())
        self._missing.append(name)

    def result(self) -> BookingResult:
        """Return the booking with what its chat came to."""
        return dataclasses.replace(self._result, chat_room_id=self._room_id, missing=tuple(self._missing))


class BookingFlow(_Flow):
    """Makes bookings through one client; share it between threads.

    Args:
        client: Where the bookings go.
        monitor: Gets every failure and recovery with the booking's context.
        breaker: The breaker of this backend; by default one of its own.
        retry: When to try again; by default `appwrite_retry()`.
        chat_provider: Told of each booking whose chat room stands, or None.
    """

    def __init__(
        self,
        client: AppwriteClient,
        *,
        monitor: ErrorMonitor,
        breaker: CircuitBreaker | None = None,
        retry: RetryPolicy | None = None,
        chat_provider: ChatProvider | None = None,
    ) -> None:
        super().__init__(client, monitor, breaker, retry)
        self._chat_provider = chat_provider

    def create_booking(self, request: BookingRequest) -> BookingResult:
        """Store a booking and open its chat.

        Raises:
            ValueError: If the source or the booking type is unknown.
            BookingError: If the booking could not be stored.
        """
        data = booking_data(request)
        try:
            create_row_once(self._tables, **self._creation(request, data))
        except Exception as error:
            raise self._refused(request, error) from error
        return self._open_chat(BookingResult(request=request, data=data, chat_room_id=None))

    def complete(self, result: BookingResult) -> BookingResult:
        """Try again what is missing; what is there already stays as it is."""
        return self._open_chat(result) if result.missing else result

    def _open_chat(self, result: BookingResult) -> BookingResult:
        pipeline = self._pipeline(result.request, ErrorCategory.CHAT)
        chat = AppwriteChatService(self._tables, database_id=DATABASE_ID, pipeline=pipeline)
        opening = _Opening(self, result, chat, self._chat_provider)
        steps, value = opening.steps(), None
        with contextlib.suppress(StopIteration):
            while True:
                name, do = steps.send(value)
                try:
                    value = do()
                except Exception as error:  # noqa: BLE001 - the booking stands
                    opening.failed(name, error)
                    value = None
        return opening.result()


class AsyncBookingFlow(_Flow):
    """Makes bookings without blocking, through one asynchronous client; share it between the tasks of an event loop.

    Args:
        client: Where the bookings go.
        monitor: Gets every failure and recovery with the booking's context.
        breaker: The breaker of this backend; by default one of its own.
        retry: When to try again; by default `appwrite_retry()`.
        chat_provider: Told of each booking whose chat room stands, or None.
    """

    def __init__(
        self,
        client: AsyncAppwriteClient,
        *,
        monitor: ErrorMonitor,
        breaker: CircuitBreaker | None = None,
        retry: RetryPolicy | None = None,
        chat_provider: AsyncChatProvider | None = None,
    ) -> None:
        super().__init__(client, monitor, breaker, retry)
        self._chat_provider = chat_provider

    async def create_booking(self, request: BookingRequest) -> BookingResult:
        """Do as `BookingFlow.create_booking`; a booking whose call is cancelled may have been stored."""
        data = booking_data(request)
        try:
            await create_row_once_async(self._tables, **self._creation(request, data))
        except Exception as error:
            raise self._refused(request, error) from error
        return await self._open_chat(BookingResult(request=request, data=data, chat_room_id=None))

    async def complete(self, result: BookingResult) -> BookingResult:
        """Try again what is missing; what is there already stays as it is."""
        return await self._open_chat(result) if result.missing else result

    async def _open_chat(self, result: BookingResult) -> BookingResult:
        pipeline = self._pipeline(result.request, ErrorCategory.CHAT)
        chat = AsyncAppwriteChatService(self._tables, database_id=DATABASE_ID, pipeline=pipeline)
        opening = _Opening(self, result, chat, self._chat_provider)
        steps, value = opening.steps(), None
        with contextlib.suppress(StopIteration):
            while True:
                name, do = steps.send(value)
                try:
                    value = await do()
                except Exception as error:  # noqa: BLE001 - the booking stands
                    opening.failed(name, error)
                    value = None
        return opening.result()


def booking_data(request: BookingRequest) -> dict[str, Any]:
    """Return the row of a booking, its source resolved.

    Raises:
        ValueError: If the source or the booking type is unknown.
    """
    attribution = booking_attribution(
        booking_type=request.booking_type, chat_window_open=request.chat_window_open, source=request.source
    )
    return {
        "reference": request.booking_id,
        "run": request.run,
        "therapistId": request.therapist_id,
        "therapistName": request.therapist_name,
        "userId": request.user_id,
        "duration": request.duration,
        **attribution,
    }
