"""A campaign: every exactly-once operation under seeded scripts of faults at each of its requests, in both colours.

A few scripts run by default; `CAMPAIGN_SCRIPTS=2000` runs the campaign (`nox -s once`), beginning with the seed
`CAMPAIGN_FIRST`. Delays and timeouts are a tenth of the real ones, so that a hang costs little. `RACE_ROUNDS=100` runs
as many rounds of each race.
"""

from __future__ import annotations

import datetime
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from appwrite.query import Query
from hypothesis import given, settings
from hypothesis import strategies as st

from backends import make_database
from booking_resilience import ErrorMonitor, is_transient
from booking_resilience.appwrite import (
    SLOT_TABLE,
    Row,
    RowConflictError,
    SlotTakenError,
    appwrite_breaker,
    appwrite_retry,
    outcome_unknown,
    time_slots,
)
from booking_resilience.testing import AppwriteServer, Fault
from halves import Half, at_once, pipeline

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SCRIPTS = int(os.environ.get("CAMPAIGN_SCRIPTS", "20"))
FIRST = int(os.environ.get("CAMPAIGN_FIRST", "0"))
ROUNDS = int(os.environ.get("RACE_ROUNDS", "2"))
HANG = 1.0  # seconds; longer than any operation lasts
POLICY: dict[str, Any] = {"base_delay": 0.02, "max_delay": 0.3, "attempt_timeout": 0.1, "deadline": 0.4}
REQUESTS = [("POST", "/rows"), ("PATCH", "/rows/"), ("DELETE", "/rows/"), ("GET", "/rows"), ("POST", "/transactions"),
            ("PATCH", "/transactions/")]  # fmt: skip
KINDS = ("create", "update", "delete", "rows", "reschedule")
NINE = datetime.datetime(2027, 1, 4, 9, tzinfo=datetime.UTC)
QUARTER = datetime.timedelta(minutes=15)


def draw_fault(draw: random.Random) -> Fault:
    """Return one of the faults that a real server or the network was seen to have, before or after the commit."""
    after = draw.random() < 0.6
    return draw.choice(
        [
            Fault.reset(after_commit=after),
            Fault.close(after_commit=after),
            Fault.hang(HANG, after_commit=after),
            Fault.cut_body(after_commit=after),
            Fault.slow_body(draw.choice([0.02, 2.0])),
            Fault.invalid_json(after_commit=after),
            Fault.status(draw.choice([500, 503]), after_commit=after),
            Fault.status(502, html=True, after_commit=after),
            Fault.status(408, after_commit=after),
            Fault.rate_limited(0.0),
            Fault.torn_commit(told="committed", kept=draw.randint(0, 2)),
            Fault.torn_commit(told="conflict", kept=draw.randint(0, 3)),
        ]
    )


def write_scripts(server: AppwriteServer, draw: random.Random) -> None:
    """Have each kind of request go wrong now and then, twice in a row, often, or nearly always."""
    server.faults.clear()
    for method, path in REQUESTS:
        share = draw.choice([0.1, 0.4, 0.9])
        steps: list[Fault | None] = [draw_fault(draw) if draw.random() < share else None for _ in range(12)]
        if draw.random() < 0.3:
            steps[:0] = [Fault.reset(after_commit=True)] * 2
        server.faults.script(steps, method=method, path=path)


