"""Errors as JSON, JSON Lines and CSV, and back. Pure: time comes in as an argument."""

from __future__ import annotations

import csv
import datetime
import io
import json
import re
import reprlib
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from booking_resilience.checks import check_type
from booking_resilience.events import AlertEvent, ErrorCategory
from booking_resilience.monitor.record import (
    FIELDS,
    Details,
    ErrorRecord,
    ErrorStats,
    Kind,
    Severity,
    make_record,
    member_of,
    outcome_of,
)
from booking_resilience.monitor.store import ErrorGroup

SCHEMA = "booking-resilience/errors/1"
_SOURCES = "a Path to read, or the text of an export"
FLEET_SCHEMA = "booking-resilience/errors/2"  # as the first, and each record ends with host and pid
_FLEET_FIELDS = ("host", "pid")
COLUMNS = (
    "id", "timestamp", "category", "severity", "operation", "error_type", "message", "outcome", "attempts",
    "duration_seconds", "fingerprint", "function", "file", "line", "context", "stacktrace",
)  # fmt: skip
CSV_LIMIT, EXCEL_LIMIT = 131_072, 32_767  # characters in a field: as many as `csv` reads, and as Excel shows
_RISKY = re.compile(  # at the start of a cell, wherever a spreadsheet may split one; the full-width forms run, too
    "(?:\\A|(?<=[;\\t\\n])|(?<=\\r)(?!\\n))(?=[=+\\-@\\t\\r\\n\\0'＝＋－＠])|(?:(?<=[;\\t\\n])|(?<=\\r))(?=[\"＂])"  # noqa: RUF001
)


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


def to_json(head: dict[str, Any], records: Iterable[ErrorRecord], *, fleet: bool = False) -> str:
    """Return a JSON document: the head's facts and the records, newest first. Strict and plain ASCII."""
    schema = FLEET_SCHEMA if fleet else SCHEMA
    document = {"schema": schema, **head, "errors": [_facts_of(record, fleet=fleet) for record in records]}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def to_jsonl(head: dict[str, Any], records: Iterable[ErrorRecord], *, fleet: bool = False) -> str:
    """Return JSON Lines: the head's facts on the first line, then a record a line."""
    schema = FLEET_SCHEMA if fleet else SCHEMA
    lines = [{"schema": schema, **head}, *(_facts_of(record, fleet=fleet) for record in records)]
    return "".join(json.dumps(line, allow_nan=False) + "\n" for line in lines)


def _facts_of(record: ErrorRecord, *, fleet: bool) -> dict[str, Any]:
    return {**record.to_dict(), "host": record.host, "pid": record.pid} if fleet else record.to_dict()


def to_csv(records: Iterable[ErrorRecord], *, excel: bool = False, fleet: bool = False) -> str:
    """Return CSV: a header row, then a record a row; all fields quoted, none that a spreadsheet would run.

    Args:
        records: The records.
        excel: Whether it is for Excel, which needs a byte order mark and shows at most 32,767 characters a cell.
        fleet: Whether host and pid are the last columns.
    """
    columns = (*COLUMNS, *_FLEET_FIELDS) if fleet else COLUMNS
    out = io.StringIO(newline="")
    out.write("\ufeff" if excel else "")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(columns)
    limit = EXCEL_LIMIT if excel else CSV_LIMIT
    for record in records:
        facts = _facts_of(record, fleet=fleet)
        facts["duration_seconds"] = facts["duration"]
        facts["context"] = _context_text(facts["context"], limit)
        writer.writerow([guarded(facts[name])[:limit] for name in columns])
    return out.getvalue()


def guarded(value: object) -> str:
    """Return the field's text, such that no spreadsheet takes it, or a part that it splits off, for a formula.

    What may begin a formula gets one `'` in front at the start and after a separator, and so does `'` itself.
    """
    return _RISKY.sub("'", "" if value is None else str(value))


def _context_text(context: dict[str, Any], limit: int) -> str:
    """Return the context as JSON; of one that is too long only as many values as fit, the first ones."""
    text = json.dumps(context, allow_nan=False)
    if len(guarded(text)) <= limit:
        return text
    fits, too_many = 0, len(text)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if len(guarded(json.dumps(_first_values(context, [middle])))) <= limit:
            fits = middle
        else:
            too_many = middle
    return json.dumps(_first_values(context, [fits]))


def _first_values(value: Any, left: list[int]) -> Any:
    """Return a copy with as many values of a context as are left, in their order."""
    if not isinstance(value, (dict, list)):
        return value
    items = value.items() if isinstance(value, dict) else enumerate(value)
    copy = {}
    for key, inner in items:
        left[0] -= 1
        if left[0] < 0:
            break
        copy[key] = _first_values(inner, left)
    return copy if isinstance(value, dict) else list(copy.values())


