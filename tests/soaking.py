"""The application that `soak.py` watches: bookings on one Appwrite server, with every part of the library switched on.

Bookings are made in threads, in an event loop and as durable workflows, all through one pipeline. Reads are hedged, and
have a time limit and a fallback. The monitor writes a journal, a dashboard shows all of it and is polled, OpenTelemetry
collects, and the settings are reloaded all the time.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import httpx2
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from booking_request import BookingRequest, booking_row, rows_of_chat, slot_rows
from booking_resilience import (
    AlertRule,
    ErrorMonitor,
    Pipeline,
    RetryPolicy,
    Settings,
    deadline,
    iter_batch,
    iter_batch_async,
)
from booking_resilience.appwrite import (
    AppwriteClient,
    AsyncAppwriteClient,
    NewRow,
    create_rows_once,
    create_rows_once_async,
    outcome_unknown,
)
from booking_resilience.dashboard import dashboard
from booking_resilience.durable import Durable
from booking_resilience.http.httpx import ResilientTransport
from booking_resilience.http.httpx2 import AsyncResilientTransport
from booking_resilience.journal import FleetMonitor, SQLiteJournal
from booking_resilience.load import Fallback
from booking_resilience.telemetry.otel import Telemetry
from booking_resilience.web import Resilience
from booking_tables import BOOKINGS, DATABASE_ID
from dashboardhost import DashboardHost

OPENING = datetime.datetime(2027, 1, 4, tzinfo=datetime.UTC)
KEY = {"X-Appwrite-Project": "demo", "X-Appwrite-Key": "demo-key"}
ONCE = Pipeline(retry=RetryPolicy(max_attempts=1, deadline=None))
LATEST = [Query.limit(5)]
AT_ONCE = 8


def settings_of(turn: int) -> dict[str, Any]:
    """Return the settings; those of an odd turn differ from those of an even one."""
    odd = turn % 2
    parts = {"breaker": "appwrite", "limit": "writes", "rate": "writes"}
    retry = {"max_attempts": 4 + odd, "base_delay": 0.05, "attempt_timeout": 1.0}
    return {
        "breakers": {"appwrite": {"cooldown": 0.4 + odd / 10, "failure_threshold": 5 + odd}},
        "limits": {name: {"initial": 8, "max_queue": 100 + odd, "max_wait": 2.0} for name in ("writes", "reads")},
        "rates": {name: {"rate": 30.0 + odd, "max_queue": 100, "max_wait": 2.0} for name in ("writes", "reads")},
        "pipelines": {
            "write": {**parts, "retry": {**retry, "budget": {"capacity": 50.0 + odd}}},
            "read": {
                **parts, "limit": "reads", "rate": "reads", "retry": retry,
                "hedge": {"idempotent": True, "max_extra": 0.2 + odd / 10}, "timeout": 2.0 + odd,
            },
        },
    }  # fmt: skip


def rows_of(booking_id: str, customer: str, run: str, place: int) -> list[NewRow]:
    """Return the rows of a booking that takes the hour with this number."""
    start = OPENING + datetime.timedelta(hours=place)
    request = BookingRequest(
        booking_id=booking_id, therapist_id="t1", therapist_name="Ada", user_id=customer, start=start, run=run
    )
    return [booking_row(request), *slot_rows(request), *rows_of_chat(request)]


class Application:
    """All parts, and what they did.

    Attributes:
        counts: What was done, by name, since the last `begin`.
        confirmed: The bookings that were confirmed since then.
        denied: Those that are said not to have been made.
    """

    def __init__(self, port: int, folder: Path) -> None:
        self.endpoint = f"http://127.0.0.1:{port}/v1"
        self.counts, self.confirmed, self.denied = Counter[str](), set[str](), set[str]()
        self.waiting: list[str] = []
        self.run, self.end, self.places = "", 0.0, itertools.count()
        self._load(folder)
        self._connect()
        self._watch()
        self.durable = Durable(
            f"sqlite:///{folder / 'bookings.db'}", version="1", pipeline=self.write, base_delay=0.1, max_delay=1.0,
            keep_finished=20.0,
        )  # fmt: skip
        tables = self.tables

        @self.durable.workflow
        async def book(booking_id: str, run: str, place: int) -> str:
            rows = rows_of(booking_id, "durable", run, place)
            await self.durable.call_once(create_rows_once, tables, rows, operation="book durably")
            return booking_id

        self.book = book
        self.telemetry.watch_durable(self.durable)
        self.durable.start()

    def _load(self, folder: Path) -> None:
        """Make the parts that the settings have, and the pipelines around them."""
        self.source, self.turn = settings_of(0), 0
        self.settings = settings = Settings.load(self.source)
        self.journals = [SQLiteJournal(folder / "journal.db", max_records=1000) for _ in range(2)]
        self.monitor = ErrorMonitor(
            capacity=100, window=10.0, alert=AlertRule(threshold=50.0), on_alert=self._count, journal=self.journals[0]
        )
        self.monitor.subscribe(self._count)
        self.fleet = FleetMonitor(self.journals[1], capacity=200, on_alert=self._count)
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader])
        self.telemetry = telemetry = Telemetry(meter_provider=self.provider)
        self.breaker = settings.breaker("appwrite")
        self.limits = [part(name) for part in (settings.limit, settings.rate) for name in ("writes", "reads")]
        common: dict[str, Any] = {"breaker": self.breaker, "monitor": self.monitor}
        write, self.plain_read = settings.pipeline("write"), settings.pipeline("read")
        self.write = telemetry.pipeline(
            Pipeline(retry=write.retry, limit=settings.limit("writes"), rate=settings.rate("writes"), **common)
        )
        parts: dict[Any, Any] = {role: self.plain_read.part(role) for role in ("limit", "rate", "hedge", "timeout")}
        self.read = telemetry.pipeline(
            Pipeline(retry=self.plain_read.retry, fallback=Fallback(None), **parts, **common)
        )

    def _connect(self) -> None:
        client, client_async = AppwriteClient(), AsyncAppwriteClient()
        for made in (client, client_async):
            made.set_endpoint(self.endpoint).set_project("demo").set_key("demo-key")
        self.client, self.client_async = client, client_async
        self.tables: Any = TablesDB(client)
        self.tables_async: Any = TablesDB(client_async)
        transport = ResilientTransport(monitor=self.monitor, verify=False)
        self.http = httpx.Client(transport=transport, headers=KEY, timeout=2.0)
        self.rows = f"{self.endpoint}/tablesdb/{DATABASE_ID}/tables/{BOOKINGS}/rows"

    def _watch(self) -> None:
        self.telemetry.watch_breaker(self.breaker)
        self.telemetry.watch_monitor(self.monitor)
        for limit in self.limits:
            self.telemetry.watch_limit(limit)
        shown: Any = dashboard(self.fleet, breakers=[self.breaker], limits=self.limits, title="Soak")
        self.host = DashboardHost(Resilience(shown, monitor=self.monitor, deadline=10.0), timeout_keep_alive=600)
        self.browser = httpx.Client(base_url=self.host.url, timeout=30.0, trust_env=False)

    def _count(self, what: object) -> None:
        self.counts[type(what).__name__] += 1

    def begin(self, run: str) -> None:
        """Forget what was counted."""
        self.run, self.places = run, itertools.count()
        self.counts.clear()
        self.confirmed.clear()
        self.denied.clear()

    def work(self, seconds: float) -> None:
        """Do everything at once for so long."""
        self.end = time.monotonic() + seconds
        jobs = (self._book, lambda: asyncio.run(self._book_async()), self._read, self._submit, self._look)
        with ThreadPoolExecutor(len(jobs)) as crew:
            for job in [crew.submit(job) for job in jobs]:
                job.result()

    def settle(self) -> None:
        """Wait until the durable bookings are made, once nothing goes wrong any more."""
        for booking_id in self.waiting:
            self.confirmed.add(self.durable.result(booking_id, timeout=60.0))
        self.waiting.clear()

    def close(self) -> None:
        """Close all parts."""
        self.durable.stop()
        self.browser.close()
        self.host.stop()
        self.http.close()
        self.provider.shutdown()
        self.fleet.close()
        self.monitor.flush()
        for journal in self.journals:
            journal.close()

    def _is_time(self) -> bool:
        return time.monotonic() < self.end

    def _wanted(self, who: str) -> Iterator[tuple[str, list[NewRow]]]:
        while self._is_time():
            place = next(self.places)
            yield f"{who}-{self.run}-{place}", rows_of(f"{who}-{self.run}-{place}", who, self.run, place)

    def _book(self) -> None:
        def create(booking: tuple[str, list[NewRow]]) -> None:
            create_rows_once(self.tables, booking[1], pipeline=self.write, operation="book")

        wanted = self._wanted("thread")
        for outcome in iter_batch(create, wanted, pipeline=ONCE, max_concurrency=AT_ONCE, max_open_wait=1.0):
            self._take(outcome)

    async def _book_async(self) -> None:
        async def create(booking: tuple[str, list[NewRow]]) -> None:
            await create_rows_once_async(self.tables_async, booking[1], pipeline=self.write, operation="book")

        async with self.client_async, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_async())
            wanted = self._wanted("task")
            outcomes = iter_batch_async(create, wanted, pipeline=ONCE, max_concurrency=AT_ONCE, max_open_wait=1.0)
            async for outcome in outcomes:
                self._take(outcome)

    def _take(self, outcome: Any) -> None:
        self.counts["asked"] += 1
        booking_id = outcome.item[0]
        if outcome.error is None:
            self.confirmed.add(booking_id)
        elif not outcome_unknown(outcome.error):
            self.denied.add(booking_id)

    def _read(self) -> None:
        """Read in threads: through both pipelines, and by an HTTP client."""
        fetch = partial(self.tables.list_rows, DATABASE_ID, BOOKINGS, LATEST)
        while self._is_time():
            self.counts["reads"] += self.read.call("read", fetch) is not None
            self._try(self.plain_read.call, "read plainly", fetch)
            with deadline(3.0):
                self._try(self.http.get, self.rows)

    def _try(self, fn: Any, *args: Any) -> None:
        try:
            fn(*args)
        except Exception as error:
            self.counts[type(error).__name__] += 1
        else:
            self.counts["reads"] += 1

    async def _read_async(self) -> None:
        fetch = partial(self.client_async.run, self.tables_async.list_rows, DATABASE_ID, BOOKINGS, LATEST)
        transport = AsyncResilientTransport(monitor=self.monitor, verify=False)
        async with httpx2.AsyncClient(transport=transport, headers=KEY, timeout=2.0) as http:
            while self._is_time():
                self.counts["reads"] += await self.read.call_async("read", fetch) is not None
                try:
                    await http.get(self.rows)
                except Exception as error:
                    self.counts[type(error).__name__] += 1

    def _submit(self) -> None:
        """Keep durable bookings, many at first, which are made whenever that works again."""
        while self._is_time():
            self._keep_one()
            if self.counts["durable"] > AT_ONCE * 4:
                time.sleep(0.3)

    def _keep_one(self) -> None:
        place = next(self.places)
        booking_id = f"durable-{self.run}-{place}"
        self.waiting.append(self.durable.submit(self.book, booking_id, self.run, place, id=booking_id))
        self.counts["durable"] += 1

    def _look(self) -> None:
        """Poll the dashboard, collect the metrics, and reload the settings."""
        while self._is_time():
            for address in ("", "api/state?span=60", "api/errors.json", "api/errors.csv"):
                answer = self.browser.get(address)
                answer.raise_for_status()
            state = self.browser.get("api/state?span=60").json()
            for group in state["groups"][:3]:
                self.browser.get(f"api/groups/{group['fingerprint']}")
            self.reader.get_metrics_data()
            self.turn += 1
            self.source.update(settings_of(self.turn))
            self.settings.reload()
            self.counts["polls"] += 1
            time.sleep(0.3)
