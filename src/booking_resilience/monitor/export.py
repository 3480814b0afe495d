"""Errors as JSON, JSON Lines and CSV. Pure: time comes in as an argument, and texts come out."""

from __future__ import annotations

import csv
import datetime
import io
import json
from typing import TYPE_CHECKING, Any

from booking_resilience.events import AlertEvent
from booking_resilience.monitor.load import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from booking_resilience.monitor.record import ErrorRecord
    from booking_resilience.monitor.stats import ErrorStats
    from booking_resilience.monitor.store import ErrorGroup

COLUMNS = (
    "id", "timestamp", "category", "severity", "operation", "error_type", "message", "outcome", "attempts",
    "duration_seconds", "fingerprint", "function", "file", "line", "context", "stacktrace",
)  # fmt: skip
_RISKY = tuple("=+-@\t\r\n\0'＝＋－＠")  # noqa: RUF001 - the full-width forms run as formulas, too


def head_of(now: datetime.datetime, window: float, stats: ErrorStats, groups: Iterable[ErrorGroup]) -> dict[str, Any]:
    """Return what an export says beside the records, as JSON has it."""
    return {
        "generated_at": now.isoformat(),
        "window_seconds": window,
        "stats": {name: _plain(getattr(stats, name)) for name in stats.__slots__},
        "alert": _plain(stats.alert),
        "groups": [{name: _plain(getattr(group, name)) for name in group.__slots__} for group in groups],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, AlertEvent):
        return {name: _plain(getattr(value, name)) for name in AlertEvent.__slots__}
    return value.isoformat() if isinstance(value, datetime.datetime) else value


def to_json(head: dict[str, Any], records: Iterable[ErrorRecord]) -> str:
    """Return a JSON document: the head's facts and the records, newest first. Strict and plain ASCII."""
    document = {"schema": SCHEMA, **head, "errors": [record.to_dict() for record in records]}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def to_jsonl(head: dict[str, Any], records: Iterable[ErrorRecord]) -> str:
    """Return JSON Lines: the head's facts on the first line, then a record a line."""
    lines = [{"schema": SCHEMA, **head}, *(record.to_dict() for record in records)]
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def to_csv(records: Iterable[ErrorRecord]) -> str:
    """Return CSV: a header row, then a record a row; all fields quoted, none that a spreadsheet would run.

    A field that begins with a character that may begin a formula has one `'` in front; so has one that begins with
    `'` itself, so that taking one `'` off restores every text exactly.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for record in records:
        facts = record.to_dict()
        facts["duration_seconds"] = facts["duration"]
        facts["context"] = json.dumps(facts["context"], allow_nan=False)
        writer.writerow([guarded(facts[name]) for name in COLUMNS])
    return out.getvalue()


def guarded(value: object) -> str:
    """Return the field's text, such that no spreadsheet takes it for a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_RISKY) else text
