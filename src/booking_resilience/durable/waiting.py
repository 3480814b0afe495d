"""What waits: the workflows of all processes that are in a pause, or that nobody can run now."""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from typing import Any, Final

from booking_resilience.durable.crew import Crew
from booking_resilience.durable.run import Run

_FRESH: Final = 30.0  # seconds in which a workflow should have begun, taken over from a dead process if need be


@dataclass(frozen=True, slots=True)
class Waiting:
    """A workflow that waits.

    Attributes:
        id: Its ID.
        operation: The operation of the call that waits; empty if that isn't known here.
        attempts: The tries made for that call.
        error: The last error's text, redacted; or why no process can run it; None if that isn't known here.
        since: When the call was first tried, aware UTC; the workflow submitted, if that isn't known here.
        next_try: When it is tried again, aware UTC; None if it waits for a process or a version to run it, or if that
            isn't known here.
    """

    id: str
    operation: str
    attempts: int
    error: str | None
    since: datetime.datetime
    next_try: datetime.datetime | None


def waiting_of(crew: Crew, limit: int) -> list[Waiting]:
    """Return what waits, oldest first, at most `limit`."""
    now = time.time()
    found: list[Waiting] = []
    for facts in crew.store.unfinished():
        run = crew.runs.get(facts["workflow"])
        item = _of_run(run) if run is not None else _of_facts(facts, now)
        if item is not None:
            found.append(item)
            if len(found) == limit:
                break
    return sorted(found, key=lambda item: item.since)


def _of_run(run: Run) -> Waiting | None:
    next_try, since = run.next_try, run.since
    if next_try is None or since is None or not run.waits:
        return None
    return Waiting(run.id, run.operation, run.attempts, run.error, _moment(since), _moment(next_try))


def _of_facts(facts: dict[str, Any], now: float) -> Waiting | None:
    if facts["operation"] is None and facts["error"] is None:
        created = facts["created_at"] / 1000
        return Waiting(facts["workflow"], "", 0, None, _moment(created), None) if now - created > _FRESH else None
    next_try = facts["next_try"]
    return Waiting(
        facts["workflow"], facts["operation"] or "", facts["attempts"] or 0, facts["error"], _moment(facts["since"]),
        None if next_try is None or facts["misfit"] is not None else _moment(next_try),
    )  # fmt: skip


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
