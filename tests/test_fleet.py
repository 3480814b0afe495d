"""The monitor of a fleet: several processes, their alert, forks, kills, and listeners."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from booking_resilience import AlertRule, ErrorMonitor, load_json
from booking_resilience.journal import FleetMonitor, RedisJournal, SQLiteJournal
from booking_resilience.journal.entries import (
    CLAIM,
    HEARTBEAT,
    RECORD,
    RECORD_HEAD,
    STACK,
    StackEntries,
    entry,
    record_entry,
)
from crew import Crew
from journaling import QUIET, ListJournal, record, run
from racing import needs_fork, taking_turns
from redisserver import RedisServer, eventually, needs_redis, passed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TESTS = str(Path(__file__).parent)
STORM = {"threshold": 3.0, "clear_threshold": 3.0, "keep_firing": 0.0}


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Callable[..., Crew]]:
    """Makes processes that record and watch, and ends them."""
    made: list[Crew] = []

    def new(number: int, *urls: str, **settings: Any) -> Crew:
        places = list(urls or [str(tmp_path / "errors.db")]) * number
        made.append(Crew("redis" if urls else "sqlite", places, tmp_path, **settings))
        return made[-1]

    yield new
    for each in made:
        each.end()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Run a Redis of the test's own."""
    made = RedisServer()
    yield made
    made.kill()


