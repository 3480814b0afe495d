"""The booking workflow: store a booking, open its chat, tell the chat provider. Used by the other examples.

Steps 2 to 5 (booking, chat room, two messages) go through retry and breaker, one by one. Every row has an ID that is
made before the first attempt, so repeating a step never stores anything twice. If the booking itself cannot be stored,
`BookingError` comes out with a message for people; if a later step fails, the booking stands and the result says what
is missing.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from appwrite.exception import AppwriteException
from appwrite.services.tables_db import TablesDB

from booking_resilience import (
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
    CHAT_TABLES,
    AppwriteChatService,
    AppwriteClient,
    appwrite_breaker,
    appwrite_retry,
    create_row_once,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DATABASE_ID = "booking_resilience"
BOOKINGS = "bookings"
DURATIONS = range(15, 481)
"""How long a booking may be, in minutes."""
SETUP = Pipeline(retry=appwrite_retry(max_attempts=5, base_delay=0.1, attempt_timeout=None, deadline=None))
"""How tables are made and read beside the bookings: patiently, and without a breaker."""

_TEXT_64 = {"type": "varchar", "size": 64, "required": True}
TABLES: dict[str, dict[str, Any]] = {
    BOOKINGS: {
        "columns": {
            "reference": _TEXT_64,
            "run": _TEXT_64,
            "therapistId": _TEXT_64,
            "therapistName": {"type": "varchar", "size": 128, "required": True},
            "userId": _TEXT_64,
            "duration": {"type": "integer", "min": DURATIONS.start, "max": DURATIONS.stop - 1, "required": True},
            "bookingType": {"type": "enum", "elements": ["immediate", "scheduled"], "required": True},
            "mode": {"type": "enum", "elements": ["immediate", "scheduled"], "required": True},
            "source": {"type": "enum", "elements": [source.value for source in BookingSource], "required": True},
            "chatWindowOpen": {"type": "boolean", "required": True},
        },
        "indexes": {"by_run": ["run"], "by_user": ["userId"]},
    },
    **CHAT_TABLES,
}


def bootstrap(client: AppwriteClient, *, timeout: float = 30.0) -> None:
    """Make the database, its tables, columns and indexes, as far as they are not there yet; the same for any Appwrite.

    What may pass by itself is tried again.

    Args:
        client: A client with a key that may do so.
        timeout: Seconds to wait at most until Appwrite has made columns and indexes, which it does in the background.

    Raises:
        AppwriteException: If Appwrite refuses or does not answer.
        TimeoutError: If a column or an index is still not there after `timeout`.
    """
    tables = TablesDB(client)
    _unless_there(tables.create, database_id=DATABASE_ID, name="Bookings")
    for table_id, table in TABLES.items():
        place = {"database_id": DATABASE_ID, "table_id": table_id}
        _unless_there(tables.create_table, **place, name=table_id)
        for key, column in table["columns"].items():
            settings = {name: value for name, value in column.items() if name != "type"}
            _unless_there(getattr(tables, f"create_{column['type']}_column"), **place, key=key, **settings)
        _wait_until_available(partial(_listed, tables.list_columns, "columns", table_id), table_id, timeout)
        for key, columns in table["indexes"].items():
            _unless_there(tables.create_index, **place, key=key, type="key", columns=columns)
        _wait_until_available(partial(_listed, tables.list_indexes, "indexes", table_id), table_id, timeout)


def _unless_there(create: Callable[..., Any], **arguments: Any) -> None:
    """Create something; what is there already, maybe by an attempt whose answer got lost, is as good."""
    try:
        SETUP.call("bootstrap", create, **arguments)
    except AppwriteException as error:
        if error.code != 409:
            raise


def _listed(list_them: Callable[..., Any], name: str, table_id: str) -> list[Any]:
    """Return what one of the SDK's list calls holds under the name.

    Raises:
        AppwriteException: If it holds no such thing: some web servers answer 200 to whatever they are asked.
    """
    answer = SETUP.call("bootstrap", list_them, database_id=DATABASE_ID, table_id=table_id)
    items = answer.get(name) if isinstance(answer, dict) else getattr(answer, name, None)
    if not isinstance(items, list):
        raise AppwriteException(f"the answer to a request for {name} holds none; is this an Appwrite?")
    return items


def _wait_until_available(listing: Callable[[], list[Any]], table_id: str, timeout: float) -> None:
    end = time.monotonic() + timeout
    while waiting := [item for item in listing() if _value(item, "status") != "available"]:
        if time.monotonic() > end:
            raise TimeoutError(
                f"table {table_id!r}: {len(waiting)} columns or indexes are not available after {timeout} s"
            )
        time.sleep(0.1)


def _value(item: Any, name: str) -> str:
    """Return a field of what the SDK's list calls hold: models or dicts, with enums or texts."""
    value = item[name] if isinstance(item, dict) else getattr(item, name)
    return str(getattr(value, "value", value))


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


