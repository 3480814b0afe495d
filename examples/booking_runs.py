"""Makes the same bookings with and without resilience, and counts what came of them. Used by `create_booking.py`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from appwrite.exception import AppwriteException
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB

from booking_flow import (
    BOOKINGS,
    DATABASE_ID,
    SETUP,
    AsyncBookingFlow,
    BookingError,
    BookingFlow,
    BookingRequest,
    BookingResult,
    booking_data,
    bootstrap,
)
from booking_resilience import (
    BookingSource,
    ErrorMonitor,
    Pipeline,
    RetryPolicy,
    iter_batch,
    iter_batch_async,
    message_for,
)
from booking_resilience.appwrite import AppwriteClient, AsyncAppwriteClient, appwrite_breaker
from booking_resilience.testing import AppwriteServer, AsyncRecordingChatProvider, RecordingChatProvider

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from rich.progress import Progress

P = ParamSpec("P")
T = TypeVar("T")

OPERATION = "createBooking"
ONCE = Pipeline(retry=RetryPolicy(max_attempts=1, deadline=None))
"""For the batch: it doesn't repeat a whole booking, since the booking's steps are retried."""


class TimedClient(AppwriteClient):
    """A client that keeps how long each call took, in milliseconds, failed calls included."""

    def __init__(self) -> None:
        super().__init__()
        self.call_ms: list[float] = []

    def call(
        self,
        method: str,
        path: str = "",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        response_type: str = "json",
    ) -> Any:
        """Make the call."""
        started = time.perf_counter()
        try:
            return super().call(method, path, headers, params, response_type)
        finally:
            self.call_ms.append((time.perf_counter() - started) * 1000)


class AsyncTimedClient(AsyncAppwriteClient):
    """The same, asynchronous."""

    def __init__(self) -> None:
        super().__init__()
        self.call_ms: list[float] = []

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Make the call."""
        started = time.perf_counter()
        try:
            return await super().run(fn, *args, **kwargs)
        finally:
            self.call_ms.append((time.perf_counter() - started) * 1000)


class RetryWatch(logging.Handler):
    """Counts retries and times recoveries from the library's log; leaves out those of verification reads."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.retries = 0
        self.recovery_ms: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take the facts of one retry event."""
        outcome, operation = getattr(record, "outcome", None), getattr(record, "operation", "")
        if operation.endswith(": verify"):  # part of an operation that has events of its own
            return
        self.retries += outcome == "retrying"
        if outcome == "recovered":
            self.recovery_ms.append(getattr(record, "elapsed", 0.0) * 1000)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen inside the block."""
        logger = logging.getLogger("booking_resilience.retry")
        level = logger.level
        logger.addHandler(self)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.setLevel(level)


@dataclass
class Run:
    """What came of a number of bookings.

    Attributes:
        succeeded: Bookings in the table.
        failed: Bookings that are not there, and whose callers know it.
        degraded: Bookings whose chat is incomplete.
        lost: Bookings reported as stored that are not in the table.
        duplicates: Rows too many.
        unconfirmed: Bookings in the table that were not reported as stored.
        unknown: Bookings whose callers were told that the outcome is unknown.
        retries: Operations tried again.
        recovery_ms: How long each operation took that succeeded on a retry.
        latency_ms: How long each booking took, all steps together, failed ones included.
        complete_ms: How long each took that was stored with its whole chat.
        call_ms: How long each call to Appwrite took.
        messages: What people were told, and how often.
        categories: The error monitor's records by category.
        breaker: The breaker's snapshot.
    """

    succeeded: int = 0
    failed: int = 0
    degraded: int = 0
    lost: int = 0
    duplicates: int = 0
    unconfirmed: int = 0
    unknown: int = 0
    retries: int = 0
    recovery_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    complete_ms: list[float] = field(default_factory=list)
    call_ms: list[float] = field(default_factory=list)
    messages: Counter[str] = field(default_factory=Counter)
    categories: dict[str, int] = field(default_factory=dict)
    breaker: dict[str, Any] = field(default_factory=dict)

    @property
    def complete(self) -> int:
        """Bookings in the table with their whole chat."""
        return self.succeeded - self.degraded

    def take(self, outcome: Any) -> BookingRequest | None:
        """Count one booking's outcome; return its request if its caller was told that it is stored."""
        result, elapsed = outcome.value if outcome.error is None else (None, None)
        if elapsed is not None:
            self.latency_ms.append(elapsed * 1000)
        if isinstance(result, BookingResult):
            self.degraded += bool(result.missing)
            if not result.missing:
                self.complete_ms.append(self.latency_ms[-1])
            return result.request
        error = outcome.error if result is None else result
        self.unknown += isinstance(error, BookingError) and error.unknown
        self.messages[error.message if isinstance(error, BookingError) else message_for(error)] += 1
        return None


