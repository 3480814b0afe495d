"""How a run of a workflow begins and ends."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from typing import Any

from booking_resilience.durable.crew import Crew
from booking_resilience.durable.errors import DurableStoreError, Parked
from booking_resilience.durable.outcomes import Outcome, failed, succeeded
from booking_resilience.durable.run import Run, current
from booking_resilience.durable.values import decode


async def run_workflow(crew: Crew, id: str, name: str, arguments: str) -> Outcome:
    """Run a workflow and return its outcome.

    Raises:
        Parked: If it is to be run again.
    """
    if crew.is_stopping:
        raise Parked
    try:
        state, ended = await asyncio.to_thread(_load, crew, id)
    except DurableStoreError as error:
        crew.loose[id] = time.monotonic()
        raise Parked from error
    run = crew.runs[id] = Run(crew, id, state, ended)
    token = current.set(run)
    try:
        return await _outcome(crew, run, name, arguments)
    finally:
        current.reset(token)
        crew.trying.discard(run)
        if crew.runs.get(id) is run:
            del crew.runs[id]
            if run.is_misfit:
                crew.misfits.add(id)
            else:
                crew.loose[id] = time.monotonic()


def _load(crew: Crew, id: str) -> tuple[dict[str, Any] | None, int]:
    return crew.store.state(id), crew.store.steps(id)


async def _outcome(crew: Crew, run: Run, name: str, arguments: str) -> Outcome:
    fn = crew.workflows.get(name)
    if fn is None:
        return await run.misfit(f"it doesn't know the workflow {name!r}")
    args, kwargs = (decode(part) for part in json.loads(arguments))
    try:
        inspect.signature(fn).bind(*args, **kwargs)
    except TypeError as error:
        await run.misfit(f"{name}: {error}")
    try:
        value = await fn(*args, **kwargs)
    except (Parked, asyncio.CancelledError):
        raise
    except BaseException as error:  # noqa: BLE001 - the workflow's own, which is its end
        outcome = failed(name, error)
    else:
        outcome = succeeded(f"the result of {name}", value)
    if run.is_parked:  # and its code has swallowed that
        raise Parked
    if run.calls < run.ended:
        await run.misfit(f"it ends after {run.calls} calls, {run.ended} were made")
    return outcome
