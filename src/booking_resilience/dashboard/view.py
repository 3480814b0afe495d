"""What the page shows: made from a monitor, the breakers and a filter. Moments and states are yet to become JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from booking_resilience.dashboard.filters import Filter, process_of
from booking_resilience.dashboard.frames import own_first
from booking_resilience.dashboard.watched import Watched
from booking_resilience.monitor import DEFAULT_REDACTION, ErrorStats

SPANS = (60, 360, 1440)
"""Minutes that the chart can show."""
_BARS = 60
_GROUPS = 200
_OPERATIONS = 500
_ALL = 1_000_000_000
_MESSAGE = 300
_MADE = 16


class View:
    """The page's state; what takes long is made anew only when there are new records.

    Args:
        monitor: Where the errors come from.
        watched: The breakers.
    """

    def __init__(self, monitor: Any, watched: Watched) -> None:
        self._monitor, self._watched = monitor, watched
        self._made: dict[Any, dict[str, Any]] = {}

    def state(self, wanted: Filter, span: int) -> dict[str, Any]:
        """Return everything on the page but what is unfolded."""
        monitor = self._monitor
        stats, history = monitor.stats(), monitor.history(span)
        numbers = asdict(stats)
        processes = getattr(monitor, "processes", None)  # only a fleet has them
        return {
            "alert": numbers.pop("alert"),
            "stats": numbers,
            "stale_since": getattr(monitor, "stale_since", None),
            "processes": None if processes is None else [asdict(each) for each in processes()],
            "breakers": self._watched.breakers(),
            "limits": self._watched.limits(),
            "chart": _chart(history, self._watched.transitions, span),
            **self._errors(stats, history, wanted),
        }

    def _errors(self, stats: ErrorStats, history: Any, wanted: Filter) -> dict[str, Any]:
        newest = [group.last_seen for group in self._monitor.groups(1)]
        key = (wanted, history.minutes[0], len(history.minutes), stats.total, stats.dropped, *newest)
        found = self._made.get(key)
        if found is None:
            records = self._monitor.recent(_ALL)
            found = {
                "groups": _groups(self._monitor, records, history, wanted),
                "operations": sorted({record.operation for record in records})[:_OPERATIONS],
                "record_processes": sorted({name for name in map(process_of, records) if name is not None}),
                "kept": len(records),
                "filtered": not wanted.is_empty,
            }
            if len(self._made) >= _MADE:
                self._made.clear()
            self._made[key] = found
        return found


def group_record(monitor: Any, fingerprint: str, wanted: Filter, index: int) -> dict[str, Any] | None:
    """Return one of a group's kept records that pass the filter, 0 is the newest; None if there is none."""
    found = [record for record in monitor.recent(_ALL) if record.fingerprint == fingerprint and wanted.accepts(record)]
    if not found:
        return None
    index = min(max(index, 0), len(found) - 1)
    record = found[index]
    facts = record.to_dict()
    facts.update(host=getattr(record, "host", None), pid=getattr(record, "pid", None))
    return {"index": index, "count": len(found), "record": facts, "frames": own_first(record.stacktrace)}


def _chart(history: Any, transitions: Iterable[tuple[Any, Any]], span: int) -> dict[str, Any]:
    """Return the errors per minute, in at most 60 bars, and the marks on them."""
    start, width = history.minutes[0], span // _BARS
    marks = [(each.at, "alert", _alert_text(each)) for each in history.alerts if each.state != "repeat"]
    marks += [(at, "breaker", _transition_text(event)) for at, event in tuple(transitions) if at >= start]
    return {
        "span": span,
        "start": start,
        "minutes_per_bar": width,
        "series": {name: _bars(counts, width) for name, counts in history.by_severity.items()},
        "marks": [{"at": at, "kind": kind, "text": text} for at, kind, text in sorted(marks)],
    }


def _alert_text(each: Any) -> str:
    if each.state == "firing":
        return f"alert firing: {each.rate:g} errors per minute"
    return f"alert resolved; its peak was {each.peak:g} errors per minute"


def _transition_text(event: Any) -> str:
    old, new = (state.value.replace("_", "-") for state in (event.old, event.new))
    return DEFAULT_REDACTION.clean(f"{event.name}: {old} → {new} ({event.reason})")


def _bars(counts: tuple[int, ...], width: int) -> list[float]:
    """Return counts of minutes as means of `width` minutes each."""
    return [round(sum(counts[at : at + width]) / width, 3) for at in range(0, len(counts), width)]


def _groups(monitor: Any, records: list[Any], history: Any, wanted: Filter) -> list[dict[str, Any]]:
    newest: dict[str, Any] = {}
    matching: dict[str, int] = {}
    for record in records:
        newest.setdefault(record.fingerprint, record)
        if wanted.accepts(record):
            matching[record.fingerprint] = matching.get(record.fingerprint, 0) + 1
    rows: list[dict[str, Any]] = []
    for group in monitor.groups(_GROUPS if wanted.is_empty else _ALL):
        if len(rows) == _GROUPS:
            break
        if wanted.is_empty or group.fingerprint in matching:
            counts = history.by_group.get(group.fingerprint)
            last = newest.get(group.fingerprint)
            rows.append(
                {
                    **asdict(group),
                    "matching": matching.get(group.fingerprint, 0),
                    "severity": None if last is None else last.severity,
                    "outcome": None if last is None else last.outcome,
                    "message": None if last is None else last.message[:_MESSAGE],
                    "spark": None if counts is None else _bars(counts, len(history.minutes) // _BARS),
                }
            )
    return rows
