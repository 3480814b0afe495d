"""The thread that writes a journal: one for each journal object that monitors of this process have been given.

Recording appends to a deque and never waits. The thread takes what is there in batches, tries again what failed, and
writes a heartbeat every second. It is paused over a fork, and a child starts one of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

from booking_resilience import clock
from booking_resilience.journal import forks
from booking_resilience.journal.entries import (
    HEARTBEAT,
    STACK_AGAIN,
    StackEntries,
    StackEntry,
    entry,
    record_entry,
)
from booking_resilience.journal.protocol import Trouble, check_journal
from booking_resilience.locks import new_lock, run_if_free
from booking_resilience.monitor.record import ErrorRecord, this_process

MOST_WAITING = 10_000
GATHER = 0.05  # seconds that a batch gathers: what a SIGKILL costs
BEAT = 1.0  # seconds between heartbeats
AGAIN = 0.3  # seconds until a batch that failed is tried again
_BATCH, _BATCH_BYTES = 1000, 1_000_000


def writer_of(journal: Any) -> Writer:
    """Return the writer of a journal, made if there is none yet."""
    check_journal(journal)
    with forks.registry:
        writer = forks.writers.get(id(journal))
        if writer is None:
            writer = forks.writers[id(journal)] = Writer(journal)
    return writer


def close_writer(journal: Any) -> None:
    """Write what waits for a journal that is about to be closed, for up to 2 s, and let its writer go."""
    with forks.registry:
        writer = forks.writers.pop(id(journal), None)
    if writer is not None:
        writer.close()


class Writer(forks.Pausing):
    """Writes one journal."""

    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self._owners: weakref.WeakSet[Any] = weakref.WeakSet()
        self._is_closed = False
        self.reborn()

    def reborn(self, *, was_paused: bool = True) -> None:  # noqa: ARG002 - it begins anew in either case
        """Be as new, with nothing that waits."""
        self._room = MOST_WAITING  # beside what is being written
        self._waiting: deque[ErrorRecord | threading.Event] = deque()  # events are set when all before is written
        self._is_rung = False  # whether the thread knows that there is something to write
        self._thread_id: int | None = None
        self._unjournaled = 0
        self._count_lock = new_lock()  # a signal handler may record meanwhile
        self._id = os.urandom(8)
        self._numbers = itertools.count(1)
        self._written = 0
        self._batch: list[tuple[bytes, StackEntry]] = []
        self._marks: list[threading.Event] = []  # the events among what is being written
        self._stacks = StackEntries()
        self._turn = new_lock()  # held while the journal is appended to
        self.fork_locks: tuple[Any, ...] = (self._turn,)
        self._bell = threading.Lock()  # rung by releasing it: that is safe in a signal handler
        self._bell.acquire()
        self._is_hurried = False
        self._trouble = Trouble(self._journal, "written", f"; up to {MOST_WAITING:,} records wait")
        self._next_beat = 0.0
        self._thread: threading.Thread | None = None

    def add_owner(self, owner: object) -> None:
        """Run the thread as long as this monitor is there, at least."""
        with forks.registry:
            self._owners.add(owner)
            forks.writers.setdefault(id(self._journal), self)
            self._start()

    def put(self, record: ErrorRecord) -> bool:
        """Take a record, without waiting for anything; tell whether it was taken.

        What the thread itself records is not, so that nothing goes round in circles.
        """
        if len(self._waiting) < self._room and threading.get_ident() != self._thread_id:
            self._waiting.append(record)
            if not self._is_rung:
                self._ring()
            return True
        self._count_one()
        return False

    def _count_one(self) -> None:
        with self._count_lock:
            self._unjournaled += 1

    def _ring(self) -> None:
        """Wake the thread, or start it."""
        self._is_rung = True
        if self._thread is None:
            self._start()
        with contextlib.suppress(RuntimeError):  # it was rung already
            self._bell.release()

    def _start(self) -> None:
        with forks.registry:
            if self._thread is None and not self._is_closed:
                name = "booking-resilience journal"
                self._thread = threading.Thread(target=self._run, args=(self._id,), name=name, daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # none may be started here, or now: `flush` and the end of the process write
                    self._thread = None

    def flush(self, timeout: float) -> bool:
        """Wait until all that waits is in the journal; tell whether it is."""
        if self._is_closed:
            return not self._waiting and not self._batch
        end = time.monotonic() + timeout
        written = threading.Event()
        self._waiting.append(written)
        self._is_hurried = True
        self._ring()
        while self._thread is None and not self._work() and time.monotonic() + AGAIN < end:
            time.sleep(AGAIN)
        return written.wait(max(0.0, end - time.monotonic()))

    def append(self, entries: Sequence[bytes]) -> None:
        """Append entries at once, on the calling thread.

        Raises:
            TimeoutError: If a batch is being written and does not come to its end.
            Exception: What the journal raises.
        """
        if not run_if_free(self._turn, lambda: self._journal.append(entries), forks.PAUSE):
            raise TimeoutError("the journal is busy")

    def close(self) -> None:
        """Write what waits, for up to 2 s, and take nothing any more."""
        if threading.get_ident() != self._thread_id:
            self.flush(forks.FAREWELL)
        self._room, self._is_closed = 0, True
        self._ring()

    def say_farewell(self, end: float) -> None:
        """Write what waits and a last heartbeat, until a time."""
        self._next_beat = 0.0
        self.flush(max(0.0, end - time.monotonic()))

    # -- the thread

    def _run(self, id_: bytes) -> None:
        self._thread_id = threading.get_ident()
        while self._goes_on(id_):
            self._bell.acquire(timeout=max(0.0, self._next_beat - time.monotonic()))
            if self._id != id_ or self._is_closed:
                continue
            if self._waiting and not self._is_hurried:
                time.sleep(GATHER)
            self._is_rung = self._is_hurried = False
            if self._id == id_ and not self._work():
                time.sleep(AGAIN)

    def _goes_on(self, id_: bytes) -> bool:
        """Tell whether there is anything to do in future; else the thread is over."""
        if self._id != id_:  # forked from within this thread
            return False
        with forks.registry:
            if not self._is_closed and (self._owners or self._waiting or self._batch):
                return True
            self._thread = self._thread_id = None
            if forks.writers.get(id(self._journal)) is self:
                del forks.writers[id(self._journal)]
            return False

    def _work(self) -> bool:
        """Write all that waits; tell whether that succeeded."""
        while True:
            try:
                with self._turn:
                    is_written = self._write_batch()
            except BaseException as error:
                self._next_beat = time.monotonic() + AGAIN
                self._trouble.failed(error)
                if not isinstance(error, Exception) and threading.get_ident() != self._thread_id:
                    raise  # Ctrl-C, say, in a `flush` that writes by itself
                return False
            if not is_written:
                return True
            self._trouble.worked()

    def _write_batch(self) -> bool:
        """Write a batch, and a heartbeat if one is due; tell whether there was anything to write."""
        if self._waiting and not self._batch:
            self._gather()
        now, batch = time.monotonic(), self._batch
        stacks = {stack.id: stack for _, stack in batch}
        new = [stack for stack in stacks.values() if now - stack.sent >= STACK_AGAIN]
        entries = [stack.data for stack in new] + [data for data, _ in batch]
        if now >= self._next_beat and (batch or self._owners):
            entries.append(self._heartbeat(self._written + len(batch)))
        if entries:
            self._journal.append(entries)  # if it raises, the same batch is tried again
        if entries and now >= self._next_beat:
            self._next_beat = now + BEAT
        for stack in new:
            stack.sent = now
        self._written += len(batch)
        batch.clear()
        if not self._is_closed:
            self._room = MOST_WAITING
        while self._marks:
            self._marks.pop().set()
        return bool(entries)

    def _gather(self) -> None:
        """Take what waits as the next batch."""
        ahead, size = _ahead_of(self._journal), 0
        while self._waiting and len(self._batch) < _BATCH and size < _BATCH_BYTES:
            item = self._waiting[0]
            if isinstance(item, threading.Event):
                self._marks.append(item)
            else:
                self._room -= 1
                try:
                    stack = self._stacks.of(item)
                    data = record_entry(item, self._id, next(self._numbers), stack.id, ahead)
                    self._batch.append((data, stack))
                    size += len(data)
                except Exception:  # noqa: BLE001 - a record that cannot be written costs itself
                    self._count_one()
            self._waiting.popleft()

    def _heartbeat(self, written: int) -> bytes:
        ahead = _ahead_of(self._journal)
        facts = [*this_process(), forks.life.started + ahead, clock.timestamp() + ahead, written, self._unjournaled]
        return entry(HEARTBEAT, forks.life.id + self._id, facts)


def _ahead_of(journal: Any) -> float:
    """Return by how many seconds the journal's clock is ahead of this process's; 0 if it has none of its own."""
    ask = getattr(journal, "_remote_now", None)
    return 0.0 if ask is None else float(ask()) - clock.timestamp()
