"""The thread that looks after workflows: those of dead processes, those that were told something, those that ended."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final

from booking_resilience.durable.crew import LOOSE, Crew
from booking_resilience.durable.engine import QUEUE
from booking_resilience.durable.lives import GRACE

logger: logging.Logger = logging.getLogger("booking_resilience.durable")

TICK: Final = 0.5
_ADOPT_EVERY: Final = 1.0
_STRAYS_EVERY: Final = 4.0
_CLEAR_EVERY: Final = 20.0


class Watch:
    """Looks after the workflows of one process, and of those that died.

    Args:
        crew: The runs of this process.
        lives: Tells which processes live.
        process: This process' ID.
        keep_finished: Seconds after which finished workflows are removed.
    """

    def __init__(self, crew: Crew, lives: Any, process: str, keep_finished: float) -> None:
        self._crew, self._engine, self._store, self._lives = crew, crew.engine, crew.store, lives
        self._process, self._keep_finished = process, keep_finished
        self._clear_every = min(_CLEAR_EVERY, keep_finished + 1.0)
        self._free_since: dict[str, float] = {}
        self._end = threading.Event()
        self._next = {"adopt": 0.0, "strays": 0.0, "clear": time.monotonic() + self._clear_every}
        self._strays: set[str] = set()
        self._is_troubled = False
        self._thread = threading.Thread(target=self._watch, name="booking-resilience-durable", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """End the thread."""
        self._end.set()
        self._thread.join(timeout)

    def _watch(self) -> None:
        while not self._end.wait(TICK):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next look may find all well
                if not self._is_troubled:
                    logger.warning("durable workflows: the database is in trouble: %s", error)
                self._is_troubled = True
            else:
                if self._is_troubled:
                    logger.info("durable workflows: the database works again")
                self._is_troubled = False

    def look(self) -> None:
        """Look once."""
        self._lives.hold()
        self._store.tidy()
        self._hand_on()
        self._tie()
        if self._is_due("adopt", _ADOPT_EVERY):
            self._store.add_process(self._process, self._crew.version)  # it may have been taken for dead
            self._adopt()
            self._adopt_misfits()
        if self._is_due("strays", _STRAYS_EVERY):
            self._collect_strays()
        if self._is_due("clear", self._clear_every):
            self._engine.delete(self._store.finished_before(time.time() - self._keep_finished))
            self._store.forget_finished()

    def _is_due(self, what: str, every: float) -> bool:
        now = time.monotonic()
        if now < self._next[what]:
            return False
        self._next[what] = now + every
        return True

    def _hand_on(self) -> None:
        """Hand on to runs of this process what others have told them."""
        for id, is_cancelled, is_woken in self._store.told():
            run = self._crew.runs.get(id)
            if run is None:
                continue
            if is_cancelled and not run.is_cancelled:
                run.cancel()
            if is_woken:
                run.wake()
                self._store.keep(id, woken=0)

    def _tie(self) -> None:
        """Run again what ended here without its end being kept; forget what is kept of those that ended."""
        now = time.monotonic()
        due = [id for id, since in list(self._crew.loose.items()) if now - since >= LOOSE]
        if not due:
            return
        found = self._store.statuses(due)
        again = [id for id in due if found.get(id) == ("PENDING", self._process) and id not in self._crew.runs]
        if again:
            self._store.probe()
            self._engine.resume(again)
        over = [id for id in due if id not in found or found[id][0] not in ("PENDING", "ENQUEUED")]
        self._store.forget(over)
        for id in due:
            self._crew.loose.pop(id, None)

    def _collect_strays(self) -> None:
        """Run what this process took from its queue and could not begin, the database being in trouble."""
        crew = self._crew
        idle = set(self._store.pending_of(self._process)) - crew.runs.keys() - crew.loose.keys() - crew.misfits
        self._engine.resume(sorted(idle & self._strays))  # those that were idle at the last look, too
        self._strays = idle - self._strays

    def _adopt(self) -> None:
        """Adopt what dead processes have left, of this version, or of one of which no process lives."""
        all_processes = self._store.processes()
        dead = self._dead([id for id, _, _ in all_processes])
        alive = {id for id, _, _ in all_processes} - dead
        living = {version for id, version, _ in all_processes if id in alive}
        for id, version, adopter in all_processes:
            if id not in dead or (version != self._crew.version and version in living):
                continue
            if adopter in alive and adopter != self._process:
                continue
            if adopter == self._process or self._store.claim(id, adopter, self._process):
                self._take(id)
        known = {f"{QUEUE}{version}" for version in living}
        left = [id for id, queue in self._store.enqueued(QUEUE) if queue not in known]
        self._engine.resume([id for id in left if id not in self._crew.misfits])

    def _take(self, dead: str) -> None:
        left = self._store.pending_of(dead)
        mine = [id for id in left if id not in self._crew.misfits]
        if mine:
            logger.info("durable workflows: took over %d of process %s", len(mine), dead)
            self._engine.resume(mine)
        if len(mine) < len(left):
            self._store.claim(dead, self._process, None)  # another version may fit
        else:
            self._store.remove_process(dead)
            self._lives.clear(dead)

    def _dead(self, ids: list[str]) -> set[str]:
        now, free = time.monotonic(), self._lives.dead(ids)
        self._free_since = {id: self._free_since.get(id, now) for id in free}
        grace = GRACE[self._store.is_sqlite]
        return {id for id, since in self._free_since.items() if now - since >= grace}

    def _adopt_misfits(self) -> None:
        """Adopt what another version could not run."""
        wanted = [
            id
            for id, version in self._store.misfits()
            if version != self._crew.version and id not in self._crew.misfits and id not in self._crew.runs
        ]
        if not wanted:
            return
        found = self._store.statuses(wanted)
        fitting = [id for id in wanted if found.get(id, ("", None))[0] == "PENDING"]
        for id in fitting:
            self._store.keep(id, misfit=None)
        self._engine.resume(fitting)
