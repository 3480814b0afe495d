"""Reading back what was exported."""

from __future__ import annotations

import datetime
import json
import reprlib
from pathlib import Path
from typing import Any

from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.record import FIELDS, OUTCOMES, Details, Draft, ErrorRecord, Kind, Severity, frozen

SCHEMA = "booking-resilience/errors/1"
_TEXT, _TEXT_OR_NONE, _WHOLE, _NUMBER_OR_NONE = (str,), (str, type(None)), (int,), (int, float, type(None))
_TYPES: dict[str, tuple[type, ...]] = {
    "id": _TEXT, "timestamp": _TEXT, "category": _TEXT, "severity": _TEXT, "operation": _TEXT, "error_type": _TEXT,
    "message": _TEXT, "message_length": _WHOLE, "stacktrace": _TEXT, "function": _TEXT_OR_NONE, "file": _TEXT_OR_NONE,
    "line": (int, type(None)), "context": (dict,), "attempts": _WHOLE, "attempt_errors": (list,), "causes": (list,),
    "outcome": _TEXT, "fingerprint": _TEXT, "duration": _NUMBER_OR_NONE, "trace_id": _TEXT_OR_NONE,
    "span_id": _TEXT_OR_NONE,
}  # fmt: skip


def load_json(source: Path | str) -> list[ErrorRecord]:
    """Return the records of what `to_json` or `to_jsonl` made.

    Args:
        source: A path to read, or the text itself.

    Raises:
        ValueError: If it is not an export of this library's.
        OSError: If the file cannot be read.
    """
    text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
    try:
        try:
            documents = [json.loads(text)]
        except json.JSONDecodeError:
            if text.strip() and not text.lstrip().startswith("{"):
                raise ValueError(
                    f"source must be a Path to read, or the text of an export, not {reprlib.repr(text)}"
                ) from None
            documents = [json.loads(line) for line in text.splitlines() if line.strip()]
    except RecursionError:
        raise ValueError("the text is nested too deeply to be an export") from None
    head = documents[0] if documents else None
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        found = head.get("schema") if isinstance(head, dict) else type(head).__name__
        raise ValueError(f"schema must be {SCHEMA!r}, not {found!r}")
    records = head.get("errors", documents[1:])
    if not isinstance(records, list):
        raise ValueError(f"errors must be a list, not {type(records).__name__}")
    return [from_dict(facts) for facts in records]


def from_dict(facts: Any) -> ErrorRecord:
    """Return the record that `to_dict` made this of.

    Raises:
        ValueError: If a field is missing, unknown, or cannot be what it says.
    """
    if not isinstance(facts, dict) or set(facts) != set(FIELDS):
        wrong = sorted(set(FIELDS) ^ set(facts)) if isinstance(facts, dict) else [type(facts).__name__]
        raise ValueError(
            f"a record must have exactly the fields of ErrorRecord; missing or unknown: {', '.join(wrong)}"
        )
    for name, types in _TYPES.items():
        if not isinstance(facts[name], types) or isinstance(facts[name], bool):
            wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
            raise ValueError(f"{name} must be {wanted}, not {facts[name]!r}")
    if facts["outcome"] not in OUTCOMES:
        raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}, not {facts['outcome']!r}")
    kind = Kind(
        category=ErrorCategory(facts["category"]),
        severity=Severity(facts["severity"]),
        operation=facts["operation"],
        error_type=facts["error_type"],
        outcome=facts["outcome"],
        fingerprint=facts["fingerprint"],
        place=(facts["function"], facts["file"], facts["line"]),
        stack=facts["stacktrace"],
    )
    details = Details(
        context=facts["context"],
        attempts=facts["attempts"],
        attempt_errors=tuple(facts["attempt_errors"]),
        causes=tuple((line, ()) for line in facts["causes"]),
        duration=facts["duration"],
        trace_id=facts["trace_id"],
        span_id=facts["span_id"],
        message_length=facts["message_length"],
        id=facts["id"],
    )
    draft = Draft()
    draft._kind, draft._details, draft.message = kind, details, facts["message"]
    draft._moment, draft._number = datetime.datetime.fromisoformat(facts["timestamp"]), 0
    return frozen(draft)