class Books:
    """Makes each kind of operation under a script, and sees what came of it."""

    def __init__(self, server: AppwriteServer) -> None:
        import booking_flow

        self.module, self.server = booking_flow, server
        booking_flow.bootstrap(server.client())
        backend = make_database(server.client(), server)
        self.policy = POLICY
        self.halves = {loop: Half(backend, loop) for loop in ("sync", "asyncio")}
        self.counts = Counter[str]()
        self.wrong: list[str] = []

    def run(self, seed: int) -> None:
        """Make one operation under the script of a seed, then make it again when all is well."""
        draw = random.Random(seed)
        kind, loop = KINDS[seed % len(KINDS)], draw.choice(["sync", "asyncio"])
        name = f"s{seed}"
        self.patient(True)
        theirs = self.halves[loop].insert(f"{name}-theirs", doctor="theirs")
        do, done = getattr(self, kind)(self.halves[loop], name)
        self.patient(False)
        write_scripts(self.server, draw)
        error: Exception | None = None
        try:
            do()
        except Exception as failure:
            error = failure
        self.server.faults.clear()
        self.patient(True)
        share = done()  # of what was to be done: 0, 1, or between
        is_open = error is not None and self.open(error)
        self.counts["operations"] += 1
        self.counts["succeeded"] += error is None
        self.counts["open"] += is_open
        self.counts["open though nothing came of it"] += is_open and share == 0
        where = f"seed {seed}: {kind}, {loop}, {share:.2f} done, {error!r}"
        self.note("lost", error is None and share < 1, where)
        self.note("half", 0 < share < 1 and not is_open, where)
        self.note("told as failed", error is not None and share == 1 and not is_open, where)
        try:
            do()
        except Exception as failure:
            where += f"; again: {failure!r}"
        self.note("not finished by the same call", done() != 1, where)
        self.note("touched another's row", self.halves[loop].read(theirs.id) != theirs, where)

    def patient(self, is_patient: bool) -> None:
        """Give what follows the time that it needs, or so little that faults are met quickly."""
        self.policy = {**POLICY, "attempt_timeout": 5.0, "deadline": 30.0} if is_patient else POLICY
        for half in self.halves.values():
            half.pipeline = pipeline(**self.policy)

    def note(self, what: str, is_so: bool, where: str) -> None:
        """Count what must not be."""
        if is_so:
            self.wrong.append(f"{what}: {where}")

    def open(self, error: Exception) -> bool:
        """Tell whether the caller was told that the outcome is unknown."""
        return error.unknown if isinstance(error, self.module.BookingError) else outcome_unknown(error)

    def create(self, half: Half, name: str) -> Any:
        def do() -> None:
            half.call("create_row_once", **half.place(name), data={"slot": name, "doctor": "mine"})

        return do, lambda: float(half.read(name) is not None)

    def rows(self, half: Half, name: str) -> Any:
        names = [f"{name}-{number}" for number in range(3)]
        return (lambda: half.create(*names, doctor="mine")), lambda: sum(half.read(n) is not None for n in names) / 3

    def update(self, half: Half, name: str) -> Any:
        row = half.insert(name, doctor="before")
        time.sleep(0.003)
        return (lambda: half.update(name, row, doctor="mine")), lambda: float(half.read(name).data["doctor"] == "mine")

    def delete(self, half: Half, name: str) -> Any:
        row = half.insert(name, doctor="before")
        return (lambda: half.delete(name, row)), lambda: float(half.read(name) is None)

    def reschedule(self, half: Half, name: str) -> Any:
        client = self.server.client()

        def flow() -> Any:
            named = {"breaker": appwrite_breaker(failure_threshold=10_000), "retry": appwrite_retry(**self.policy)}
            return self.module.BookingFlow(client, monitor=ErrorMonitor(), **named, steps=half.loop == "asyncio")

        request = self.module.BookingRequest(
            therapist_id=f"t-{name}", therapist_name="Ada", user_id="u", start=NINE, booking_id=name
        )
        flow().create_booking(request)
        time.sleep(0.003)

        def taken() -> list[str]:
            tables = self.halves["sync"].backend.tables
            queries = [Query.equal("holder", [name]), Query.limit(100)]
            rows = tables.list_rows(self.module.DATABASE_ID, "slots", queries).rows
            return sorted(row.data["start"][11:16] for row in rows)

        def done() -> float:
            tables, held = self.halves["sync"].backend.tables, taken()
            start = tables.get_row(self.module.DATABASE_ID, "bookings", name).data["start"][11:16]
            needed = {"09:00": ["09:00", "09:15", "09:30", "09:45"], "09:30": ["09:30", "09:45", "10:00", "10:15"]}
            assert set(needed[start]) <= set(held), f"{name} is at {start} and holds {held}"
            if held == needed["09:00"] and start == "09:00":
                return 0.0
            return 1.0 if held == needed["09:30"] and start == "09:30" else 0.5

        return (lambda: flow().reschedule_booking(name, NINE + 2 * QUARTER)), done


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AppwriteServer]:
    """An embedded server."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with AppwriteServer() as made:
        yield made


def test_every_operation_is_honest_whatever_fails(server: AppwriteServer) -> None:
    """Nothing is lost, half or done though it failed, unless told as unknown; the same call again finishes it."""
    books = Books(server)
    for seed in range(FIRST, FIRST + SCRIPTS):
        books.run(seed)
    print(f"seeds {FIRST} to {FIRST + SCRIPTS - 1}: {dict(books.counts)}")
    assert books.wrong == []


class Clinic:
    """A table of slots, and customers."""

    def __init__(self, server: AppwriteServer, loop: str) -> None:
        self.server, self.half = (
            server,
            Half(make_database(server.client(), server), loop, deadline=8.0, max_attempts=6),
        )
        self.half.table_id = self.half.backend.make_table(SLOT_TABLE["slots"]["columns"])

    def book(self, resource: str, holder: str, first: int, count: int) -> Any:
        """Claim so many quarters of an hour."""
        rows = time_slots(
            database_id=self.half.backend.database_id,
            table_id=self.half.table_id,
            resource_id=resource,
            holder=holder,
            start=NINE + first * QUARTER,
            end=NINE + (first + count) * QUARTER,
        )
        return self.half.call("create_rows_once", rows)

    def held(self, resource: str) -> dict[str, list[int]]:
        """Return which quarters each holder has."""
        held: dict[str, list[int]] = {}
        for row in self.half.rows().values():
            if row["resource"] == resource:
                number = (datetime.datetime.fromisoformat(row["start"]) - NINE) // QUARTER
                held.setdefault(row["holder"], []).append(number)
        return {holder: sorted(numbers) for holder, numbers in held.items()}


@pytest.mark.parametrize("loop", ["sync", "asyncio"])
def test_one_of_many_customers_gets_a_slot(server: AppwriteServer, loop: str) -> None:
    """Of 50 customers who want one time under faults, one gets it whole; the others are told that it is taken."""
    clinic = Clinic(server, loop)
    for number in range(ROUNDS):
        resource = f"t{number}"
        server.faults.rate(0.3, seed=FIRST + number, kinds=["status", "reset", "lost", "cut_body"])
        works = [partial(clinic.book, resource, f"c{c}", 0, 2) for c in range(50 if ROUNDS > 2 else 15)]
        results = at_once(works)
        server.faults.clear()
        where = f"seed {FIRST + number}, {loop}: {Counter(map(repr, results))}"
        won = [f"c{c}" for c, result in enumerate(results) if isinstance(result, list)]
        open_ = [
            f"c{c}" for c, result in enumerate(results) if isinstance(result, Exception) and outcome_unknown(result)
        ]
        held = clinic.held(resource)
        assert len(won) <= 1, where
        assert set(held) - set(open_) == set(won), where
        if won:
            assert held[won[0]] == [0, 1], where
        else:
            assert all(is_transient(r) or outcome_unknown(r) or held for r in results), where


@pytest.mark.parametrize("told", ["committed", "conflict"])
def test_torn_commits_leave_no_time_to_two(server: AppwriteServer, told: Any) -> None:
    """Where commits are torn, nobody shares a time, who is told that he has it has it, and losers give theirs back."""
    clinic = Clinic(server, "sync")
    for number in range(ROUNDS):
        resource = f"t{number}"
        server.faults.rate(0.5, seed=FIRST + number, kinds=[Fault.torn_commit(told=told, kept=1)])
        results = at_once([partial(clinic.book, resource, f"c{c}", c % 2, 2) for c in range(12)])
        server.faults.clear()
        where = f"seed {FIRST + number}: {results}"
        won = {f"c{c}": [c % 2, c % 2 + 1] for c, result in enumerate(results) if isinstance(result, list)}
        open_ = [c for c, result in enumerate(results) if isinstance(result, Exception) and outcome_unknown(result)]
        held = clinic.held(resource)
        assert {customer: held.get(customer) for customer in won} == won, where
        assert set(held) - {f"c{c}" for c in open_} == set(won), where
        taken = [quarter for quarters in held.values() for quarter in quarters]
        assert len(taken) == len(set(taken)), where


@settings(max_examples=max(2, ROUNDS), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=2, max_size=8))
def test_overlapping_times_are_never_booked_twice(times: list[tuple[int, int]]) -> None:
    """Whoever is told that he has a time has it whole; who is told that it is taken has none of it."""
    with AppwriteServer() as server:
        clinic = Clinic(server, "sync")
        results = at_once([lambda n=n, t=t: clinic.book("t", f"c{n}", *t) for n, t in enumerate(times)])
        won = {f"c{n}": list(range(t[0], t[0] + t[1])) for n, t in enumerate(times) if isinstance(results[n], list)}
        assert clinic.held("t") == won, results
        assert won
        assert all(isinstance(result, (list, SlotTakenError)) for result in results), results


@pytest.mark.parametrize("loop", ["sync", "asyncio"])
@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_one_of_many_changes_wins(server: AppwriteServer, loop: str, rate: float) -> None:
    """Of 20 callers with one `expected`, one wins, also when answers are lost; the others are told of a conflict."""
    half = Half(make_database(server.client(), server), loop, max_attempts=6, deadline=8.0, attempt_timeout=2.0)
    for number in range(ROUNDS):
        row = half.insert(f"r{number}", doctor="before")
        time.sleep(0.003)
        server.faults.rate(rate, seed=FIRST + number, kinds=["lost"])
        works = [lambda c=c, row=row: half.update(row.id, row, doctor=f"c{c}") for c in range(20)]
        results = at_once(works)
        server.faults.clear()
        where = f"seed {FIRST + number}, {loop}: {results}"
        won = [f"c{c}" for c, result in enumerate(results) if isinstance(result, Row)]
        assert won == [half.read(row.id).data["doctor"]], where
        assert sum(isinstance(result, RowConflictError) for result in results) == 19, where
