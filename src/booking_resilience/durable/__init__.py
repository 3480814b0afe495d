"""Durable bookings: workflows that survive crashes and outages, on DBOS.

Needs the extra `durable`. The database is a SQLite file for one machine, or PostgreSQL for a fleet.
"""

from booking_resilience.durable.asked import Waiting
from booking_resilience.durable.durable import Durable
from booking_resilience.durable.errors import CallError, DurableStoreError, GaveUpError, WorkflowCancelledError

__all__ = ["CallError", "Durable", "DurableStoreError", "GaveUpError", "Waiting", "WorkflowCancelledError"]


def __dir__() -> list[str]:
    return sorted(__all__)
