"""Workers that are killed lose no booking and double none; others take over what they did."""

from __future__ import annotations

import os
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("dbos")

from booking_resilience.testing import AppwriteServer
from durable_crew import Backend, Crew, Postgres, campaign, eventually
from redisserver import needs_fork

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [needs_fork, pytest.mark.timeout(int(os.environ.get("DURABLE_TIMEOUT", "170")))]
KILLS = int(os.environ.get("DURABLE_KILLS", "40"))
BOOKINGS = int(os.environ.get("DURABLE_BOOKINGS", "100"))
CREWS = int(os.environ.get("DURABLE_CREWS", "2"))
SEED = int(os.environ.get("DURABLE_SEED", "1"))


@pytest.fixture
def backend() -> Iterator[Backend]:
    """A server with the tables."""
    with AppwriteServer() as server:
        yield Backend(server)


@pytest.fixture
def crew(backend: Backend, tmp_path: Path) -> Iterator[Crew]:
    """A crew on a SQLite file."""
    with Crew(f"sqlite:///{tmp_path}/durable.sqlite", tmp_path, backend.server.endpoint) as made:
        yield made


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL, or a skip that says why not."""
    if reason := Postgres.missing():
        pytest.skip(reason)
    with Postgres() as made:
        yield made


def test_killed_workers_lose_and_double_nothing(crew: Crew, backend: Backend) -> None:
    """Every booking is stored once and whole, however many workers are killed under faults."""
    seconds = campaign(
        crew, backend, bookings=BOOKINGS, kills=KILLS, crews=CREWS, seed=SEED, within=60.0 + KILLS + BOOKINGS
    )
    print(f"{BOOKINGS} bookings, {KILLS} kills, {CREWS} crews, seed {SEED}: 0 lost, 0 doubled, {seconds:.1f} s")


def test_a_living_worker_takes_over(crew: Crew, backend: Backend) -> None:
    """A worker takes over from one that was killed while both lived."""
    _takes_over(crew, backend)


def test_a_worker_takes_over_on_postgres(backend: Backend, postgres: Postgres, tmp_path: Path) -> None:
    """Of three processes on PostgreSQL the others take over from the one that is killed."""
    with Crew(postgres.database(), tmp_path, backend.server.endpoint) as crew:
        _takes_over(crew, backend, others=2)


def _takes_over(crew: Crew, backend: Backend, others: int = 1) -> None:
    names = [f"t{number}" for number in range(20)]
    with backend.server.outage():
        first = crew.start(names)
        for _ in range(others):
            other = crew.start()
            eventually(lambda pid=other: crew.has_started(pid), 30, "another worker has started")
        eventually(lambda: len(crew.acknowledged()) == len(names), 30, "all are acknowledged")
        crew.kill(first)
    killed = time.monotonic()
    eventually(lambda: backend.stored() == Counter(dict.fromkeys(names, 4)), 100, "all bookings are stored")
    print(f"taken over and stored {time.monotonic() - killed:.1f} s after the kill")