def requests(count: int, run: str) -> list[BookingRequest]:
    """Return `count` booking requests of all kinds; the run's name decides their IDs."""
    sources = [None, *BookingSource]
    return [
        BookingRequest(
            therapist_id=f"therapist-{number % 7}",
            therapist_name=f"Therapist {number % 7}",
            user_id=f"user-{number}",
            booking_type="scheduled" if number % 3 == 2 else "immediate",
            duration=30 + 15 * (number % 5),
            source=sources[number % len(sources)],
            chat_window_open=number % 2 == 1,
            booking_id=uuid.uuid5(uuid.NAMESPACE_OID, f"{run} {number}").hex,
            run=run,
        )
        for number in range(count)
    ]


class Tally:
    """Counts what comes of the bookings of a site.

    Attributes:
        asked: The bookings to make.
        workers: How many at a time.
    """

    def __init__(self, place: Site, client: TimedClient | AsyncTimedClient) -> None:
        self.asked = requests(place.options.bookings, place.run_id)
        self.workers: int = place.options.workers
        self._run, self._confirmed = Run(), set[str]()
        self._progress, self._client = place.progress, client
        self._task = place.progress.add_task("bookings", total=len(self.asked))
        client.call_ms.clear()

    def take(self, outcome: Any) -> None:
        """Count one booking."""
        if request := self._run.take(outcome):
            self._confirmed.add(request.booking_id)
        self._progress.advance(self._task)

    def close(self) -> tuple[Run, set[str]]:
        """Return what came of them and the IDs of those reported as stored."""
        self._run.call_ms = list(self._client.call_ms)
        return self._run, self._confirmed


