"""Telling of a breaker's transitions: listeners and the log, in order and under no lock."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from booking_resilience.events import BreakerEvent, BreakerState, notify

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from booking_resilience.breaker.breaker import CircuitBreaker

logger: logging.Logger = logging.getLogger("booking_resilience.breaker")
_LOUD = (BreakerState.OPEN, BreakerState.ISOLATED)


def deliver(breaker: CircuitBreaker, lock: AbstractContextManager[object]) -> None:
    """Tell of the transitions that nobody was told of yet.

    One thread tells at a time, so that the order is kept; one that finds another at it leaves its transition to it.
    Who is at it is noted by process: in a forked child nobody is.
    """
    machine, here = breaker._machine, os.getpid()
    telling = False
    try:
        while True:
            with lock:
                if not telling and breaker._delivering == here:
                    return
                if not machine.moves:
                    breaker._delivering, telling = 0, False
                    return
                breaker._delivering, telling = here, True
                (old, new, reason), listeners = machine.next_move(), breaker._listeners
            facts = {"breaker": breaker.name, "old": old.value, "new": new.value, "reason": reason}
            with contextlib.suppress(Exception):  # a logging handler that raises
                level = logging.WARNING if new in _LOUD else logging.INFO
                logger.log(level, "%r: %s -> %s: %s", *facts.values(), extra=facts)
            notify(listeners, BreakerEvent(breaker.name, old, new, reason), logger)
    except BaseException:  # an interrupt; what is left is told at the next transition
        if telling:
            breaker._delivering = 0
        raise
