"""A started Durable with one workflow that does whatever a test puts there."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from booking_resilience import Pipeline, RetryPolicy, TransientError
from booking_resilience.durable import Durable

NUMBERS = itertools.count()


def eventually(condition: Callable[[], Any], within: float, what: str) -> Any:
    """Return the first true value of a condition; fail after so many seconds."""
    end = time.monotonic() + within
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.02)
    return value


class Bench:
    """The Durable. IDs are numbered on, so that several may follow one another on one database."""

    def __init__(self, url: str, bodies: dict[str, Callable[..., Any]] | None = None, **settings: Any) -> None:
        self.bodies = {} if bodies is None else bodies
        once = Pipeline(retry=RetryPolicy(max_attempts=1, deadline=None))
        settings = {"version": "1", "pipeline": once, "base_delay": 0.05, "max_delay": 0.2, **settings}
        self.durable = Durable(url, **settings)

        @self.durable.workflow
        async def case(name: str) -> Any:
            return await self.bodies[name](self.durable)

        self.case = case
        self.durable.start()

    def submit(self, body: Callable[..., Any]) -> str:
        """Submit a body as a workflow."""
        name = f"case-{next(NUMBERS)}"
        self.bodies[name] = body
        return self.durable.submit(self.case, name, id=name)

    def call(self, fn: Callable[[], Any]) -> str:
        """Submit a workflow with one call."""

        async def body(durable: Durable) -> Any:
            return await durable.call("store", fn)

        return self.submit(body)

    def waits(self, booking: str) -> Any:
        """Return its entry among those that wait, as soon as there is one."""
        found = lambda: next((item for item in self.durable.waiting() if item.id == booking), None)  # noqa: E731 - one line says it
        return eventually(found, 60, f"{booking} waits")

    def value(self, booking: str) -> Any:
        """Return what a workflow returned, or raise what it raised."""
        return self.durable.result(booking, timeout=60)


def away() -> Exception:
    """Return an error that asks for a pause longer than any test."""
    return TransientError("away", retry_after=600.0)


def failing(times: int, error: Callable[[], Exception] = away) -> Callable[[], str]:
    """Return a function that fails so many times and then returns."""
    left = [times]

    def fn() -> str:
        if left[0]:
            left[0] -= 1
            raise error()
        return "done"

    return fn
