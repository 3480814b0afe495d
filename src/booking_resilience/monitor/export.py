"""Errors as JSON, JSON Lines and CSV, into files (all or nothing), and back. Time comes in as an argument."""

from __future__ import annotations

import bisect
import csv
import datetime
import errno
import functools
import io
import json
import os
import re
import reprlib
import secrets
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from booking_resilience.checks import check_text, check_type
from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.record import (
    FIELDS,
    FLEET_FIELDS,
    Details,
    ErrorRecord,
    Kind,
    Origin,
    Severity,
    as_datetime,
    make_record,
    member_of,
    outcome_of,
)

SCHEMA = "booking-resilience/errors/1"
_SOURCES = "a Path to read, or the text of an export"
FLEET_SCHEMA = "booking-resilience/errors/2"  # as the first, and each record ends with host and pid
COLUMNS = (
    "id", "timestamp", "category", "severity", "operation", "error_type", "message", "outcome", "attempts",
    "duration_seconds", "fingerprint", "function", "file", "line", "context", "stacktrace",
)  # fmt: skip
CSV_LIMIT, EXCEL_LIMIT = 131_072, 32_767  # characters in a field: as many as `csv` reads, and as Excel shows
_NO_SUCH_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM)
_RISKY = re.compile(  # at the start of a cell, wherever a spreadsheet may split one; the full-width forms run, too
    "(?=[=+\\-@\\t\\r\\n\\0'＝＋－＠])(?:\\A|(?<=[;\\t\\n])|(?<=\\r)(?!\\n))|(?=[\"＂])(?<=[;\\t\\n\\r])"  # noqa: RUF001 - they are meant
)


def to_json(documents: Iterable[dict[str, Any]]) -> str:
    """Return a JSON document of what is beside the records, which is first, and the records. Strict and plain ASCII."""
    head, *errors = documents
    return _dumped({**head, "errors": errors}, indent=2)


def to_jsonl(documents: Iterable[dict[str, Any]]) -> str:
    """Return JSON Lines, a line for each."""
    return "".join(map(_dumped, documents))


def _dumped(document: dict[str, Any], indent: int | None = None) -> str:
    return json.dumps(document, indent=indent, allow_nan=False, default=datetime.datetime.isoformat) + "\n"


def to_csv(records: Iterable[dict[str, Any]], *, excel: bool, fleet: bool) -> str:
    """Return CSV: a header row, then a record a row; all fields quoted, none that a spreadsheet would run.

    `excel` has a byte order mark and at most 32,767 characters a cell; `fleet` has host and pid as the last columns.
    """
    columns = (*COLUMNS, "host", "pid") if fleet else COLUMNS
    out = io.StringIO(newline="")
    out.write("\ufeff" if excel else "")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(columns)
    limit = EXCEL_LIMIT if excel else CSV_LIMIT
    for record in records:
        facts = {**record, "duration_seconds": record["duration"], "context": _context_text(record["context"], limit)}
        writer.writerow([guarded(facts[name])[:limit] for name in columns])
    return out.getvalue()


def guarded(value: object) -> str:
    """Return the field's text, such that no spreadsheet takes it, or a part that it splits off, for a formula.

    What may begin a formula gets one `'` in front at the start and after a separator, and so does `'` itself.
    """
    return _RISKY.sub("'", "" if value is None else str(value))


def _context_text(context: dict[str, Any], limit: int) -> str:
    """Return the context as JSON; if that is too long, only its first values, as many as fit."""
    text = json.dumps(context, allow_nan=False)
    if len(guarded(text)) <= limit:
        return text
    too_many = bisect.bisect_right(
        range(len(text)), limit, key=lambda values: len(guarded(json.dumps(_first_values(context, [values]))))
    )
    return json.dumps(_first_values(context, [too_many - 1]))


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
    """Read back the records that `to_json` or `to_jsonl` wrote.

    Args:
        source: The path of a file, or the text itself.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is not an export of this library, or a field is missing, unknown or impossible.
        OSError: If the file cannot be read.
    """
    check_type("source", source, isinstance(source, (str, Path)), _SOURCES)
    text = source.read_text(encoding="utf-8-sig") if isinstance(source, Path) else source
    try:
        try:
            documents = [parsed(text)]
        except json.JSONDecodeError:
            if text.strip() and not text.lstrip().startswith("{"):
                raise ValueError(f"source must be {_SOURCES}, not {reprlib.repr(text)}") from None
            documents = [parsed(line) for line in text.split("\n") if line.strip()]
    except RecursionError:
        raise ValueError("the text is nested too deeply to be an export") from None
    head = documents[0] if documents else None
    schema = head.get("schema") if isinstance(head, dict) else type(head).__name__
    if not isinstance(head, dict) or schema not in (SCHEMA, FLEET_SCHEMA):
        raise ValueError(f"schema must be {SCHEMA!r} or {FLEET_SCHEMA!r}, not {schema!r}")
    fields = FIELDS if schema == SCHEMA else FLEET_FIELDS
    records = head.get("errors", documents[1:])
    if not isinstance(records, list):
        raise ValueError(f"errors must be a list, not {type(records).__name__}")
    return [from_dict(facts, fields) for facts in records]


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"an export must hold finite numbers only, not {name}")


