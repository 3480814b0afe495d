"""How a call or a workflow ended, as facts that the database keeps, and the errors that are made of these facts."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import math
from typing import Any, Final, TypeAlias

from booking_resilience.durable.errors import CallError, GaveUpError, WorkflowCancelledError
from booking_resilience.durable.values import decode, encode
from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.redact import DEFAULT_REDACTION, Cleaner, text_of
from booking_resilience.verdicts import Verdict, classify

Outcome: TypeAlias = dict[str, Any]
"""JSON-like; its `kind` tells which of the functions below made it."""

CANCELLED: Final[Outcome] = {"kind": "cancelled"}
_CONFLICTS: Final = "booking_resilience.appwrite"


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
    if isinstance(error, CallError):
        return _call_error(error.operation, error.type, error.text, error.verdict)
    kind = type(error)
    if kind.__module__.startswith(_CONFLICTS) and kind.__name__ == "RowConflictError":
        return {
            "kind": "row_conflict",
            "row_id": encode("row_id", _of(error, "row_id")),
            "found": encode("row", _of(error, "found")),
        }
    if kind.__module__.startswith(_CONFLICTS) and kind.__name__ == "SlotTakenError":
        resource, start = _of(error, "resource_id"), _of(error, "start")
        return {"kind": "slot_taken", "resource_id": str(resource), "start": start.isoformat()}
    return _call_error(operation, type_of(error), shown(error), classify(error))


def shown(error: BaseException) -> str:
    """Return the error's text, redacted and cut to a length; its type's name if it has no text."""
    return Cleaner(DEFAULT_REDACTION).text(text_of(error)) or type(error).__name__


def type_of(error: BaseException) -> str:
    """Return the name of the error's type, with its module unless it is built in."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def open_outcome(outcome: Outcome) -> Any:
    """Return what a call or a workflow returned, or raise what it raised."""
    if outcome["kind"] == "value":
        return decode(outcome["value"])
    raise error_of(outcome)


def error_of(outcome: Outcome) -> Exception:
    """Return the error that an outcome stands for."""
    match outcome["kind"]:
        case "cancelled":
            return WorkflowCancelledError("the workflow was cancelled")
        case "gave_up":
            return GaveUpError(outcome["operation"], outcome["attempts"], outcome["error"])
        case "not_json":
            return TypeError(outcome["text"])
        case "row_conflict":
            return _conflict("RowConflictError", decode(outcome["row_id"]), decode(outcome["found"]))
        case "slot_taken":
            start = datetime.datetime.fromisoformat(outcome["start"])
            return _conflict("SlotTakenError", outcome["resource_id"], start)
        case _:
            verdict = _verdict(outcome["verdict"])
            return CallError(outcome["operation"], outcome["type"], outcome["text"], verdict)


def _conflict(name: str, *facts: object) -> Exception:
    error: Exception = getattr(importlib.import_module(_CONFLICTS), name)(*facts)
    return error


def _of(error: BaseException, name: str) -> Any:
    return getattr(error, name)


def _call_error(operation: str, type_: str, text: str, verdict: Verdict) -> Outcome:
    facts = dataclasses.asdict(verdict)
    facts["category"] = verdict.category.value
    if verdict.retry_after is not None and math.isinf(verdict.retry_after):
        facts["retry_after"] = "infinite"
    return {"kind": "call_error", "operation": operation, "type": type_, "text": text, "verdict": facts}


def _verdict(facts: dict[str, Any]) -> Verdict:
    wait = facts["retry_after"]
    return Verdict(
        transient=facts["transient"],
        sent=facts["sent"],
        category=ErrorCategory(facts["category"]),
        status=facts["status"],
        type=facts["type"],
        retry_after=math.inf if wait == "infinite" else wait,
    )