def load_json(source: Path | str) -> list[ErrorRecord]:
    """Return the records of what `to_json` or `to_jsonl` made.

    Args:
        source: A path to read, or the text itself.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is not an export of this library's.
        OSError: If the file cannot be read.
    """
    check_type("source", source, isinstance(source, (str, Path)), _SOURCES)
    text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
    try:
        try:
            documents = [json.loads(text, parse_constant=_no_number)]
        except json.JSONDecodeError:
            if text.strip() and not text.lstrip().startswith("{"):
                raise ValueError(f"source must be {_SOURCES}, not {reprlib.repr(text)}") from None
            documents = [json.loads(line, parse_constant=_no_number) for line in text.split("\n") if line.strip()]
    except RecursionError:
        raise ValueError("the text is nested too deeply to be an export") from None
    head = documents[0] if documents else None
    schema = head.get("schema") if isinstance(head, dict) else type(head).__name__
    if not isinstance(head, dict) or schema not in (SCHEMA, FLEET_SCHEMA):
        raise ValueError(f"schema must be {SCHEMA!r} or {FLEET_SCHEMA!r}, not {schema!r}")
    fields = FIELDS if schema == SCHEMA else (*FIELDS, *_FLEET_FIELDS)
    records = head.get("errors", documents[1:])
    if not isinstance(records, list):
        raise ValueError(f"errors must be a list, not {type(records).__name__}")
    return [from_dict(facts, fields) for facts in records]


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"an export must hold finite numbers only, not {name}")


def from_dict(facts: Any, fields: Iterable[str] = FIELDS) -> ErrorRecord:
    """Return the record that an export has as these facts; `notes`, which 0.1 did not write, may be missing.

    Raises:
        ValueError: If a field is missing, unknown, or cannot be what it says.
    """
    facts = {"notes": [], **facts} if isinstance(facts, dict) else facts
    wrong = set(fields) ^ set(facts) if isinstance(facts, dict) else {type(facts).__name__}
    if wrong:
        names = ", ".join(sorted(wrong))
        raise ValueError(f"a record must have exactly the fields of ErrorRecord; missing or unknown: {names}")
    hints = typing.get_type_hints(ErrorRecord)
    for name in fields:
        _check_field(name, facts[name], hints[name])
    outcome_of(facts["outcome"])
    moment = datetime.datetime.fromisoformat(facts["timestamp"])
    if moment.tzinfo is None:
        raise ValueError(f"timestamp must have an offset from UTC, not {facts['timestamp']!r}")
    severity = member_of(Severity, facts["severity"])
    kind = Kind(
        category=member_of(ErrorCategory, facts["category"]),
        severity=severity,
        stack=facts["stacktrace"],
        group=facts["operation"],
        key=f"{facts['fingerprint']}{severity}{facts['outcome']}",
        source=(facts.get("host"), facts.get("pid")),
        **{name: facts[name] for name in Kind._fields if name in facts and name not in ("category", "severity")},
    )
    lists: dict[str, Any] = {name: tuple(facts[name]) for name in ("attempt_errors", "notes")}
    causes = tuple((line, ()) for line in facts["causes"])
    plain = {name: facts[name] for name in Details._fields if name in facts and name not in (*lists, "causes")}
    return make_record(kind, Details(**lists, causes=causes, **plain), facts["message"], moment)


_TEXT: tuple[str, Callable[[Any], bool]] = ("a string", lambda value: type(value) is str)
_FORMS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number, 0 or more", lambda value: type(value) is int and value >= 0),
    float: ("a finite number", lambda value: type(value) in (int, float) and -1e308 < value < 1e308),
    dict[str, Any]: ("an object", lambda value: type(value) is dict),
    tuple[str, ...]: ("a list of strings", lambda value: type(value) is list and all(map(_TEXT[1], value))),
    type(None): ("null", lambda value: value is None),
}


def _check_field(name: str, value: Any, annotation: Any) -> None:
    """Check a field by the record's annotation; enumerations, outcomes and moments are strings in JSON."""
    wishes = typing.get_args(annotation) if isinstance(annotation, type(str | None)) else (annotation,)
    forms = [_FORMS.get(wish, _TEXT) for wish in wishes]
    if not any(is_right(value) for _, is_right in forms):
        raise ValueError(f"{name} must be {' or '.join(said for said, _ in forms)}, not {reprlib.repr(value)}")