parsed: Callable[[str], Any] = json.JSONDecoder(parse_constant=_no_number).decode
"""Returns what a JSON text says; `ValueError` if it is none, or holds NaN or an infinity."""


def from_dict(facts: Any, fields: Iterable[str]) -> ErrorRecord:
    """Return the record that these fields of an export describe; `notes`, which 0.1 did not write, may be missing.

    Raises:
        ValueError: If a field is missing, unknown or impossible.
    """
    facts = {"notes": [], **facts} if isinstance(facts, dict) else facts
    wrong = set(fields) ^ set(facts) if isinstance(facts, dict) else {type(facts).__name__}
    if wrong:
        names = ", ".join(sorted(wrong))
        raise ValueError(f"a record must have exactly the fields of ErrorRecord; missing or unknown: {names}")
    check_fields(facts)
    check_text("id", facts["id"])
    moment = datetime.datetime.fromisoformat(facts["timestamp"])
    if moment.tzinfo is None:
        raise ValueError(f"timestamp must have an offset from UTC, not {facts['timestamp']!r}")
    seconds = moment.timestamp()
    try:
        as_datetime(seconds)
    except (ValueError, OverflowError):  # at the very ends of the calendar
        raise ValueError(f"timestamp must be within the years 1 to 9999, not {facts['timestamp']!r}") from None
    known = {
        **facts,
        "category": member_of(ErrorCategory, facts["category"]),
        "severity": member_of(Severity, facts["severity"]),
        "outcome": outcome_of(facts["outcome"]),
        "stack": facts["stacktrace"],
        "group": facts["operation"],
        "attempt_errors": tuple(facts["attempt_errors"]),
        "causes": tuple((line, ()) for line in facts["causes"]),
        "notes": tuple(facts["notes"]),
    }
    kind = Kind(**{name: known[name] for name in Kind._fields})
    details = Details(**{name: known[name] for name in Details._fields})
    return make_record(kind, details, facts["message"], seconds, Origin(facts.get("host"), facts.get("pid")))


_TEXT: tuple[str, Callable[[Any], bool]] = ("a string", lambda value: type(value) is str)
_FORMS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    int: ("a whole number, 0 or more", lambda value: type(value) is int and value >= 0),
    float: ("a finite number, 0 or more", lambda value: type(value) in (int, float) and 0 <= value < 1e308),
    dict[str, Any]: ("an object", lambda value: type(value) is dict),
    tuple[str, ...]: ("a list of strings", lambda value: type(value) is list and all(map(_TEXT[1], value))),
    type(None): ("null", lambda value: value is None),
}


def check_fields(facts: dict[str, Any]) -> None:
    """Check fields of a record by its annotations; enumerations, outcomes and moments are strings in JSON."""
    for name, value in facts.items():
        forms = _forms_of(name)
        if not any(is_right(value) for _, is_right in forms):
            raise ValueError(f"{name} must be {' or '.join(said for said, _ in forms)}, not {reprlib.repr(value)}")


@functools.cache
def _forms_of(name: str) -> list[tuple[str, Callable[[Any], bool]]]:
    annotation = typing.get_type_hints(ErrorRecord)[name]
    wishes = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return [_FORMS.get(wish, _TEXT) for wish in wishes]


def check_suffix(path: str | os.PathLike[str]) -> str:
    """Return the path's suffix.

    Raises:
        ValueError: If it is none of the three.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".json", ".jsonl", ".csv"):
        raise ValueError(f"path must end in .json, .jsonl or .csv, not {os.fspath(path)!r}")
    return suffix


def write_file(path: str | os.PathLike[str], text: str) -> None:
    """Write the text to the file, all or nothing: beside it, to the disk, then over it; readable by its owner only.

    A symbolic link is replaced, not followed. Whatever goes wrong, an old file stays whole, and nothing is left over.
    """
    target = Path(path)
    beside = target.with_name(f".{target.name[:50]}.{secrets.token_hex(8)}.tmp")
    try:
        if not _write_nameless(beside, text):
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                _write(file, text)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        try:
            folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)  # so that the new name, too, outlives a crash
            finally:
                os.close(folder)
        except OSError as error:  # a network share, or a folder that may not be listed: the file itself is there
            if error.errno not in _NO_SUCH_SYNC:
                raise


def _write_nameless(path: Path, text: str) -> bool:
    """Write a file that gets its name only when it is on the disk; tell whether that can be done here.

    Until then it goes with the process, should that crash.
    """
    try:
        handle = os.open(path.parent, os.O_WRONLY | os.O_TMPFILE, 0o600)
    except (AttributeError, OSError):  # neither every system nor every file system knows such files
        return False
    with os.fdopen(handle, "wb") as file:
        _write(file, text)
        try:
            os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle)  # given a descriptor, it follows the link
        except OSError:  # there is no /proc
            return False
    return True


def _write(file: BinaryIO, text: str) -> None:
    file.write(text.encode())
    file.flush()
    os.fsync(file.fileno())
