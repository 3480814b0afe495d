"""Errors as JSON, JSON Lines and CSV, and back. Pure, but for writing the file."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from booking_resilience.monitor.record import ErrorRecord, from_dict

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = "booking-resilience/errors/1"
COLUMNS = (
    "id", "timestamp", "category", "severity", "operation", "error_type", "message", "outcome", "attempts",
    "duration_seconds", "fingerprint", "function", "file", "line", "context", "stacktrace",
)  # fmt: skip
SUFFIXES = (".json", ".jsonl", ".csv")
_RISKY = tuple("=+-@\t\r\n\0'＝＋－＠")  # noqa: RUF001 - the full-width forms run as formulas, too


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
        documents = [json.loads(text)]
    except json.JSONDecodeError:
        documents = [json.loads(line) for line in text.splitlines()]
    head = documents[0] if documents else None
    if not isinstance(head, dict) or head.get("schema") != SCHEMA:
        found = head.get("schema") if isinstance(head, dict) else type(head).__name__
        raise ValueError(f"schema must be {SCHEMA!r}, not {found!r}")
    return [from_dict(facts) for facts in head.get("errors", documents[1:])]


def check_suffix(path: str | os.PathLike[str]) -> str:
    """Return the path's suffix.

    Raises:
        ValueError: If it is none of the three.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"path must end in .json, .jsonl or .csv, not {os.fspath(path)!r}")
    return suffix


def write_file(path: str | os.PathLike[str], text: str) -> None:
    """Write the text to the file, all or nothing: beside it, to the disk, then over it; readable by its owner only.

    A symbolic link is replaced, not followed. Whatever goes wrong, an old file stays whole, and nothing is left over.
    """
    target = Path(path)
    handle, beside = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(target)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # so that the new name, too, outlives a crash
        finally:
            os.close(folder)