@needs_fork
class TestCrowd:
    def test_eight_processes_of_one_machine(self, crew, tmp_path):
        """Each of 10,000 errors is in the fleet once, and the storm is told once: its start and its end."""
        crowd = crew(8, rule=STORM)
        crowd.record(1250)
        with FleetMonitor(SQLiteJournal(tmp_path / "errors.db"), alert=QUIET) as fleet:
            self.check(fleet, crowd)

    @needs_redis
    def test_two_times_four_processes_on_redis(self, crew, server):
        """The same over Redis, for processes of two kinds of clients."""
        crowd = crew(4, server.url, f"{server.url}?client_name=b", rule=STORM)
        crowd.record(1250)
        journal = RedisJournal(server.url)
        with FleetMonitor(journal, alert=QUIET) as fleet:
            self.check(fleet, crowd)
        journal.close()

    def check(self, fleet: FleetMonitor, crowd: Crew) -> None:
        """Check that there are 10,000 records of eight processes, and that one storm was told."""
        eventually(lambda: fleet.stale_since is None and sum(each.records for each in fleet.processes()) == 10_000)
        assert fleet.stats().total == sum(group.count for group in fleet.groups()) == 10_000
        assert [each.records for each in fleet.processes()] == [1250] * 8
        assert len({record.id for record in fleet.recent(10_000)}) == 10_000
        eventually(lambda: crowd.told()[-1:] == ["resolved"], within=40)
        passed(0.5)
        claimed = [change.state for change in fleet.history().alerts]  # on a busy machine it may be several storms
        assert crowd.told() == claimed == ["firing", "resolved"] * (len(claimed) // 2)


class TestAlert:
    @needs_fork
    def test_another_one_tells_when_the_claimer_dies(self, crew):
        """A process killed in its `on_alert` is replaced within 5 seconds."""
        watchers = crew(3, rule=STORM, deadly=True)
        with contextlib.suppress(AssertionError):  # the one that records may be the one that dies
            watchers.record(30, [0])
        eventually(watchers.deadly.exists, within=40)
        begin = time.monotonic()
        eventually(lambda: "firing" in watchers.told(), within=40)
        assert time.monotonic() - begin < 10
        assert watchers.told().count("firing") == 1

    def test_one_that_raises_has_told(self):
        """An `on_alert` that raises counts as told, and as a listener's error."""
        journal, told = ListJournal(), []

        def on_alert(event: Any) -> None:
            told.append(event.state)
            raise RuntimeError("no")

        monitor = ErrorMonitor(journal=journal)
        rule = AlertRule(threshold=3, clear_threshold=3, keep_firing=0)
        with FleetMonitor(journal, window=1.0, alert=rule, on_alert=on_alert) as fleet:
            record(monitor, 10)
            eventually(lambda: told == ["firing", "resolved"])
            eventually(lambda: fleet.listener_errors == 2)
            assert [change.state for change in fleet.history().alerts] == ["firing", "resolved"]

    def test_it_repeats(self):
        """While a storm lasts it is told again every `repeat_every` seconds."""
        journal, told = ListJournal(), []
        monitor = ErrorMonitor(journal=journal)
        rule = AlertRule(threshold=3, clear_threshold=3, keep_firing=0, repeat_every=0.1)
        with FleetMonitor(journal, window=2.0, alert=rule, on_alert=lambda event: told.append(event.state)):
            record(monitor, 10)
            eventually(lambda: told[-1:] == ["resolved"])
        assert told[0] == "firing"
        assert "repeat" in told
        assert set(told[1:-1]) == {"repeat"}

    def test_a_storm_that_is_over_is_not_told(self):
        """A monitor that comes after a storm tells nobody of it."""
        journal, told = ListJournal(), []
        record(monitor := ErrorMonitor(journal=journal), 10)
        assert monitor.flush(20)
        time.sleep(0.3)
        rule = AlertRule(threshold=3, clear_threshold=3, keep_firing=0)
        with FleetMonitor(journal, window=0.2, alert=rule, on_alert=told.append) as fleet:
            eventually(lambda: fleet.stats().total == 10 and fleet.stale_since is None)
            time.sleep(0.3)
        assert told == []

    def test_without_on_alert_it_is_known_and_claimed_by_nobody(self):
        """A fleet monitor without `on_alert` alerts by its own rate, and writes nothing."""
        journal = ListJournal()
        monitor = ErrorMonitor(journal=journal)
        with FleetMonitor(journal, alert=AlertRule(threshold=3)) as fleet:
            record(monitor, 10)
            eventually(lambda: fleet.alerting)
            assert fleet.stats().alert.state == "firing"
            assert not any(data.startswith((b"c", b"t")) for data in journal.kept)


class TestProcesses:
    @needs_fork
    def test_each_process_is_told_of(self, tmp_path, crew):
        """Processes are there with their numbers, and records know their process."""
        two = crew(2)
        two.record(7)
        pids = set(two.pids)
        with FleetMonitor(SQLiteJournal(tmp_path / "errors.db"), alert=QUIET) as fleet:
            eventually(lambda: fleet.stats().total == 14)
            eventually(lambda: [status.records for status in fleet.processes()] == [7, 7])
            assert {status.pid for status in fleet.processes()} == pids == {record.pid for record in fleet.recent()}
            loaded = load_json(fleet.to_json())
            assert {record.pid for record in loaded} == pids
            assert fleet.to_csv().splitlines()[0].endswith('"host","pid"')

    @needs_fork
    @pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=needs_redis)])
    def test_forks_under_load(self, tmp_path, kind, request):
        """A process that forks while its threads record loses and doubles nothing, and neither do its children."""
        is_file = kind == "sqlite"
        place = str(tmp_path / "a.db") if is_file else request.getfixturevalue("server").url
        opened: Any = SQLiteJournal if is_file else RedisJournal
        run(
            f"""
import os, sys, threading, time
sys.path.insert(0, {TESTS!r})
from booking_resilience import ErrorMonitor
from booking_resilience.journal import FleetMonitor, {opened.__name__}
from journaling import QUIET, record
journal = {opened.__name__}(sys.argv[1])
monitor = ErrorMonitor(journal=journal)
fleet = FleetMonitor(journal, alert=QUIET)
def work():
    for _ in range(50):
        record(monitor, 2)
        time.sleep(0.002)
threads = [threading.Thread(target=work) for _ in range(2)]
for thread in threads: thread.start()
children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            record(monitor, 25)
            end = time.monotonic() + 20
            while not monitor.flush(1) and time.monotonic() < end: pass
            while fleet.stats().total < 25 and time.monotonic() < end: time.sleep(0.01)
            code = 0 if fleet.stats().total >= 25 else 2
        finally:
            os._exit(code)
    children.append(pid)
for thread in threads: thread.join()
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
assert monitor.flush(60)
""",
            place,
        )
        with closing(opened(place)) as journal, FleetMonitor(journal, alert=QUIET) as fleet:
            eventually(lambda: fleet.stale_since is None)
            assert fleet.stats().total == 300

    def test_a_killed_process_loses_a_moment(self, tmp_path):
        """Of a process that is killed everything is there but its last moment."""
        path = str(tmp_path / "a.db")
        source = f"""
import sys, time; sys.path.insert(0, {TESTS!r})
from booking_resilience import ErrorMonitor
from booking_resilience.journal import SQLiteJournal
from journaling import record
monitor = ErrorMonitor(journal=SQLiteJournal(sys.argv[1]))
while True:
    record(monitor)
    print(time.monotonic(), flush=True)
    time.sleep(0.002)
"""
        process = subprocess.Popen([sys.executable, "-c", source, path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(300)]
        killed = time.monotonic()
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines()
        process.wait()
        process.stdout.close()
        due = sum(float(line) < killed - 2 for line in lines if line.strip())
        with FleetMonitor(SQLiteJournal(path), alert=QUIET) as fleet:
            eventually(lambda: fleet.stale_since is None)
            assert due <= fleet.stats().total <= len(lines) + 1


class TestWriter:
    def test_what_does_not_fit_is_counted(self):
        """While the journal stands still 10,000 records wait; the newest beyond are counted, here and in the fleet."""
        gate = threading.Event()
        journal = ListJournal(mood=lambda: gate.wait(60))
        monitor = ErrorMonitor(journal=journal)
        record(monitor, 10_000)
        assert monitor.stats().unjournaled == 0
        record(monitor, 3_000)
        lost = monitor.stats().unjournaled
        assert lost >= 2_000  # what is being written when the gate closes has left the queue
        gate.set()
        with FleetMonitor(journal, alert=QUIET) as fleet:
            eventually(lambda: fleet.stats().total == 13_000 - lost)
            eventually(lambda: fleet.stats().unjournaled == lost)
        monitor.clear()
        assert monitor.stats().unjournaled == 0

    def test_a_batch_that_failed_is_tried_again(self, caplog):
        """What an append raises comes out nowhere, is said once, and no record is lost or doubled."""
        caplog.set_level("INFO")
        left = [3]

        def mood() -> None:
            if left[0]:
                left[0] -= 1
                raise OSError("a secret")

        journal = ListJournal(mood)
        monitor = ErrorMonitor(journal=journal)
        record(monitor, 50)
        assert monitor.flush(20)
        with FleetMonitor(journal, alert=QUIET) as fleet:
            eventually(lambda: fleet.stats().total == 50)
        said = [line for line in caplog.messages if "written" in line]
        assert len(said) == 2
        assert "a secret" not in caplog.text

    def test_flush_says_no_in_time(self):
        """`flush` says no when the time is over before all is written; without a journal there is nothing to write."""
        gate = threading.Event()
        monitor = ErrorMonitor(journal=ListJournal(mood=lambda: gate.wait(60)))
        record(monitor)
        assert monitor.flush(0.05) is False
        gate.set()
        assert monitor.flush(20) is True
        assert ErrorMonitor().flush() is True
        with pytest.raises(ValueError, match="timeout"):
            monitor.flush(-1)

    @pytest.mark.parametrize("journal", ["errors.db", 5, ListJournal])
    def test_what_is_no_journal_is_refused(self, journal):
        """Something without the three methods is a TypeError that names the argument."""
        with pytest.raises(TypeError, match="journal"):
            ErrorMonitor(journal=journal)
        with pytest.raises(TypeError, match="journal"):
            FleetMonitor(journal)

    def test_the_end_of_a_program_writes_what_waits(self, tmp_path):
        """A program that dies of the error that it has just recorded has it in the journal."""
        path = str(tmp_path / "a.db")
        source = """
import sys
from booking_resilience import ErrorMonitor
from booking_resilience.journal import SQLiteJournal
monitor = ErrorMonitor(journal=SQLiteJournal(sys.argv[1]))
try:
    raise ConnectionError("the last")
except ConnectionError as error:
    monitor.record(error, operation="last")
    raise
"""
        done = subprocess.run([sys.executable, "-c", source, path], capture_output=True, check=False, timeout=60)
        assert done.returncode == 1
        with FleetMonitor(SQLiteJournal(path), alert=QUIET) as fleet:
            eventually(lambda: fleet.stats().total == 1)

    @needs_fork
    def test_a_fork_waits_for_no_append_that_stands_still(self):
        """A fork is held up a second at most, and the child goes on."""
        gate = threading.Event()
        monitor = ErrorMonitor(journal=ListJournal(mood=lambda: gate.wait(60)))
        record(monitor, 5)
        time.sleep(0.2)
        begin = time.monotonic()
        pid = os.fork()
        if pid == 0:
            record(monitor)
            os._exit(0 if monitor.stats().total == 1 else 1)
        assert time.monotonic() - begin < 10
        assert os.waitpid(pid, 0)[1] == 0
        gate.set()
        assert monitor.flush(20)

    def test_nothing_of_a_journal_is_imported_without_one(self):
        """A program whose monitor has no journal pays nothing for them."""
        source = "import sys; from booking_resilience import ErrorMonitor; ErrorMonitor(); print(*sys.modules)"
        assert "booking_resilience.journal" not in run(source)


def test_listeners_are_told_of_what_comes_from_now_on():
    """A listener is told of each record that is made after it subscribed, once, until it is closed."""
    journal, told = ListJournal(), []
    monitor = ErrorMonitor(journal=journal)
    record(monitor, 5, "before")
    assert monitor.flush(20)
    with FleetMonitor(journal, alert=QUIET) as fleet:
        subscription = fleet.subscribe(lambda record: told.append(record.operation))
        record(monitor, 3, "after")
        eventually(lambda: len(told) == 3)
        subscription.close()
        record(monitor, 1, "closed")
        eventually(lambda: fleet.stats().total == 9)
    assert told == ["after"] * 3


def test_threads_end_with_their_owners():
    """Without its monitors a writer's thread ends, and without its fleet monitor a reader's, also unclosed."""
    others = set(threading.enumerate())  # of monitors that other tests still hold
    journal = ListJournal()
    monitor, fleet = ErrorMonitor(journal=journal), FleetMonitor(journal, alert=QUIET)
    mine = set(threading.enumerate()) - others
    assert sorted(thread.name for thread in mine) == ["booking-resilience fleet", "booking-resilience journal"]
    del monitor, fleet
    gc.collect()
    eventually(lambda: not any(thread.is_alive() for thread in mine))


def test_monitors_of_a_process_share_a_writer():
    """Two monitors with one journal are one process, whose records are counted together."""
    journal = ListJournal()
    first, second = ErrorMonitor(journal=journal), ErrorMonitor(journal=journal)
    record(first, 3)
    record(second, 2)
    with FleetMonitor(journal, alert=QUIET) as fleet:
        eventually(lambda: [status.records for status in fleet.processes()] == [5])
        assert fleet.stats().total == 5


def test_what_is_no_entry_costs_itself():
    """Bytes in the journal that are no entries are passed over."""
    journal = ListJournal()
    journal.append([b"", b"r", b"nonsense" * 20, b"s" + bytes(24) + b"{"])
    monitor = ErrorMonitor(journal=journal)
    record(monitor, 3)
    with FleetMonitor(journal, alert=QUIET) as fleet:
        eventually(lambda: fleet.stats().total == 3)
        assert fleet.stale_since is None


def test_what_no_process_writes_costs_itself():
    """An entry with a sound head that says what none says is passed over, and the fleet can still be asked."""
    now, rule = time.time(), [10, 5, 0.0, 60.0, 300.0]
    made, claim = ErrorMonitor().record(ValueError("x"), operation="op"), b"c" * 16
    stack = StackEntries().of(made)
    plain = record_entry(made, b"w" * 8, 1, stack.id, 0.0)
    wrong = [
        (HEARTBEAT, []), (HEARTBEAT, "host"), (HEARTBEAT, {}), (HEARTBEAT, ["h", 1, None, now, 1, 0]),
        (HEARTBEAT, ["h", 1, now, 1e300, 1, 0]), (HEARTBEAT, [1, 1, now, now, 1, 0]),
        (HEARTBEAT, ["h", 1, now, now, "1", 0]), (HEARTBEAT, ["h", 1, now, now, 1, -1]),
        (STACK, ["network", "error", "op", "E", "failed", [], None, None, None, "op", "", []]),
        (CLAIM, ["", "burning", 1.0, 1.0, now, now, rule]), (CLAIM, ["", "firing", "1", 1.0, now, now, rule]),
        (CLAIM, ["", "firing", 1.0, 1.0, None, now, rule]), (CLAIM, ["telling", claim.hex(), 2, "soon"]),
    ]  # fmt: skip
    journal = ListJournal()
    journal.append([
        stack.data, plain, entry(CLAIM, claim, ["", "firing", 12.0, 12.0, now, now, rule]),
        *(entry(kind, os.urandom(16), facts) for kind, facts in wrong),
        plain.replace(b"w" * 8, b"v" * 8).replace(b'"x"', b"5.5"),
        RECORD_HEAD.pack(RECORD, b"u" * 8, 1, stack.id, math.inf, 0.0) + plain[RECORD_HEAD.size :],
    ])  # fmt: skip
    with FleetMonitor(journal, alert=QUIET, on_alert=bool) as fleet:
        eventually(lambda: fleet.stats().total == 2)
        journal.append([plain.replace(b"w" * 8, b"t" * 8)])
        eventually(lambda: fleet.stats().total == 3)
        eventually(lambda: fleet.stale_since is None)
        assert fleet.recent() == [made, made]
        assert load_json(fleet.to_json()) == [made, made]
        assert [change.state for change in fleet.history().alerts] == ["firing"]
        assert [process.pid for process in fleet.processes()] in ([], [os.getpid()])


def test_a_record_of_a_journal_that_cannot_be_written_is_kept_by_its_monitor():
    """What the journal's own errors record on the writer's thread is not written, so that nothing goes in circles."""
    monitor: ErrorMonitor

    def mood() -> None:
        record(monitor, 1, "inside")

    journal = ListJournal(mood)
    monitor = ErrorMonitor(journal=journal)
    record(monitor, 1)
    assert monitor.flush(20)
    with FleetMonitor(journal, alert=QUIET) as fleet:
        eventually(lambda: fleet.stats().total == 1 and fleet.stale_since is None)
        time.sleep(0.2)
        assert [group.operation for group in fleet.groups()] == ["op"]


@needs_fork
def test_a_forked_worker_that_ends_writes_what_waits(tmp_path):
    """A worker that multiprocessing has forked, and which returns at once, has its records in the journal."""
    path = str(tmp_path / "a.db")
    source = f"""
import multiprocessing, sys
sys.path.insert(0, {TESTS!r})
from booking_resilience import ErrorMonitor
from booking_resilience.journal import SQLiteJournal
from journaling import record
monitor = ErrorMonitor(journal=SQLiteJournal(sys.argv[1]))
record(monitor, 1)
workers = [multiprocessing.get_context("fork").Process(target=record, args=(monitor, 5)) for _ in range(3)]
for worker in workers: worker.start()
for worker in workers: worker.join()
"""
    run(source, path)
    with FleetMonitor(SQLiteJournal(path), alert=QUIET) as fleet:
        eventually(lambda: fleet.stale_since is None)
        assert fleet.stats().total == 16


@needs_fork
def test_two_threads_may_fork_at_once(tmp_path: Path) -> None:
    """Whoever forks lets go of what it has paused, and of nothing that another thread has."""
    monitors = [ErrorMonitor(journal=SQLiteJournal(tmp_path / f"{number}.db")) for number in range(4)]
    for monitor in monitors:
        record(monitor, 1)

    def fork() -> None:
        for _ in range(60):
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)

    threads = [threading.Thread(target=fork) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for monitor in monitors:
        record(monitor, 1)
        assert monitor.flush(30)


@needs_fork
def test_journals_may_be_made_during_a_fork(tmp_path: Path) -> None:
    """A thread that makes journals while another one forks keeps nothing from being paused."""
    made: list[SQLiteJournal] = [SQLiteJournal(tmp_path / "errors.db") for _ in range(200)]
    over = threading.Event()

    def make() -> None:
        while not over.is_set():
            made.append(SQLiteJournal(tmp_path / "errors.db"))

    threads = [threading.Thread(target=make) for _ in range(2)]
    try:
        with taking_turns(1e-5):
            for thread in threads:
                thread.start()
            for _ in range(6):
                child = os.fork()
                if not child:
                    os._exit(0)
                os.waitpid(child, 0)
    finally:
        over.set()
        for thread in threads:
            thread.join()
