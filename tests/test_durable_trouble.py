"""Durable workflows that outlive their process, their version, and trouble with their SQLite file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("dbos")

from booking_resilience import CircuitBreaker, Pipeline
from booking_resilience.durable import Durable, DurableStoreError, GaveUpError, WorkflowCancelledError
from booking_resilience.durable.engine import _fail_at_once
from booking_resilience.durable.lives import FileLives
from booking_resilience.durable.watch import Watch
from durable_bench import Bench, eventually, failing
from racing import needs_fork

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCKED = float(os.environ.get("DURABLE_LOCKED", "0"))
"""Seconds that another holds the file at least, after a submission was rejected; DBOS itself waits for 30 s."""


class Benches:
    """One Durable after another on one file, with the same workflows."""

    def __init__(self, path: Path) -> None:
        self.path, self._url = path, f"sqlite:///{path}"
        self._bodies: dict[str, Callable[..., Any]] = {}
        self._settings: dict[str, Any] = {}
        self._made: Bench | None = None

    def __call__(self, **settings: Any) -> Bench:
        """Return a started one with these settings."""
        if self._made is None or settings != self._settings:
            self.stop()
            self._made, self._settings = Bench(self._url, self._bodies, **settings), settings
        return self._made

    def stop(self) -> None:
        """Stop it."""
        if self._made is not None:
            self._made.durable.stop(timeout=1.0)
        self._made = None


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Benches]:
    """Start Durables, one after the other."""
    made = Benches(tmp_path_factory.mktemp("durable") / "durable.sqlite")
    yield made
    made.stop()


def elsewhere(*command: str | Path) -> None:
    """Run a program: a file that this process closed would lose SQLite's locks."""
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def goes_on(bench: Bench, *bookings: str) -> None:
    """Find that these end, and others that are submitted now."""
    assert [bench.value(booking) for booking in (*bookings, bench.call(failing(0)))] == ["done"] * (len(bookings) + 1)


