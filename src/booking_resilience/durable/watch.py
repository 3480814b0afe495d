"""The thread that looks after workflows: those of dead processes, those that were told something, those that ended."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final

from booking_resilience.durable.crew import Crew
from booking_resilience.durable.engine import QUEUE

logger: logging.Logger = logging.getLogger("booking_resilience.durable")

_TICK: Final = 0.5
_ADOPT_EVERY: Final = 1.0
_STRAYS_EVERY: Final = 2.0
_CLEAR_EVERY: Final = 20.0


class Watch:
    """Looks after the workflows of one process, and of those that died."""

    def __init__(self, crew: Crew, lives: Any, keep_finished: float) -> None:
        self._crew, self._engine, self._store = crew, crew.engine, crew.store
        self.lives: Any = lives
        self._keep_finished = keep_finished
        self._clear_every = min(_CLEAR_EVERY, keep_finished + 1.0)
        self._last: dict[str, float] = {"clear": time.monotonic()}
        self._free_since: dict[str, float] = {}
        self._looks: dict[str, int] = {}
        self._begun = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="booking-resilience-durable", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; a look that takes longer than a second ends later."""
        self._end.set()
        self._thread.join(1.0)

    def _watch(self) -> None:
        is_troubled = False
        while not self._end.wait(_TICK):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - whatever it was, the next look may find all well
                if not is_troubled and not self._end.is_set():
                    logger.warning("durable workflows: the database is in trouble: %s", error)
                is_troubled = True
            else:
                if is_troubled:
                    logger.info("durable workflows: the database works again")
                is_troubled = False

    def _look(self) -> None:
        self.lives.hold()
        self._store.tidy()
        self._hand_on()
        if self._is_due("adopt", _ADOPT_EVERY):
            self._store.add_process(self._crew.process, self._crew.version)  # it may have been taken for dead
            self._adopt()
        if self._is_due("strays", _STRAYS_EVERY):
            self._collect_strays()
        if self._is_due("clear", self._clear_every):
            self._store.forget_finished()
            self._engine.delete(self._store.finished_before(time.time() - self._keep_finished))

    def _is_due(self, what: str, every: float) -> bool:
        now = time.monotonic()
        if now < self._last.get(what, 0.0) + every:
            return False
        self._last[what] = now
        return True

    def _hand_on(self) -> None:
        """Hand on to runs of this process what others have told them."""
        for id, is_cancelled, is_woken in self._store.told():
            run = self._crew.runs.get(id)
            if run is None:
                continue
            if is_cancelled:
                run.cancel()
            if is_woken:
                run.wake()
                self._store.keep(id, woken=0)

    def _collect_strays(self) -> None:
        """Begin again what this process should run and doesn't: its beginning, a step or its end couldn't be kept."""
        crew = self._crew
        for id in list(crew.known):
            if id not in crew.runs and self._store.status(id) not in ("ENQUEUED", "PENDING"):  # ended elsewhere
                crew.known.pop(id, None)
        idle = set(self._store.pending_of(crew.process)) - crew.runs.keys() - crew.misfits
        is_quiet = crew.begun == self._begun  # else those may be next: thousands that wait begin at once
        looks = {id: self._looks.get(id, 0) + 1 for id in idle}
        again = [id for id, count in looks.items() if count >= (2 if is_quiet else 4)]
        self._begun, self._looks = crew.begun, looks
        if again:
            self._store.probe()
            self._engine.resume(sorted(again))
            for id in again:
                del looks[id]

    def _adopt(self) -> None:
        """Adopt what dead processes have left, of this version, or of one of which no process lives, and misfits."""
        crew, processes = self._crew, self._store.processes()
        dead = self._dead([id for id, _, _ in processes])
        alive = {id for id, _, _ in processes} - dead
        living = {version for id, version, _ in processes if id in alive}
        for id, version, adopter in processes:
            is_ours = version == crew.version or version not in living
            is_free = adopter == crew.process or adopter not in alive
            if id in dead and is_ours and is_free and self._store.claim(id, adopter, crew.process):
                left = self._store.pending_of(id)
                if left:
                    logger.info("durable workflows: took over %d of process %s", len(left), id)
                self._engine.resume(left)
                self._store.remove_process(id)
                self.lives.clear(id)
        queues = {f"{QUEUE}{version}" for version in living}
        enqueued = self._store.enqueued()
        self._engine.resume([id for id, queue in enqueued if queue and queue.startswith(QUEUE) and queue not in queues])
        misfits = [id for id in self._store.misfits(crew.version) if id not in crew.misfits | crew.runs.keys()]
        for id in misfits:
            self._store.keep(id, misfit=None)
        self._engine.resume(misfits)

    def _dead(self, ids: list[str]) -> set[str]:
        now, free = time.monotonic(), self.lives.dead(ids)
        self._free_since = {id: self._free_since.get(id, now) for id in free}
        return {id for id, since in self._free_since.items() if now - since >= self.lives.grace}