@dataclass
class Site:
    """An Appwrite with its tables, and the bookings to make there."""

    client: TimedClient
    connection: tuple[str, str, str]
    server: AppwriteServer | None
    options: Namespace
    progress: Progress
    run_id: str

    def make(self, book: Callable[[BookingRequest], BookingResult]) -> tuple[Run, set[str]]:
        """Make the bookings, a few at a time; return what came of them and the IDs of those reported as stored."""
        tally = Tally(self, self.client)
        with self.faults():
            timed = partial(_timed, book)
            for outcome in iter_batch(
                timed, tally.asked, pipeline=ONCE, operation=OPERATION, max_concurrency=tally.workers
            ):
                tally.take(outcome)
        return tally.close()

    async def make_async(
        self, made: Callable[[AsyncTimedClient], Callable[[BookingRequest], Awaitable[BookingResult]]]
    ) -> tuple[Run, set[str]]:
        """Do as `make` in an event loop, with what is made for an asynchronous client."""
        async with AsyncTimedClient() as client:
            self.lead_here(client)
            tally = Tally(self, client)
            with self.faults():
                timed = partial(_timed_async, made(client))
                outcomes = iter_batch_async(
                    timed, tally.asked, pipeline=ONCE, operation=OPERATION, max_concurrency=tally.workers
                )
                async for outcome in outcomes:
                    tally.take(outcome)
            return tally.close()

    def count_stored(self, run: Run, confirmed: set[str]) -> None:
        """Compare what was reported as stored with what the table holds; a success is what it holds."""
        stored = self._read_stored()
        run.succeeded = len(stored)
        run.lost = len(confirmed - set(stored))
        run.duplicates = sum(copies - 1 for copies in stored.values())
        run.unconfirmed = len(set(stored) - confirmed)
        run.failed = self.options.bookings - run.succeeded - run.lost

    def lead_here(self, client: AppwriteClient | AsyncAppwriteClient) -> None:
        """Have a client speak to this Appwrite."""
        endpoint, project, key = self.connection
        client.set_endpoint(endpoint).set_project(project).set_key(key)

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Let the embedded server fail inside the block, at the rate that was asked for."""
        if self.server is None:
            yield
            return
        options = self.options
        self.server.faults.rate(options.fault_rate, seed=options.seed, kinds=options.kinds, by_request=True)
        try:
            yield
        finally:
            self.server.faults.clear()

    def _read_stored(self) -> Counter[str]:
        """Return how often each reference of the run stands in the table."""
        tables: Any = TablesDB(self.client)
        stored = Counter[str]()
        after: list[str] = []
        while True:
            queries = [Query.equal("run", [self.run_id]), Query.limit(100), *after]
            place = {"database_id": DATABASE_ID, "table_id": BOOKINGS}
            rows: list[Any] = SETUP.call("readStored", tables.list_rows, **place, queries=queries).rows
            if not rows:
                return stored
            stored.update(row.data["reference"] for row in rows)
            after = [Query.cursor_after(rows[-1].id)]


@contextlib.contextmanager
def site(options: Namespace, progress: Progress) -> Iterator[Site]:
    """Give the Appwrite that was asked for, its tables made: an embedded one of its own, or a real one."""
    with contextlib.ExitStack() as stack:
        if options.endpoint is None:
            server = stack.enter_context(AppwriteServer(project="demo", key="demo-key"))
            connection, run_id = (server.endpoint, "demo", "demo-key"), f"seed {options.seed}"
        else:
            server, run_id = None, uuid.uuid4().hex
            connection = (options.endpoint, options.project, options.key)
        place = Site(TimedClient(), connection, server, options, progress, run_id)
        place.lead_here(place.client)
        bootstrap(place.client)
        yield place


def run_all(options: Namespace, progress: Progress) -> tuple[Run, Run, Run | None, ErrorMonitor]:
    """Make the bookings with resilience step by step, without it, and with each booking in one transaction.

    The first two make the same calls, so that they can be compared; the last is left out with `--steps`. Each run has
    an embedded server of its own, and the first two meet the same faults: which request fails follows from the seed and
    from what is requested, not from the order in which the workers' requests arrive.
    """
    monitor = ErrorMonitor(capacity=10_000)
    run, plain = resilient_run(options, progress, monitor, steps=True), plain_run(options, progress)
    together = None if options.steps else resilient_run(options, progress, ErrorMonitor(), steps=False)
    return run, plain, together, monitor


def resilient_run(options: Namespace, progress: Progress, monitor: ErrorMonitor, *, steps: bool) -> Run:
    """Make the bookings with retry and breaker."""
    # When the calls of all workers hang, they end together: that is one failure of the backend, not several in a row.
    breaker = appwrite_breaker(failure_threshold=max(5, options.workers))
    watch = RetryWatch()
    with site(options, progress) as place:
        parts: dict[str, Any] = {"monitor": monitor, "breaker": breaker, "steps": steps}
        with watch.listening():
            if options.is_async:

                def made(client: AsyncTimedClient) -> Callable[[BookingRequest], Awaitable[BookingResult]]:
                    provider = AsyncRecordingChatProvider()
                    return AsyncBookingFlow(client, **parts, chat_provider=provider).create_booking

                run, confirmed = asyncio.run(place.make_async(made))
            else:
                flow = BookingFlow(place.client, **parts, chat_provider=RecordingChatProvider())
                run, confirmed = place.make(flow.create_booking)
        place.count_stored(run, confirmed)
    run.retries, run.recovery_ms = watch.retries, watch.recovery_ms
    by_category = monitor.stats().by_category
    run.categories = {getattr(key, "value", key): number for key, number in by_category.items() if number}
    snapshot = breaker.snapshot()
    run.breaker = {item.name: getattr(snapshot, item.name) for item in dataclasses.fields(snapshot)}
    run.breaker["state"] = snapshot.state.value
    return run


def plain_run(options: Namespace, progress: Progress) -> Run:
    """Make the same bookings with plain calls of the SDK, one for each step."""
    with site(options, progress) as place:
        if options.is_async:
            run, confirmed = asyncio.run(place.make_async(lambda client: partial(book_plainly_async, client)))
        else:
            run, confirmed = place.make(partial(book_plainly, TablesDB(place.client)))
        place.count_stored(run, confirmed)
    return run


def book_plainly(tables: Any, request: BookingRequest) -> BookingResult:
    """Take the same four steps as `BookingFlow`, each with one call and nothing around it."""
    missing = []
    for step, row in plain_steps(request):
        try:
            tables.create_row(**row)
        except AppwriteException:
            if step == "createBooking":
                raise
            missing.append(step)
    return plain_result(request, missing)


async def book_plainly_async(client: AsyncTimedClient, request: BookingRequest) -> BookingResult:
    """Do as `book_plainly` with an asynchronous client."""
    tables: Any = TablesDB(client)
    missing = []
    for step, row in plain_steps(request):
        try:
            await client.run(tables.create_row, **row)
        except AppwriteException:
            if step == "createBooking":
                raise
            missing.append(step)
    return plain_result(request, missing)


def plain_steps(request: BookingRequest) -> list[tuple[str, dict[str, Any]]]:
    """Return the steps of a booking, each with the arguments that create its row."""
    booking_id = request.booking_id
    room = {"bookingId": booking_id, "participants": [request.user_id, request.therapist_id]}
    rows = (
        ("createBooking", BOOKINGS, booking_id, booking_data(request)),
        ("createChatRoom", "chat_rooms", booking_id, room),
        ("sendWelcomeMessage", "chat_messages", f"w-{booking_id}", {"roomId": booking_id, "text": "Welcome!"}),
        ("sendBookingReceivedMessage", "chat_messages", f"r-{booking_id}", {"roomId": booking_id, "text": "Received."}),
    )
    return [
        (step, {"database_id": DATABASE_ID, "table_id": table_id, "row_id": row_id, "data": data})
        for step, table_id, row_id, data in rows
    ]


def plain_result(request: BookingRequest, missing: list[str]) -> BookingResult:
    """Return what a booking by plain calls came to."""
    data = booking_data(request)
    return BookingResult(request=request, data=data, chat_room_id=request.booking_id, missing=tuple(missing))


def _timed(
    book: Callable[[BookingRequest], BookingResult], request: BookingRequest
) -> tuple[BookingResult | Exception, float]:
    started = time.perf_counter()
    try:
        result: BookingResult | Exception = book(request)
    except Exception as error:  # noqa: BLE001 - the time of a failure counts, too
        result = error
    return result, time.perf_counter() - started


async def _timed_async(
    book: Callable[[BookingRequest], Awaitable[BookingResult]], request: BookingRequest
) -> tuple[BookingResult | Exception, float]:
    started = time.perf_counter()
    try:
        result: BookingResult | Exception = await book(request)
    except Exception as error:  # noqa: BLE001 - the time of a failure counts, too
        result = error
    return result, time.perf_counter() - started