def test_a_locked_file_acknowledges_nothing(benches: Benches) -> None:
    """A file that another holds rejects submissions; a call that ends meanwhile is kept afterwards."""
    made, gate, begun = benches(), threading.Event(), threading.Event()

    def fn() -> str:
        begun.set()
        return "done" if gate.wait(60) else "late"

    booking = made.call(fn)
    assert begun.wait(60)
    other = sqlite3.connect(benches.path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        gate.set()
        with pytest.raises(DurableStoreError):
            made.call(failing(0))
        time.sleep(LOCKED)
    finally:
        other.execute("ROLLBACK")
        other.close()
    goes_on(made, booking)


def test_a_file_that_is_gone_is_not_made_anew(benches: Benches, caplog: pytest.LogCaptureFixture) -> None:
    """A submission doesn't make a new file in the place of the old one; all goes on when it is back."""
    made = benches(max_in_flight=4)  # a fresh one, which hasn't told of any trouble yet
    booking = made.call(failing(1))
    made.waits(booking)
    away = benches.path.with_suffix(".away")
    benches.path.rename(away)
    with pytest.raises(DurableStoreError, match="is gone"):
        made.call(failing(0))
    eventually(lambda: "in trouble" in caplog.text, 60, "a thread has looked for it")
    assert not benches.path.exists()
    away.rename(benches.path)
    assert made.durable.try_now(booking)
    goes_on(made, booking)


@pytest.mark.parametrize("damage", ["overwritten", "cut"])
def test_a_damaged_file_acknowledges_nothing(benches: Benches, damage: str) -> None:
    """A file that is no database any more rejects submissions; put right, all goes on."""
    made = benches()
    booking = made.call(failing(1))
    made.waits(booking)
    copy = benches.path.with_suffix(".copy")
    elsewhere("cp", benches.path, copy)
    if damage == "cut":
        elsewhere("truncate", "-s", "0", benches.path)
    else:
        elsewhere("dd", "if=/dev/urandom", f"of={benches.path}", "bs=4096", "count=3", "conv=notrunc")
    with pytest.raises(DurableStoreError):
        made.call(failing(0))
    elsewhere("cp", copy, benches.path)
    eventually(lambda: made.durable.try_now(booking), 60, "it is woken")
    goes_on(made, booking)


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"x" * 5000], ids=["empty", "garbage"])
def test_what_was_written_ahead_of_a_damaged_file_stays(tmp_path: Path, content: bytes) -> None:
    """A damaged file is rejected, and what was written ahead of it isn't thrown away."""
    path, ahead = tmp_path / "durable.sqlite", tmp_path / "durable.sqlite-wal"
    ahead.write_bytes(b"w" * 5000)
    if content:
        path.write_bytes(content)
    with pytest.raises(DurableStoreError):
        Durable(f"sqlite:///{path}", version="1", pipeline=Pipeline()).start()
    assert ahead.read_bytes() == b"w" * 5000


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 4 MB, or skip with the reason."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode:
        pytest.skip(f"no small file system can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        elsewhere("umount", "-l", folder)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_loses_nothing(benches: Benches, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On a full disk submissions are rejected and calls whose end can't be kept wait; with room all goes on."""
    benches.stop()
    with small_disk(tmp_path) as disk:
        begun, gate = threading.Event(), threading.Event()
        bench = Bench(f"sqlite:///{disk}/durable.sqlite")
        try:
            calls: list[int] = []

            def fn() -> bool:
                calls.append(1)
                begun.set()
                return gate.wait(60)

            async def body(durable: Durable) -> str:
                for _ in range(150):
                    await durable.call("store", fn)
                return "done"

            booking = bench.submit(body)
            assert begun.wait(60)
            filler = disk / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(b"x" * 512):
                    pass
            with pytest.raises(DurableStoreError, match="full"):
                bench.call(failing(0))
            gate.set()
            eventually(lambda: "in trouble" in caplog.text, 60, "a call's end can't be kept")
            with pytest.raises(TimeoutError):
                bench.durable.result(booking, timeout=0)
            filler.unlink()
            goes_on(bench, booking)
            assert len(calls) == 150, "what had ended was not called again"
            assert "its own code cut" not in caplog.text
        finally:
            gate.set()
            bench.durable.stop(timeout=1.0)


def test_it_goes_on_after_stop(benches: Benches) -> None:
    """What waits when a Durable stops goes on with the next one, with its tries counted on."""
    first = benches()
    booking = first.call(failing(1))
    first.waits(booking)
    benches.stop()
    second = benches()
    assert second.waits(booking).attempts == 1
    eventually(lambda: second.durable.try_now(booking), 60, "it is woken")
    assert second.value(booking) == "done"


def test_a_new_version_takes_over(benches: Benches) -> None:
    """With the old version gone the new one goes on; a workflow whose calls changed waits for a version that fits."""
    old = benches()
    same, changed = old.call(failing(1)), old.call(failing(1))
    for booking in (same, changed):
        old.waits(booking)
    fitting = old.bodies[changed]

    async def other(durable: Durable) -> str:
        return await durable.call("another", lambda: "never")

    async def two_calls(durable: Durable) -> str:
        await durable.call("store", failing(0))
        return await durable.call("more", failing(1))

    begun = old.submit(two_calls)
    since = old.waits(begun).since
    old.bodies[begun] = other
    new = benches(version="2")
    assert new.waits(same).operation == "store"
    eventually(lambda: new.durable.try_now(same), 60, "it is woken")
    assert new.value(same) == "done"
    assert "version '2' cannot run it: call 1 is 'another'" in eventually(
        lambda: next((item.error for item in new.durable.waiting() if item.id == begun and not item.next_try), None),
        60, "it is listed",
    )  # fmt: skip
    assert new.waits(begun).since == since
    assert not new.durable.try_now(begun)
    new.bodies[begun], new.bodies[changed] = two_calls, fitting
    newer = benches(version="3")
    again = eventually(
        lambda: next((item for item in newer.durable.waiting() if item.id == begun and item.next_try), None),
        60, "it is tried again",
    )  # fmt: skip
    assert (again.since, again.attempts) == (since, 2)  # it is given up after so long since its first try
    for booking in (begun, changed):
        eventually(lambda booking=booking: newer.durable.try_now(booking), 60, "it is woken")
        assert newer.value(booking) == "done"


def test_it_gives_up(benches: Benches) -> None:
    """A call that fails for too long ends with the number of its tries."""
    made = benches(give_up_after=0.3)
    with pytest.raises(GaveUpError) as caught:
        made.value(made.call(failing(10_000, lambda: ConnectionError("away"))))
    assert caught.value.attempts > 1


def test_an_isolated_breaker_is_waited_for(benches: Benches) -> None:
    """Nothing is called while the breaker is isolated."""
    breaker = CircuitBreaker("backend")
    breaker.isolate("maintenance")
    made, calls = benches(pipeline=Pipeline(breaker=breaker)), list[int]()
    booking = made.call(lambda: calls.append(1))
    made.waits(booking)
    assert not calls
    breaker.reset()
    made.value(booking)
    assert calls == [1]


def test_finished_workflows_are_removed(benches: Benches) -> None:
    """A finished workflow is unknown after `keep_finished`."""
    made = benches(keep_finished=0.0)
    booking = made.call(failing(0))
    made.value(booking)

    def is_gone() -> bool:
        try:
            made.durable.result(booking, timeout=0)
        except KeyError:
            return True
        return False

    eventually(is_gone, 70, "it is removed")


@needs_fork
def test_a_forked_child_does_not_keep_its_parent_alive(tmp_path: Path) -> None:
    """A child gives its copy of the lock back, so that its parent's death is seen."""
    parent, other = FileLives(tmp_path / "x", "parent"), FileLives(tmp_path / "x", "other")
    parent.hold()
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    try:
        assert not other.dead(["parent"])
        assert parent._fd is not None
        os.close(parent._fd)  # as its death would
        parent._fd = None
        eventually(lambda: other.dead(["parent"]) == {"parent"}, 60, "it is seen")
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_an_unknown_dbos_is_refused(benches: Benches) -> None:
    """A DBOS without the private switch that is set here isn't used; the one that is installed has it."""
    with pytest.raises(RuntimeError, match=r"doesn't know DBOS \d.* install an older DBOS"):
        _fail_at_once(SimpleNamespace(_sys_db=object()))
    benches()
    from dbos._dbos import _get_dbos_instance

    assert _get_dbos_instance()._sys_db._retry_connection_errors is False


def test_a_cancellation_needs_no_place(benches: Benches) -> None:
    """A workflow that waits between two tries hears at once that it is cancelled, though others hold all places."""
    bench, release = benches(max_in_flight=1), threading.Event()
    waiting, began = bench.call(failing(1)), threading.Event()
    bench.waits(waiting)
    holder = bench.call(lambda: (began.set(), release.wait(60), "done")[2])
    try:
        assert began.wait(60)
        bench.durable.cancel(waiting)
        with pytest.raises(WorkflowCancelledError):
            bench.value(waiting)
    finally:
        release.set()
    assert bench.value(holder) == "done"


@needs_fork
def test_a_child_leaves_its_parents_durable(benches: Benches) -> None:
    """A forked child can neither use what its parent has started, nor stop it at the end of a `with`."""
    bench, began, release = benches(), threading.Event(), threading.Event()
    booking = bench.call(lambda: (began.set(), release.wait(60), "done")[2])
    assert began.wait(60)
    child = os.fork()
    if not child:
        code = 1
        try:
            bench.durable.stop()
            for use in (bench.durable.start, bench.durable.waiting, lambda: bench.call(int)):
                with pytest.raises(RuntimeError, match="start it after the fork"):
                    use()
            code = 0
        finally:
            os._exit(code)
    try:
        assert os.waitpid(child, 0)[1] == 0
        assert bench.durable.waiting() == []
    finally:
        release.set()
    assert bench.value(booking) == "done"


def test_what_was_never_held_is_closed_in_silence(tmp_path: Path) -> None:
    """Closing after a start that failed doesn't raise another error in its place."""
    (tmp_path / "file").touch()
    FileLives(tmp_path / "file" / "db", "ab" * 8).close()


def test_those_that_are_about_to_begin_are_no_strays() -> None:
    """While one workflow after another begins, those that are next aren't begun a second time."""
    resumed: list[str] = []
    store: Any = SimpleNamespace(pending_of=lambda _: ["a", "b"], probe=lambda: None, status=lambda _: "PENDING")
    engine: Any = SimpleNamespace(resume=resumed.extend)
    crew: Any = SimpleNamespace(engine=engine, store=store, process="p", runs={}, misfits=set(), known={}, begun=0)
    watch = Watch(crew, None, 60.0)
    for _ in range(3):
        crew.begun += 1
        watch._collect_strays()
    assert resumed == []
    watch._collect_strays()
    assert resumed == ["a", "b"]


def test_an_outcome_of_a_workflow_that_ended_elsewhere_is_forgotten() -> None:
    """An outcome that this process couldn't keep isn't given to a later workflow of the same ID."""
    store: Any = SimpleNamespace(pending_of=lambda _: [], probe=lambda: None, status=lambda _: "SUCCESS")
    crew: Any = SimpleNamespace(engine=None, store=store, process="p", runs={}, misfits=set(), begun=0)
    crew.known = {"a": (1, {"kind": "value"})}
    Watch(crew, None, 60.0)._collect_strays()
    assert crew.known == {}
