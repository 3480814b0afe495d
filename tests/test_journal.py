"""Journals of both kinds: pages, order, repeats, what is removed, and what a journal in trouble costs."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from booking_resilience import ErrorMonitor
from booking_resilience.journal import FleetMonitor, RedisJournal, SQLiteJournal
from booking_resilience.journal.entries import CLAIM, RECORD, entry
from booking_resilience.journal.protocol import place_of
from booking_resilience.testing import virtual_time
from journaling import QUIET, ListJournal, record, run
from redisserver import RedisServer, eventually, needs_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Run a Redis of the test's own."""
    made = RedisServer()
    yield made
    made.kill()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes journals of one kind that are all the same log."""
    made: list[Any] = []

    def new(**settings: Any) -> Any:
        if request.param == "sqlite":
            journal: Any = SQLiteJournal(tmp_path / "errors.db", **settings)
        else:
            journal = RedisJournal(request.getfixturevalue("server").url, **settings)
        made.append(journal)
        return journal

    yield new
    for journal in made:
        journal.close()


def some(number: int, kind: bytes = RECORD) -> list[bytes]:
    """Make so many entries."""
    return [entry(kind, b"w" * 8 + place.to_bytes(8, "big"), place) for place in range(number)]


def read_all(journal: Any, limit: int = 7) -> list[bytes]:
    """Read a journal from its beginning to its end."""
    found, cursor = [], None
    while True:
        page, cursor = journal.read(cursor, limit)
        if not page:
            return found
        assert len(page) <= limit
        found += page


class TestBothKinds:
    def test_what_is_appended_is_read_in_order(self, make):
        """Pages follow one another in the order of the log, records and others alike."""
        journal = make()
        entries = [*some(20), *some(3, CLAIM), *some(20)]
        journal.append(entries)
        assert read_all(journal) == entries
        assert read_all(make()) == entries

    def test_at_the_end_the_cursor_stays(self, make):
        """At the end, and in an empty journal, there is nothing, and the cursor is the one that was given."""
        journal = make()
        assert journal.read() == ([], None)
        journal.append(some(3))
        _, cursor = journal.read()
        assert journal.read(cursor) == ([], cursor)
        journal.append(some(1))
        assert journal.read(cursor)[0] == some(1)

    def test_a_batch_is_appended_whole_or_not_at_all(self, make):
        """An entry that is no bytes spoils its batch, and nothing else."""
        journal = make()
        with pytest.raises(TypeError, match="bytes"):
            journal.append([some(1)[0], "text"])
        assert journal.read() == ([], None)

    def test_no_more_than_max_records_stay(self, make):
        """The oldest records go, others stay."""
        journal = make(max_records=10)
        journal.append([*some(1, CLAIM), *some(8)])
        journal.append(some(50)[8:])
        assert read_all(journal) == [*some(1, CLAIM), *some(50)[40:]]

    def test_records_go_after_max_age(self, make):
        """Records older than `max_age` go with the next batch."""
        journal = make(max_age=0.05)
        journal.append(some(3))
        time.sleep(0.06)
        journal.append(some(4)[3:])
        assert read_all(journal) == some(4)[3:]

    @pytest.mark.parametrize(
        ("limit", "error"), [(0, ValueError), (-1, ValueError), (1.5, ValueError), ("x", TypeError)]
    )
    def test_an_absurd_limit_of_a_reading_is_refused(self, make, limit, error):
        """A reading of no entry, or of fewer, is refused."""
        with pytest.raises(error, match="limit must be a whole number, 1 or more"):
            make().read(limit=limit)

    def test_a_closed_journal_takes_nothing(self, make):
        """Closing twice is harmless; then appending and reading raise."""
        journal = make()
        journal.close()
        journal.close()
        with pytest.raises(ValueError, match="closed"):
            journal.append(some(1))
        with pytest.raises(ValueError, match="closed"):
            journal.read()

    def test_closing_writes_what_waits(self, make):
        """What was recorded before `close` is in the journal; what comes after is counted."""
        journal = make()
        monitor = ErrorMonitor(journal=journal)
        record(monitor, 5)
        journal.close()
        record(monitor, 2)
        assert monitor.stats().unjournaled == 2
        assert sum(data.startswith(RECORD) for data in read_all(make())) == 5

    def test_settings_are_checked(self, make):
        """A setting of the wrong type or out of its range is refused with an error that names it."""
        for settings in ({"max_age": 0}, {"max_records": 0}):
            with pytest.raises(ValueError, match=next(iter(settings))):
                make(**settings)
        for settings in ({"max_age": "1"}, {"max_records": None}):
            with pytest.raises(TypeError, match=next(iter(settings))):
                make(**settings)

    def test_the_fleet_counts_what_was_removed(self, make):
        """`dropped` is the records that the reader knew and the journal no longer has; `total` has them, too."""
        monitor = ErrorMonitor(journal=make(max_records=10))
        with FleetMonitor(make(), alert=QUIET) as fleet:
            for total in (10, 20, 30):
                record(monitor, 10)
                assert monitor.flush(20)
                eventually(lambda total=total: fleet.stats().total == total)
            eventually(lambda: fleet.stats().dropped == 20)
            assert fleet.stats().total == 30


class TestFile:
    def test_only_its_owner_may_read_it(self, tmp_path):
        """The file has the mode 0600."""
        journal = SQLiteJournal(tmp_path / "a.db")
        journal.append(some(1))
        assert stat.S_IMODE((tmp_path / "a.db").stat().st_mode) == 0o600
        journal.close()
        assert [found.name for found in tmp_path.iterdir()] == ["a.db"]

    @pytest.mark.parametrize("kind", ["text", "database", "folder"])
    def test_another_file_is_refused_and_left_alone(self, tmp_path, kind):
        """A file that is no journal raises a ValueError that names it, and nothing is written."""
        path = tmp_path / "other.db"
        if kind == "text":
            path.write_text("hello" * 1000)
        elif kind == "database":
            with sqlite3.connect(path) as db:
                db.execute("CREATE TABLE mine (a)")
            db.close()
        else:
            path.mkdir()
        before = None if kind == "folder" else path.read_bytes()
        with pytest.raises(ValueError, match=r"other\.db"):
            SQLiteJournal(path)
        assert before is None or path.read_bytes() == before
        assert [found.name for found in tmp_path.iterdir()] == ["other.db"]

    def test_what_is_no_path_is_refused(self):
        """A number is no path, nor is nothing or a NUL in it; a URL or a database in memory would be no file."""
        with pytest.raises(TypeError, match="path"):
            SQLiteJournal(5)  # type: ignore[arg-type] # that is the point
        for path in ("", "a\0b", ":memory:", "sqlite:///errors.db"):
            with pytest.raises(ValueError, match="path must be the path of a file on disk, not"):
                SQLiteJournal(path)

    @pytest.mark.parametrize("rest", ["", "*"])
    def test_a_deleted_file_is_made_anew(self, tmp_path, rest):
        """Writers and readers go on in a new file, with or without what is left of the old one's log."""
        path = tmp_path / "a.db"
        monitor = ErrorMonitor(journal=SQLiteJournal(path))
        with FleetMonitor(SQLiteJournal(path), alert=QUIET) as fleet:
            record(monitor, 3)
            assert monitor.flush(20)
            eventually(lambda: fleet.stats().total == 3)
            for found in tmp_path.glob(f"a.db{rest}"):
                found.unlink()
            eventually(lambda: fleet.stats().dropped == 3)
            record(monitor, 4)
            assert monitor.flush(20)
            eventually(lambda: fleet.stats().total == 7)
            assert sum(data.startswith(RECORD) for data in read_all(SQLiteJournal(path))) == 4

    def test_a_damaged_file_counts_as_gone(self, tmp_path, caplog):
        """While the file is damaged records wait, and it is said once; when it is deleted they are written."""
        path = tmp_path / "a.db"
        monitor = ErrorMonitor(journal=SQLiteJournal(path))
        record(monitor, 1)
        assert monitor.flush(20)
        for found in tmp_path.glob("a.db*"):
            found.unlink()
        path.write_bytes(b"no journal" * 1000)
        record(monitor, 5)
        eventually(lambda: "cannot be written" in caplog.text)
        assert not monitor.flush(0.1)
        assert path.read_bytes() == b"no journal" * 1000
        assert sum("cannot be written" in line for line in caplog.messages) == 1
        path.unlink()
        assert monitor.flush(20)
        assert sum(data.startswith(RECORD) for data in read_all(SQLiteJournal(path))) == 5

    def test_a_locked_file_only_delays(self, tmp_path, caplog):
        """While another process holds the write lock records wait."""
        path = tmp_path / "a.db"
        journal = SQLiteJournal(path)
        monitor = ErrorMonitor(journal=journal)
        record(monitor)
        assert monitor.flush(20)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        record(monitor, 5)
        eventually(lambda: "cannot be written" in caplog.text)
        assert not monitor.flush(0.1)
        other.execute("ROLLBACK")
        other.close()
        assert monitor.flush(20)
        assert sum(data.startswith(RECORD) for data in read_all(journal)) == 6
        journal.close()

    def test_a_full_disk_only_delays(self, tmp_path, caplog):
        """While the disk is full records wait, and it is said once; when there is room they are all written."""
        with small_disk(tmp_path / "disk") as disk:
            monitor = ErrorMonitor(journal=SQLiteJournal(disk / "a.db"))
            record(monitor)
            assert monitor.flush(20)
            filler = disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as out:
                while out.write(bytes(4096)):
                    pass
            record(monitor, 2000)
            eventually(lambda: "cannot be written" in caplog.text)
            assert not monitor.flush(0.1)
            filler.unlink()
            assert monitor.flush(20)
            assert sum("cannot be written" in line for line in caplog.messages) == 1
            with FleetMonitor(SQLiteJournal(disk / "a.db"), alert=QUIET) as fleet:
                eventually(lambda: fleet.stale_since is None)
                assert fleet.stats().total == 2001
                assert monitor.stats().unjournaled == 0

    def test_a_limit_on_the_size_of_files_only_delays(self, tmp_path):
        """A process that may write no larger files has its records wait, and writes them when it may again."""
        pytest.importorskip("resource", reason="no limits of processes here")
        path = str(tmp_path / "a.db")
        source = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from booking_resilience import ErrorMonitor
