"""The errors of durable workflows.

::

    ResilienceError
    ├── CallError                 a call was rejected for good
    ├── GaveUpError               a call was tried for as long as it may be
    ├── WorkflowCancelledError    somebody cancelled the workflow
    └── DurableStoreError         the database is gone, full, damaged or locked

    asyncio.CancelledError
    └── Parked                    leaves a workflow where it is; never seen outside
"""

from __future__ import annotations

import asyncio

from booking_resilience.errors import ResilienceError
from booking_resilience.verdicts import Verdict


class CallError(ResilienceError):
    """A call of a workflow was rejected for good.

    It is made of facts that the database keeps, so it is the same when the workflow runs again. `__cause__` is the
    original error as long as the process that met it runs the workflow.

    Args:
        operation: The call's operation; the workflow's name where its own code raised.
        type: The original error's type, with its module unless it is built in.
        text: The original error's text, redacted.
        verdict: What the original error means.
    """

    def __init__(self, operation: str, type: str, text: str, verdict: Verdict) -> None:
        super().__init__(operation, type, text, verdict)
        self.operation = operation
        self.type = type
        self.text = text
        self.verdict = verdict

    def __str__(self) -> str:
        return f"{self.operation} failed for good: {self.type}: {self.text}"


class GaveUpError(ResilienceError):
    """A call of a workflow didn't succeed within `give_up_after` seconds. It may have been carried out all the same.

    Args:
        operation: The call's operation.
        attempts: The tries made; rejections by an open breaker aren't tries.
        error: The last error's text, redacted.
    """

    def __init__(self, operation: str, attempts: int, error: str) -> None:
        super().__init__(operation, attempts, error)
        self.operation = operation
        self.attempts = attempts
        self.error = error

    def __str__(self) -> str:
        tries = "1 try" if self.attempts == 1 else f"{self.attempts} tries"
        return f"{self.operation} was given up after {tries}: {self.error}"


class WorkflowCancelledError(ResilienceError):
    """Somebody cancelled the workflow: undo what it has done, the call that raises this included."""


class DurableStoreError(ResilienceError):
    """The database is gone, full, damaged or locked, or holds something else. Nothing was acknowledged."""


class Parked(asyncio.CancelledError):
    """Ends a run of a workflow and leaves the workflow where it is, to be run again.

    A cancellation, so that neither a workflow's own code nor DBOS takes it for the workflow's end, and no event loop
    reports it as an error that nobody looked at.
    """
