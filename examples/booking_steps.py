"""The steps of the booking flow, written once for both colours. Used by `booking_flow.py`.

Each operation is a generator: it yields what to call, as a function of the `Hands` of a colour, and is sent what that
returned, or thrown what it raised. `run` and `run_async` drive it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from appwrite.query import Query

from booking_request import (
    BookingError,
    BookingRequest,
    BookingResult,
    booking_data,
    booking_row,
    request_of,
    rows_of_chat,
    slot_rows,
    written,
)
from booking_resilience import BookingSuccess, appwrite, message_for
from booking_resilience.appwrite import RowConflictError, SlotRow, SlotTakenError, classify, outcome_unknown
from booking_resilience.appwrite.rows import row_of
from booking_tables import BOOKINGS, DATABASE_ID, SLOTS

if TYPE_CHECKING:
    import datetime
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from booking_resilience import ErrorMonitor, Pipeline
    from booking_resilience.appwrite import NewRow, Row

    Ask: TypeAlias = Callable[["Hands"], Any]
    T = TypeVar("T")
    Steps: TypeAlias = Generator[Ask, Any, T]

_REFUSED = (400, 404, 409)
_CHAT = ("createChatRoom", "sendWelcomeMessage", "sendBookingReceivedMessage")


class Hands:
    """What the steps call, in one colour.

    Args:
        tables: The SDK's service.
        chat: The pipeline of the chat.
        provider: The chat provider, or None.
        is_async: Whether they give awaitables.
    """

    def __init__(self, tables: Any, chat: Pipeline, provider: Any, *, is_async: bool) -> None:
        end, prefix = ("_async", "Async") if is_async else ("", "")
        self.create_row = partial(getattr(appwrite, f"create_row_once{end}"), tables)
        self.create_rows = partial(getattr(appwrite, f"create_rows_once{end}"), tables)
        self.update_row = partial(getattr(appwrite, f"update_row_once{end}"), tables)
        self.delete_row = partial(getattr(appwrite, f"delete_row_once{end}"), tables)
        self.chat = getattr(appwrite, f"{prefix}AppwriteChatService")(tables, database_id=DATABASE_ID, pipeline=chat)
        self.provider = provider
        self._tables, self._is_async = tables, is_async

    def list_rows(self, pipeline: Pipeline, operation: str, table_id: str, queries: list[str]) -> Any:
        """Read rows; a query tells the truth where a row asked for by its ID may come from a cache."""
        method = self._tables.list_rows
        if self._is_async:
            client = self._tables.client
            return pipeline.call_async(operation, client.run, method, DATABASE_ID, table_id, queries)
        return pipeline.call(operation, method, DATABASE_ID, table_id, queries)


class Flow:
    """The operations on bookings, as steps.

    What is known of a booking joins every record that the monitor makes meanwhile, those of the pipelines too.

    Args:
        monitor: Gets every failure with the booking's context.
        one: The pipeline for one row.
        together: The pipeline for several rows in a transaction.
        is_stepwise: Whether rows are stored one by one, even if the server has transactions.
    """

    def __init__(self, monitor: ErrorMonitor, one: Pipeline, together: Pipeline, *, is_stepwise: bool) -> None:
        self._monitor, self._one, self._together, self._is_stepwise = monitor, one, together, is_stepwise

    def create(self, request: BookingRequest) -> Steps[BookingResult]:
        """Store a booking with its slots, and open its chat."""
        data = booking_data(request)
        with self._monitor.context(**request.context()):
            try:
                with_chat = yield from self._store(request)
            except Exception as error:
                raise self._refused("createBooking", error) from error
            result = BookingResult(request=request, data=data, chat_room_id=None)
            if not with_chat:
                return (yield from self.open_chat(result))
            return (yield from self._tell_provider(dataclasses.replace(result, chat_room_id=with_chat)))

    def _store(self, request: BookingRequest) -> Steps[str | None]:
        """Store the rows of a booking, all or none; return its room's ID if the chat is among them."""
        booking, slots, chat = booking_row(request), slot_rows(request), rows_of_chat(request)
        if not self._is_stepwise:
            try:
                yield from self._store_together([booking, *slots, *chat])
            except ValueError:
                self._is_stepwise = True  # this server has no transactions
            except Exception as error:
                if not _may_be_the_chats(error, chat):
                    raise
                yield from self._store_together([booking, *slots])
                return None
            else:
                return chat[0].row_id
        yield from self._claim(request, slots)
        arguments = self._arguments("createBooking")
        try:
            yield lambda hands: hands.create_row(**_place(booking), data=booking.data, **arguments)
        except Exception as error:
            yield from self._undo_claims(request, slots, error)
            raise
        return None

    def _store_together(self, rows: Sequence[NewRow]) -> Steps[None]:
        yield lambda hands: hands.create_rows(rows, pipeline=self._together, operation="createBooking")

    def _claim(self, request: BookingRequest, slots: Sequence[SlotRow]) -> Steps[None]:
        """Claim the slots, one by one in the order of their IDs, so that of two bookings one gets all it needs."""
        arguments = self._arguments("claimSlot")
        for number, slot in enumerate(slots):
            try:
                yield partial(_create, slot, arguments)
            except RowConflictError:
                taken = SlotTakenError(slot.resource_id, slot.start)
                yield from self._undo_claims(request, slots[:number], taken)
                raise taken from None
            except Exception as error:
                yield from self._undo_claims(request, slots[:number], error)
                raise

    def _undo_claims(self, request: BookingRequest, slots: Sequence[NewRow], error: Exception) -> Steps[None]:
        """Delete slots that were claimed for what failed, unless that may have been carried out all the same.

        Raises:
            LeftOverError: If some could not be deleted; their time stays blocked until the same call is made again.
        """
        if outcome_unknown(error):
            return
        arguments = self._arguments("giveSlotBack")
        for slot in slots:
            try:
                yield partial(_delete, slot, {"expected": {"holder": str(request.booking_id)}, **arguments})
            except Exception as failure:
                raise LeftOverError(error) from failure

    def open_chat(self, result: BookingResult) -> Steps[BookingResult]:
        """Open the chat of a stored booking, step by step; what is there already stays as it is."""
        with self._monitor.context(**result.request.context()):
            return (yield from self._open_chat(result))

    def _open_chat(self, result: BookingResult) -> Steps[BookingResult]:
        request, missing, told = result.request, list[str](), result
        participants = [request.user_id, request.therapist_id]
        booking_id = str(request.booking_id)
        room: Any = None
        calls = (
            lambda chat: chat.create_chat_room(booking_id=booking_id, participants=participants),
            lambda chat: chat.send_welcome_message(room.id),
            lambda chat: chat.send_booking_received_message(room.id, booking_id),
        )
        for name, call in zip(_CHAT, calls, strict=True):
            try:
                answer = yield partial(_in_chat, call)
            except Exception as error:  # noqa: BLE001 - the booking stands
                self._monitor.log_chat_error(name, error)
                missing.append(name)
                if room is None:
                    return dataclasses.replace(told, missing=(*_CHAT, "handleBookingSuccess"))
            else:
                room = room or answer
        was_told = result.chat_room_id is not None and "handleBookingSuccess" not in result.missing
        told = dataclasses.replace(result, chat_room_id=room.id, missing=tuple(missing))
        return told if was_told else (yield from self._tell_provider(told))

    def _tell_provider(self, result: BookingResult) -> Steps[BookingResult]:
        request, name = result.request, "handleBookingSuccess"
        event = BookingSuccess(
            str(result.chat_room_id), str(request.booking_id), request.therapist_id, request.therapist_name
        )
        try:
            yield lambda hands: None if hands.provider is None else hands.provider.handle_booking_success(event)
        except Exception as error:  # noqa: BLE001 - the booking stands
            self._monitor.log_chat_error(name, error)
            return dataclasses.replace(result, missing=(*result.missing, name))
        return result

    def resume(self, booking_id: str, asked: BookingRequest | None) -> Steps[BookingResult]:
        """Find out what became of a booking, and finish it."""
        if asked is not None:
            return (yield from self.create(asked))
        row = yield from self._read(booking_id)
        request = request_of(row)
        return (yield from self.open_chat(BookingResult(request=request, data=dict(row.data), chat_room_id=None)))

    def reschedule(self, booking_id: str, start: datetime.datetime, duration: int | None) -> Steps[BookingRequest]:
        """Claim the new slots, then change the booking, then give back the old slots that are no longer needed."""
        row = yield from self._read(booking_id)
        before = request_of(row)
        after = dataclasses.replace(before, start=start, duration=duration or before.duration)
        with self._monitor.context(**after.context()):
            yield from self._move(row, before, after)
        return after

    def _move(self, row: Row, before: BookingRequest, after: BookingRequest) -> Steps[None]:
        kept = {slot.row_id for slot in slot_rows(before)}
        new = [slot for slot in slot_rows(after) if slot.row_id not in kept]
        arguments = self._arguments("rescheduleBooking")
        data = {**({} if after.start is None else {"start": written(after.start)}), "duration": after.duration}
        place = {"database_id": DATABASE_ID, "table_id": BOOKINGS, "row_id": row.id}
        try:
            if new:
                yield from self._claim_together(after, new)
            try:
                changed = yield lambda hands: hands.update_row(**place, data=data, expected=row, **arguments)
            except Exception as error:
                needed = _needed_by(error)
                yield from self._undo_claims(after, [slot for slot in new if slot.row_id not in needed], error)
                raise
        except Exception as error:
            raise self._refused("rescheduleBooking", error) from error
        needed = {slot.row_id for slot in slot_rows(after)}
        yield from self._drop("rescheduleBooking", row.id, needed, changed)

    def cancel(self, booking_id: str) -> Steps[bool]:
        """Delete the booking, then its slots; tell whether the booking was there."""
        arguments = self._arguments("cancelBooking")
        place = {"database_id": DATABASE_ID, "table_id": BOOKINGS, "row_id": booking_id}
        with self._monitor.context(booking_id=booking_id):
            try:
                was_there: bool = yield lambda hands: hands.delete_row(**place, **arguments)
            except Exception as error:
                raise self._refused("cancelBooking", error) from error
            yield from self._drop("cancelBooking", booking_id, set(), None)
        return was_there

    def _claim_together(self, request: BookingRequest, slots: Sequence[SlotRow]) -> Steps[None]:
        if not self._is_stepwise:
            try:
                yield lambda hands: hands.create_rows(slots, pipeline=self._together, operation="claimSlots")
            except ValueError:
                self._is_stepwise = True  # this server has no transactions
            else:
                return
        yield from self._claim(request, slots)

    def _drop(self, operation: str, booking_id: str, needed: set[str], changed: Row | None) -> Steps[None]:
        """Delete the slots that a booking holds and no longer needs.

        Those that were claimed after a change stay: a later one needs them.

        Raises:
            BookingError: If some could not be deleted; the booking has been changed all the same.
        """
        arguments = self._arguments("giveSlotBack")
        queries = [Query.equal("holder", [str(booking_id)]), Query.limit(200)]
        try:
            answer = yield lambda hands: hands.list_rows(self._one, "readSlots", SLOTS, queries)
            since = None if changed is None else changed.updated_at
            for slot in map(row_of, answer.rows):
                is_newer = since is not None and slot.created_at is not None and slot.created_at >= since
                if slot.id not in needed and not is_newer:
                    place = {"database_id": DATABASE_ID, "table_id": SLOTS, "row_id": slot.id}
                    yield partial(_delete_at, place, {"expected": slot, **arguments})
        except Exception as error:
            raise self._refused(operation, LeftOverError(error)) from error

    def _read(self, booking_id: str) -> Steps[Row]:
        queries = [Query.equal("$id", [str(booking_id)]), Query.limit(1)]
        with self._monitor.context(booking_id=booking_id):
            try:
                answer = yield lambda hands: hands.list_rows(self._one, "readBooking", BOOKINGS, queries)
            except Exception as error:
                raise self._refused("readBooking", error) from error
        rows = [row_of(row) for row in answer.rows if row.id == str(booking_id)]
        if not rows:
            raise LookupError(f"there is no booking {booking_id!r}")
        return rows[0]

    def _arguments(self, operation: str) -> dict[str, Any]:
        return {"pipeline": self._one, "operation": operation}

    def _refused(self, operation: str, error: Exception) -> BookingError:
        """Return the error of an operation that failed, recorded."""
        unknown = isinstance(error, LeftOverError) or outcome_unknown(error)
        error = error.reason if isinstance(error, LeftOverError) else error
        self._monitor.log_booking_error(operation, error, **({"outcome_unknown": True} if unknown else {}))
        return BookingError(message_for(error), unknown=unknown)