from booking_resilience.journal import SQLiteJournal
from journaling import record
monitor = ErrorMonitor(journal=SQLiteJournal(sys.argv[1]))
record(monitor)
assert monitor.flush(20)
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, most))
record(monitor, 2000)
assert not monitor.flush(0.3)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
assert monitor.flush(20)
assert monitor.stats().unjournaled == 0
"""
        run(source, path)
        assert sum(data.startswith(RECORD) for data in read_all(SQLiteJournal(path), 1000)) == 2001


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 1 MB; skip the test where that cannot be done."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class TestCost:
    @pytest.mark.parametrize("trouble", [False, True])
    def test_recording_waits_for_no_journal(self, make, request, tmp_path, trouble):
        """A record costs its caller about the same with a journal, also while the journal can't be written."""
        plain = ErrorMonitor()
        monitor = ErrorMonitor(journal=make())
        record(monitor)
        assert monitor.flush(20)
        with contextlib.ExitStack() as stack:
            if trouble and (tmp_path / "errors.db").exists():
                other = stack.enter_context(contextlib.closing(sqlite3.connect(tmp_path / "errors.db")))
                other.execute("BEGIN IMMEDIATE")
            elif trouble:
                server = request.getfixturevalue("server")
                server.freeze()
                stack.callback(server.thaw)
            took: dict[ErrorMonitor, list[float]] = {plain: [], monitor: []}
            for turn in range(40):
                for each in (plain, monitor) if turn % 2 else (monitor, plain):
                    for _ in range(20):
                        error = ValueError()
                        begin = time.perf_counter()
                        each.record(error, operation="op")
                        took[each].append(time.perf_counter() - begin)
        assert statistics.median(took[monitor]) < 2 * statistics.median(took[plain])
        assert monitor.flush(20)
        assert monitor.stats().unjournaled == 0


