"""Errors as JSON, JSON Lines and CSV. Pure, but for writing the file."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

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
SUFFIXES = (".json", ".jsonl", ".csv")
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
    beside = _written_without_name(target, text) or _written(target, text)
    try:
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # so that the new name, too, outlives a crash
        finally:
            os.close(folder)


def _written_without_name(target: Path, text: str) -> Path | None:
    """Write a file that gets a name beside the target only when it is on the disk; None where that cannot be done.

    Until then it goes with the process, should that crash.
    """
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        handle = os.open(target.parent, os.O_WRONLY | os.O_TMPFILE, 0o600)
    except OSError:  # not every file system knows such files
        return None
    with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
        _write(file, text)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            name = f".{target.name[:100]}.{secrets.token_hex(8)}.tmp"
            source = f"/proc/self/fd/{file.fileno()}"  # given with a folder, the link is followed
            os.link(source, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)
        except OSError:  # there is no /proc
            return None
        finally:
            os.close(folder)
    return target.with_name(name)


def _written(target: Path, text: str) -> Path:
    """Write a file beside the target."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            _write(file, text)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def _write(file: TextIO, text: str) -> None:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
