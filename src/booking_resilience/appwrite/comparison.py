"""Whether a stored row holds what was sent, as far as that can be told."""

from __future__ import annotations

import datetime
import email.utils
import enum
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from booking_resilience.appwrite.rows import Row

# How the server writes every moment that it stores: milliseconds, and always UTC.
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
_EPOCH: Final = re.compile(r"@(-?\d{1,15}(?:\.\d+)?)")
_RFC_2822: Final = re.compile(
    r"(?:\w{3}, ?)?\d{1,2} \w{3} \d{4} \d\d:\d\d(?::\d\d)? (?:[+-]\d{4}|UTC?|GMT|Z)", re.IGNORECASE
)
_UTC: Final = re.compile(r" ?(?:UTC|GMT|Z)$", re.IGNORECASE)
_NOTHING: Final[tuple[Any, ...]] = (None, [])  # no value; an array column without one is an empty array


MOMENTS: Final = ("$createdAt", "$updatedAt")
"""The moments that the system keeps of a row, by their names on the wire."""


def is_compared(name: object, moments: Collection[str]) -> bool:
    """Tell whether `holds` compares a column of that name: of the system's only those moments."""
    return str(name)[:1] != "$" or name in moments


def holds(row: Row, sent: Mapping[str, Any], moments: Collection[str] = MOMENTS[:1]) -> bool | None:
    """Tell whether a stored row has all that was sent, as the server would have normalised it.

    Equal moments in another notation are equal, cut to milliseconds; so are 3 and 3.0, null and an absent column, and
    the ID of a related row and that row. Permissions are not compared. A column that can't be compared is passed over:
    a related row that the answer left out, or a date in a form that only the server reads.

    Args:
        row: The row.
        sent: What was sent.
        moments: Those of the system's columns that are compared, too.

    Returns:
        False if a column has another value; None, "cannot say", if no column can be compared.
    """
    kept = zip(MOMENTS, (row.created_at, row.updated_at), strict=True)
    stored = {**row.data, **{name: moment and moment.isoformat(timespec="milliseconds") for name, moment in kept}}
    told = [_agrees(stored, name, value) for name, value in sent.items() if is_compared(name, moments)]
    if False in told:
        return False
    return True if True in told or not sent else None


def _agrees(stored: Mapping[str, Any], name: str, value: Any) -> bool | None:
    if name not in stored and _may_name_rows(value):
        return None  # the server leaves out related rows that nobody selected
    return _is_same(value, stored.get(name))


def _may_name_rows(value: Any) -> bool:
    """Tell whether the value may stand for related rows: an ID, a row, or several of them."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_may_name_rows, value))
    return isinstance(value, (str, Mapping)) and bool(value)


def _is_same(sent: Any, stored: Any) -> bool | None:
    if isinstance(sent, enum.Enum):
        sent = sent.value
    if isinstance(sent, datetime.datetime) and sent.tzinfo is not None:
        sent = sent.isoformat()
    if sent is None or stored is None:
        return sent in _NOTHING and stored in _NOTHING
    if isinstance(sent, bool) or isinstance(stored, bool):
        return sent is stored
    if isinstance(sent, str) and isinstance(stored, str):
        return str(sent) == stored or _is_same_moment(sent, stored)
    if isinstance(sent, Mapping) or isinstance(stored, Mapping):
        return _is_same_related(sent, stored)
    if isinstance(sent, (list, tuple)) and isinstance(stored, list):
        return _are_same(sent, stored)
    if isinstance(sent, int) and isinstance(stored, float):
        return float(int.__repr__(sent)) == stored  # rounded as the server rounds; too large a number becomes infinite
    return bool(sent == stored)


def _is_same_related(sent: Any, stored: Any) -> bool | None:
    """Compare a related row, each side of which is the row or its ID."""
    if isinstance(sent, Mapping) and isinstance(stored, Mapping):
        return _all_of([_agrees(stored, name, value) for name, value in sent.items()])
    row, other = (sent, stored) if isinstance(sent, Mapping) else (stored, sent)
    if not isinstance(other, str):
        return False
    return bool(row["$id"] == other) if "$id" in row else None


def _are_same(sent: Collection[Any], stored: Collection[Any]) -> bool | None:
    if len(sent) != len(stored):
        return False
    if all(isinstance(item, str) for item in sent) and all(isinstance(item, Mapping) for item in stored):
        return sorted(sent) == sorted(str(item.get("$id")) for item in stored)  # related rows, in any order
    return _all_of(list(map(_is_same, sent, stored)))


def _all_of(told: Sequence[bool | None]) -> bool | None:
    return False if False in told else None if None in told else True


def _is_same_moment(sent: str, stored: str) -> bool | None:
    """Compare a string with a stored moment; None if only the server can read it."""
    if not _MOMENT.fullmatch(stored):
        return False
    moment = _moment_in(sent)
    if moment is None:
        return None
    cut = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return cut == datetime.datetime.fromisoformat(stored)


def _moment_in(text: str) -> datetime.datetime | None:
    """Return the moment that a string names, UTC where it doesn't say; None if it has one of PHP's other forms."""
    text = text.strip()
    if (epoch := _EPOCH.fullmatch(text)) is not None:
        try:
            return datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(seconds=float(epoch[1]))
        except OverflowError:
            return None
    try:
        if _RFC_2822.fullmatch(text):
            moment = email.utils.parsedate_to_datetime(text)
        else:
            moment = datetime.datetime.fromisoformat(_UTC.sub("+00:00", text))
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