@needs_redis
class TestRedis:
    def test_a_killed_redis_only_delays(self, server):
        """What was recorded while Redis was gone is there when it is back; what only it had is counted as dropped."""
        journal = RedisJournal(server.url)
        monitor = ErrorMonitor(journal=journal)
        with FleetMonitor(journal, alert=QUIET) as fleet:
            record(monitor, 3)
            eventually(lambda: fleet.stats().total == 3)
            server.kill()
            record(monitor, 50)
            assert not monitor.flush(0.1)
            eventually(lambda: fleet.stale_since is not None)
            server.start()
            eventually(lambda: fleet.stats().total == 53 and fleet.stale_since is None)
            eventually(lambda: fleet.stats().dropped == 3)
            assert monitor.stats().unjournaled == 0
        journal.close()

    def test_a_frozen_redis_only_delays(self, server, caplog):
        """While Redis stands still the fleet says since when, and records wait."""
        journal = RedisJournal(server.url)
        monitor = ErrorMonitor(journal=journal)
        with FleetMonitor(journal, alert=QUIET) as fleet:
            record(monitor)
            eventually(lambda: fleet.stats().total == 1 and fleet.stale_since is None)
            server.freeze()
            begin = time.monotonic()
            record(monitor, 50)
            fleet.stats()
            assert time.monotonic() - begin < 15
            eventually(lambda: fleet.stale_since is not None)
            server.thaw()
            eventually(lambda: fleet.stats().total == 51 and fleet.stale_since is None)
            assert monitor.stats().unjournaled == 0
        journal.close()

    def test_an_emptied_redis_is_said(self, server):
        """What was only in an emptied Redis is gone, and the fleet's numbers say so."""
        journal = RedisJournal(server.url)
        monitor = ErrorMonitor(journal=journal)
        with FleetMonitor(journal, alert=QUIET) as fleet:
            record(monitor, 3)
            eventually(lambda: fleet.stats().total == 3)
            server.client().flushall()
            eventually(lambda: fleet.stats().dropped == 3)
            record(monitor, 2)
            eventually(lambda: fleet.stats().total == 5)
        journal.close()

    def test_a_clock_that_is_set_takes_nothing_from_the_rate(self, server):
        """Records count in the rate as soon as the clock of their process was set back."""
        journal, other = RedisJournal(server.url), RedisJournal(server.url)
        with FleetMonitor(other, window=3600.0, alert=QUIET) as fleet:
            with virtual_time() as ahead:
                ahead.advance(86_400.0)
                monitor = ErrorMonitor(journal=journal)
                record(monitor)
                assert monitor.flush(20)
            record(monitor, 59)
            assert monitor.flush(20)
            eventually(lambda: fleet.stats().total == 60)
            assert fleet.stats().error_rate == 1.0
        journal.close()
        other.close()

    def test_a_full_redis_only_delays(self, server, caplog):
        """While Redis refuses writes records wait."""
        journal = RedisJournal(server.url)
        monitor = ErrorMonitor(journal=journal)
        record(monitor)
        assert monitor.flush(20)
        client = server.client()
        client.config_set("maxmemory", "1")
        record(monitor, 5)
        eventually(lambda: "cannot be written" in caplog.text)
        assert not monitor.flush(0.1)
        client.config_set("maxmemory", "0")
        assert monitor.flush(20)
        assert sum(data.startswith(RECORD) for data in read_all(journal)) == 6
        client.close()
        journal.close()

    @pytest.mark.parametrize(("url", "error"), [(5, TypeError), ("", ValueError), ("http://x", ValueError)])
    def test_a_wrong_url(self, url, error):
        """A URL that is none is refused, and the error has nothing of it."""
        with pytest.raises(error, match="url"):
            RedisJournal(url)

    def test_a_password_is_told_nowhere(self, server):
        """The journal's name for people has no password."""
        journal = RedisJournal("redis://:hunter2@127.0.0.1:1/0")
        assert "hunter2" not in repr(journal) + place_of(journal)
        journal.close()


def test_a_list_is_journal_enough():
    """A journal of one's own needs the three methods, and nothing else."""
    journal = ListJournal()
    monitor = ErrorMonitor(journal=journal)
    with FleetMonitor(journal, alert=QUIET) as fleet:
        record(monitor, 100)
        eventually(lambda: fleet.stats().total == 100)
        assert journal.appends < 50
