"""Which records the page shows: the filters of a request's query."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from booking_resilience.events import ErrorCategory
from booking_resilience.monitor import ErrorRecord, Severity
from booking_resilience.monitor.record import OUTCOMES

_LONGEST = 500
_EXACT = ("category", "severity", "operation", "outcome", "process")
_KNOWN: dict[str, list[str]] = {"category": [*ErrorCategory], "severity": [*Severity], "outcome": [*OUTCOMES]}


class Filter(NamedTuple):
    """What a record must be like; what is empty or None lets everything through.

    Attributes:
        exact: Names of `_EXACT`, with the value that a record must have.
        since: The earliest moment.
        until: The latest moment.
        text: What must stand in its operation, error, causes, notes, attempts or context, case-folded; or the ID of
            the record or trace.
    """

    exact: tuple[tuple[str, str], ...] = ()
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    text: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether it lets everything through."""
        return self == Filter()

    def accepts(self, record: Any) -> bool:
        """Tell whether the record passes."""
        for name, value in self.exact:
            if value != (process_of(record) if name == "process" else getattr(record, name)):
                return False
        if self.since is not None and record.timestamp < self.since:
            return False
        if self.until is not None and record.timestamp > self.until:
            return False
        return not self.text or self.text in (record.id, record.trace_id) or self.text in _text_of(record)


def parse_filter(query: Mapping[str, str], now: datetime.datetime) -> Filter:
    """Return the filter of a query: `last` is seconds before now, `since` and `until` are ISO moments with offset.

    Raises:
        ValueError: If a value is unknown or unreadable.
    """
    given = {name: value[:_LONGEST] for name, value in query.items() if value}
    for name, known in _KNOWN.items():
        if name in given and given[name] not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}")
    since = _moment("since", given.get("since"))
    if "last" in given:
        since = now - datetime.timedelta(seconds=_seconds(given["last"]))
    exact = tuple((name, given[name]) for name in _EXACT if name in given)
    return Filter(
        exact, since, _moment("until", given.get("until")), " ".join(given.get("text", "").casefold().split())
    )


def process_of(record: Any) -> str | None:
    """Return the host and process ID of a record, or None where it has none."""
    host, pid = getattr(record, "host", None), getattr(record, "pid", None)
    return None if host is None or pid is None else f"{host} {pid}"


def _text_of(record: ErrorRecord) -> str:
    context = json.dumps(record.context, ensure_ascii=False, default=str)
    parts = (record.operation, record.error_type, record.message, context)
    return "\n".join((*parts, *record.causes, *record.notes, *record.attempt_errors)).casefold()


def _moment(name: str, value: str | None) -> datetime.datetime | None:
    if value is None:
        return None
    try:
        found = datetime.datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{name} must be an ISO moment") from None
    if found.tzinfo is None:
        raise ValueError(f"{name} must have a UTC offset")
    return found


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 1e9:
        raise ValueError("last must be a number of seconds")
    return seconds