class LeftOverError(Exception):
    """An operation failed half-way, and what it had done could not be undone; the same call again finishes it.

    Attributes:
        reason: Why it failed.
    """

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


def run(steps: Steps[T], hands: Hands) -> T:
    """Take the steps in the calling thread."""
    answer: Any = None
    failure: Exception | None = None
    with contextlib.closing(steps):  # an interrupt must not leave the booking's context behind
        while True:
            try:
                ask = steps.send(answer) if failure is None else steps.throw(failure)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                answer, failure = ask(hands), None
            except Exception as error:  # noqa: BLE001 - the steps decide
                failure = error


async def run_async(steps: Steps[T], hands: Hands) -> T:
    """Take the steps in an event loop."""
    answer: Any = None
    failure: Exception | None = None
    with contextlib.closing(steps):  # as above, for a cancellation
        while True:
            try:
                ask: Callable[[Hands], Awaitable[Any] | None] = (
                    steps.send(answer) if failure is None else steps.throw(failure)
                )
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                waiting = ask(hands)
                answer, failure = None if waiting is None else await waiting, None
            except Exception as error:  # noqa: BLE001 - the steps decide
                failure = error


def _may_be_the_chats(error: Exception, chat: Sequence[NewRow]) -> bool:
    """Tell whether the rows of the chat may be why a transaction was refused; then the booking goes without them."""
    if isinstance(error, SlotTakenError) or outcome_unknown(error):
        return False
    if isinstance(error, RowConflictError):
        return error.row_id in {row.row_id for row in chat}
    return classify(error).status in _REFUSED


def _needed_by(error: Exception) -> set[str]:
    """Return the IDs of the slots that the booking needs that was found instead of the one to change."""
    found = error.found if isinstance(error, RowConflictError) else None
    return set() if found is None else {slot.row_id for slot in slot_rows(request_of(found))}


def _place(row: NewRow) -> dict[str, str]:
    return {"database_id": row.database_id, "table_id": row.table_id, "row_id": row.row_id}


def _create(row: NewRow, arguments: dict[str, Any], hands: Hands) -> Any:
    return hands.create_row(**_place(row), data=row.data, **arguments)


def _delete(row: NewRow, arguments: dict[str, Any], hands: Hands) -> Any:
    return hands.delete_row(**_place(row), **arguments)


def _in_chat(call: Callable[[Any], Any], hands: Hands) -> Any:
    return call(hands.chat)


def _delete_at(place: dict[str, str], arguments: dict[str, Any], hands: Hands) -> Any:
    return hands.delete_row(**place, **arguments)
