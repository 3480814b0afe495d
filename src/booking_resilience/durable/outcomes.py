"""How a call or a workflow ended, as facts that the database keeps, and the errors that are made of these facts."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import sys
from typing import Any, Final, TypeAlias

from booking_resilience.callbacks import text_of
from booking_resilience.durable.errors import CallError, GaveUpError, WorkflowCancelledError
from booking_resilience.durable.values import decode, encode
from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.redact import DEFAULT_REDACTION, Cleaner
from booking_resilience.verdicts import Verdict, classify

Outcome: TypeAlias = dict[str, Any]
"""JSON-like; its `kind` tells which of the functions below made it."""

CANCELLED: Final[Outcome] = {"kind": "cancelled"}


class NotJsonError(TypeError):
    """A result isn't JSON-like. A `TypeError` to all who see it; only here it is told from others."""


NotJsonError.__name__ = "TypeError"  # by which logs and monitors name it


def succeeded(name: str, value: object) -> Outcome:
    """Return the outcome of what returned a value; that of a `TypeError` if it isn't JSON-like."""
    try:
        return {"kind": "value", "value": encode(name, value)}
    except TypeError as error:
        return {"kind": "not_json", "text": str(error)}


def gave_up(operation: str, attempts: int, error: str) -> Outcome:
    """Return the outcome of a call that was tried for too long."""
    return {"kind": "gave_up", "operation": operation, "attempts": attempts, "error": error}


def failed(operation: str, error: BaseException) -> Outcome:
    """Return the outcome of a call, or of a workflow, that raised."""
    if isinstance(error, WorkflowCancelledError):
        return CANCELLED
    if isinstance(error, GaveUpError):
        return gave_up(error.operation, error.attempts, error.error)
    if isinstance(error, NotJsonError):
        return {"kind": "not_json", "text": str(error)}
    if isinstance(error, CallError):
        return _call_error(error.operation, error.type, error.text, error.verdict)
    conflict = _conflict(error)
    if conflict is not None:
        return conflict
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return _call_error(operation, name, shown(error), classify(error))


def _conflict(error: Any) -> Outcome | None:
    appwrite: Any = sys.modules.get("booking_resilience.appwrite")
    # Both are missing while another thread imports the module.
    row_conflict: Any = getattr(appwrite, "RowConflictError", ())
    slot_taken: Any = getattr(appwrite, "SlotTakenError", ())
    if isinstance(error, row_conflict):
        with contextlib.suppress(TypeError):  # somebody else made it, of what isn't JSON-like
            return {"kind": "row_conflict", "row_id": encode("", error.row_id), "found": encode("", error.found)}
    if isinstance(error, slot_taken) and hasattr(error.start, "isoformat"):
        return {"kind": "slot_taken", "resource_id": str(error.resource_id), "start": error.start.isoformat()}
    return None


def _call_error(operation: str, type_: str, text: str, verdict: Verdict) -> Outcome:
    facts = {"operation": operation, "type": type_, "text": text, "verdict": dataclasses.asdict(verdict)}
    return {"kind": "call_error", **facts}


def shown(error: BaseException) -> str:
    """Return the error's text, redacted, cut to a length, as a database keeps it; its type's name if it has none."""
    return Cleaner(DEFAULT_REDACTION).text(text_of(error)).replace("\0", "\\0") or type(error).__name__


def open_outcome(outcome: Outcome, cause: BaseException | None = None) -> Any:
    """Return what a call or a workflow returned, or raise what it raised, from the original error if it is at hand."""
    if outcome["kind"] == "value":
        return decode(outcome["value"])
    try:
        raise _error_of(outcome) from cause
    finally:
        del cause


def _error_of(outcome: Outcome) -> Exception:
    match outcome["kind"]:
        case "cancelled":
            return WorkflowCancelledError("the workflow was cancelled")
        case "gave_up":
            return GaveUpError(outcome["operation"], outcome["attempts"], outcome["error"])
        case "not_json":
            return NotJsonError(outcome["text"])
        case "row_conflict":
            from booking_resilience.appwrite import RowConflictError

            return RowConflictError(decode(outcome["row_id"]), decode(outcome["found"]))
        case "slot_taken":
            from booking_resilience.appwrite import SlotTakenError

            return SlotTakenError(outcome["resource_id"], datetime.datetime.fromisoformat(outcome["start"]))
        case _:
            facts = outcome["verdict"]
            verdict = Verdict(**{**facts, "category": ErrorCategory(facts["category"])})
            return CallError(outcome["operation"], outcome["type"], outcome["text"], verdict)
