"""The tasks against an embedded Appwrite server with faults: run eagerly, and by a worker with a broker in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from appwrite.services.tables_db import TablesDB
from celery.contrib.testing.worker import start_worker

import tasks
from booking_resilience.testing import AppwriteServer, Fault

BOOKING = ("b-17", "ada", "2027-01-04T10:30:00+01:00")


@pytest.fixture
def tables(appwrite_server: AppwriteServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The tables of an Appwrite that the environment names."""
    monkeypatch.setenv("APPWRITE_ENDPOINT", appwrite_server.endpoint)
    monkeypatch.setenv("APPWRITE_PROJECT", "demo")
    monkeypatch.setenv("APPWRITE_KEY", "demo-key")
    with appwrite_server.client() as client:
        tables: Any = TablesDB(client)
        tables.create("clinic", "Clinic")
        tables.create_table("clinic", "bookings", "Bookings")
        for column in ("therapist", "start"):
            tables.create_varchar_column("clinic", "bookings", column, 64, True)
        yield tables
    tasks.settings.breaker("appwrite").reset()


def stored(tables: Any) -> list[str]:
    """Return the IDs of the bookings that are stored."""
    return [row.id for row in tables.list_rows("clinic", "bookings").rows]


def test_a_task_stores_its_booking_once(tables: Any, appwrite_server: AppwriteServer) -> None:
    """The answer gets lost, and the task runs twice: there is one row."""
    appwrite_server.faults.script([Fault.reset(after_commit=True)], method="POST", path="/rows")
    assert tasks.store_booking.apply(BOOKING).get(disable_sync_subtasks=False) == "b-17"
    assert tasks.store_booking(*BOOKING) == "b-17"
    assert stored(tables) == ["b-17"]


def test_a_task_that_is_refused_is_not_tried_again(tables: Any) -> None:
    """Bad data fails at once, and the monitor has the record."""
    before = tasks.monitor.stats().failed
    task = tasks.store_booking.apply(("b-18", "x" * 65, BOOKING[2]))
    assert task.state == "FAILURE"
    assert tasks.monitor.stats().failed == before + 1
    assert stored(tables) == []


def test_a_worker_outlasts_failures(tables: Any, appwrite_server: AppwriteServer) -> None:
    """A worker's task meets two failures, pauses without occupying the worker, and stores the booking."""
    appwrite_server.faults.script([Fault.status(503), Fault.reset()], method="POST", path="/rows")
    with start_worker(tasks.app, perform_ping_check=False, shutdown_timeout=60):
        tasks.store_booking.delay(*BOOKING)
        end = time.monotonic() + 60
        while stored(tables) != ["b-17"]:
            assert time.monotonic() < end
            time.sleep(0.05)