class BookingFlow:
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
        self.monitor = monitor
        self.breaker = appwrite_breaker() if breaker is None else breaker
        self._tables = TablesDB(client)
        self._retry = appwrite_retry() if retry is None else retry
        self._chat_provider = chat_provider

    def create_booking(self, request: BookingRequest) -> BookingResult:
        """Store a booking and open its chat.

        Raises:
            ValueError: If the source or the booking type is unknown.
            BookingError: If the booking could not be stored.
        """
        data = booking_data(request)
        try:
            create_row_once(
                self._tables,
                database_id=DATABASE_ID,
                table_id=BOOKINGS,
                row_id=request.booking_id,
                data=data,
                pipeline=self._pipeline(request, ErrorCategory.BOOKING),
                operation="createBooking",
            )
        except Exception as error:
            self.monitor.log_booking_error("createBooking", error, **request.context())
            raise BookingError(message_for(error)) from error
        return self._open_chat(BookingResult(request=request, data=data, chat_room_id=None))

    def complete(self, result: BookingResult) -> BookingResult:
        """Try again what is missing; what is there already stays as it is."""
        return self._open_chat(result) if result.missing else result

    def _open_chat(self, result: BookingResult) -> BookingResult:
        request = result.request
        chat = AppwriteChatService(
            self._tables, database_id=DATABASE_ID, pipeline=self._pipeline(request, ErrorCategory.CHAT)
        )
        missing: list[str] = []
        room_id: str | None = None

        def step(name: str, do: Callable[[], Any]) -> Any:
            try:
                return do()
            except Exception as error:  # noqa: BLE001 - the booking stands; what is missing is said and recorded
                self.monitor.log_chat_error(name, error, **request.context())
                missing.append(name)
                return None

        participants = [request.user_id, request.therapist_id]
        room = step(
            "createChatRoom", lambda: chat.create_chat_room(booking_id=request.booking_id, participants=participants)
        )
        if room is None:
            missing += ["sendWelcomeMessage", "sendBookingReceivedMessage", "handleBookingSuccess"]
        else:
            room_id = room.id
            step("sendWelcomeMessage", lambda: chat.send_welcome_message(room.id))
            step("sendBookingReceivedMessage", lambda: chat.send_booking_received_message(room.id, request.booking_id))
            is_told = result.chat_room_id is not None and "handleBookingSuccess" not in result.missing
            if self._chat_provider is not None and not is_told:
                event = BookingSuccess(room.id, request.booking_id, request.therapist_id, request.therapist_name)
                provider = self._chat_provider
                step("handleBookingSuccess", lambda: provider.handle_booking_success(event))
        return dataclasses.replace(result, chat_room_id=room_id, missing=tuple(missing))

    def _pipeline(self, request: BookingRequest, category: ErrorCategory) -> Pipeline:
        recorder = _Recorder(self.monitor, request.context())
        return Pipeline(retry=self._retry, breaker=self.breaker, monitor=recorder, category=category)


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
