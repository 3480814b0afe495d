"""Workers that are killed lose no booking and double none; others take over what they did."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("dbos")

from booking_resilience.durable import DurableStoreError
from booking_resilience.testing import AppwriteServer
from durable_bench import Bench, eventually, failing
from durable_crew import Backend, Crew, Forge, Postgres, campaign, takes_over
from racing import needs_fork

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [needs_fork]


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """Where the workers come from."""
    made = Forge(tmp_path_factory.mktemp("forge"))
    yield made
    made.close()


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A server with the tables."""
    with AppwriteServer() as server:
        yield Backend(server)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL, or a skip that says why not."""
    if reason := Postgres.missing():
        pytest.skip(reason)
    with Postgres() as made:
        made.url = made.database()
        yield made


def test_killed_workers_lose_and_double_nothing(forge: Forge, backend: Backend, tmp_path: Path) -> None:
    """Every booking is stored once and whole, however many workers are killed under faults."""
    with Crew(forge, f"sqlite:///{tmp_path}/durable.sqlite", tmp_path, backend.server.endpoint) as crew:
        campaign(crew, backend, bookings=100, kills=40, crews=4, seed=1, within=160.0)


def test_a_living_worker_takes_over(forge: Forge, backend: Backend, tmp_path: Path) -> None:
    """A worker takes over from one that was killed while both lived."""
    with Crew(forge, f"sqlite:///{tmp_path}/durable.sqlite", tmp_path, backend.server.endpoint) as crew:
        takes_over(crew, backend, others=1)


def test_a_worker_takes_over_on_postgres(forge: Forge, backend: Backend, postgres: Postgres, tmp_path: Path) -> None:
    """Of three processes on PostgreSQL the others take over from the one that is killed."""
    with Crew(forge, postgres.url, tmp_path, backend.server.endpoint) as crew:
        takes_over(crew, backend, others=2)


def test_postgres_may_go_and_come_back(postgres: Postgres) -> None:
    """While PostgreSQL is away submissions are rejected; when it is back all goes on, also a call that ended."""
    bench = Bench(postgres.url)
    try:
        waits, gate, begun = bench.call(failing(1)), threading.Event(), threading.Event()
        ends = bench.call(lambda: (begun.set(), gate.wait(60), "done")[-1])
        bench.waits(waits)
        assert begun.wait(60)
        postgres.stop()
        gate.set()
        with pytest.raises(DurableStoreError):
            bench.call(failing(0))
        postgres.start()
        eventually(lambda: tried_now(bench, waits), 60, "it is woken")
        assert [bench.value(booking) for booking in (waits, ends, bench.call(failing(0)))] == ["done"] * 3
    finally:
        bench.durable.stop(timeout=1.0)


def tried_now(bench: Bench, booking: str) -> bool:
    """Try a booking now; False also while the database comes back."""
    try:
        return bench.durable.try_now(booking)
    except DurableStoreError:
        return False
