"""Rows as values, whatever the SDK makes of them, and whether a stored row holds what was sent."""

from __future__ import annotations

import datetime
import enum
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appwrite.query import Query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# How the server writes every moment that it stores: milliseconds, and always UTC.
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
_Q: Final[Any] = Query  # the SDK has no annotations
_NOTHING: Final[tuple[Any, ...]] = (None, [])  # no value; an array column without one is an empty array


@dataclass(frozen=True, slots=True)
class Row:
    """A stored row (or document).

    Attributes:
        id: Its ID.
        data: Its columns, without those of the system.
        created_at: When it was stored, aware UTC; None if the answer did not say.
        sequence: Its place in the order of storing, as the server writes it; None if the answer did not say.
    """

    id: str
    data: Mapping[str, Any]
    created_at: datetime.datetime | None = None
    sequence: str | None = None


def row_of(answer: Any) -> Row:
    """Return a row from what a service of the SDK returned: a model, or a dict as the wire has it.

    Raises:
        AttributeError, KeyError, TypeError or ValueError: If it is neither.
    """
    if isinstance(answer, Mapping):
        data = {name: value for name, value in answer.items() if not name.startswith("$")}
        row_id, created, sequence = answer["$id"], answer.get("$createdAt"), answer.get("$sequence")
    else:
        row_id, data, created, sequence = answer.id, dict(answer.data), answer.createdat, answer.sequence
    if isinstance(sequence, float):  # the models of SDK 16
        sequence = int(sequence)
    moment = datetime.datetime.fromisoformat(created) if created else None
    return Row(str(row_id), data, moment, None if sequence in (None, "") else str(sequence))


def holds(row: Row, sent: Mapping[str, Any]) -> bool:
    """Tell whether a stored row has all that was sent, as the server would have normalised it.

    Equal moments in another notation are equal, cut to milliseconds; so are 3 and 3.0, and null and an absent column.
    Permissions are not compared.
    """
    return all(_agrees(row, name, value) for name, value in sent.items())


def _agrees(row: Row, name: str, value: Any) -> bool:
    if name.startswith("$"):
        created = row.created_at.isoformat(timespec="milliseconds") if row.created_at else None
        return name != "$createdAt" or _is_same(value, created)
    if name == "data" and name not in row.data:
        return True  # the SDK's models from 17 on hide a column of this name: nothing can be said of it
    return _is_same(value, row.data.get(name))


def _is_same(sent: Any, stored: Any) -> bool:
    if isinstance(sent, enum.Enum):
        sent = sent.value
    if sent is None or stored is None or sent == []:
        return sent in _NOTHING and stored in _NOTHING
    if isinstance(sent, bool) or isinstance(stored, bool):
        return sent is stored
    if isinstance(sent, str) and isinstance(stored, str):
        return str(sent) == stored or _is_same_moment(sent, stored)
    if isinstance(sent, (list, tuple)):
        return isinstance(stored, list) and len(sent) == len(stored) and all(map(_is_same, sent, stored))
    if isinstance(sent, Mapping):
        return isinstance(stored, Mapping) and all(_is_same(value, stored.get(key)) for key, value in sent.items())
    return bool(sent == stored)


def _is_same_moment(sent: str, stored: str) -> bool:
    if not _MOMENT.fullmatch(stored):
        return False
    try:
        moment = datetime.datetime.fromisoformat(sent)
    except ValueError:
        return False
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    cut = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return cut == datetime.datetime.fromisoformat(stored)


class RowStore:
    """The two calls that are needed of `TablesDB`, or of the older `Databases`, in one vocabulary.

    Args:
        tables: The service.

    Raises:
        TypeError: If it is neither.
    """

    def __init__(self, tables: Any) -> None:
        self._is_old = not hasattr(tables, "create_row")
        if self._is_old and not hasattr(tables, "create_document"):
            raise TypeError(f"tables must be the SDK's TablesDB or Databases, not {tables!r}")
        self._create = _method(tables, "create_document" if self._is_old else "create_row")
        self._list = _method(tables, "list_documents" if self._is_old else "list_rows")

    def create(
        self, database_id: str, table_id: str, row_id: str, data: Mapping[str, Any], permissions: Sequence[str] | None
    ) -> Row:
        """Create a row, with one request."""
        allowed = None if permissions is None else list(permissions)
        return row_of(self._create(database_id, table_id, row_id, dict(data), allowed))

    def list(self, database_id: str, table_id: str, queries: Sequence[str]) -> tuple[Row, ...]:
        """Return the rows that the queries ask for, without counting how many there are."""
        # A text, since the clients of SDKs up to 19 or so send False as "False", which the server refuses.
        answer = self._list(database_id, table_id, [*queries], total="false")
        name = "documents" if self._is_old else "rows"
        rows = answer[name] if isinstance(answer, Mapping) else getattr(answer, name)
        return tuple(row_of(row) for row in rows)

    def find(self, database_id: str, table_id: str, row_id: str) -> Row | None:
        """Return the row of exactly this ID, None if there is none.

        By a query: what a GET of the ID says may come from a cache, which also remembers that there was nothing. The
        server compares IDs without regard to case; here a row whose ID differs in case is another one.
        """
        rows = self.list(database_id, table_id, [_Q.equal("$id", [row_id]), _Q.limit(1)])
        return next((row for row in rows if row.id == row_id), None)


def _method(service: Any, name: str) -> Callable[..., Any]:
    """Return a method of a service; of a deprecated one, what it wraps.

    The SDK's decorator changes the warning filters of the whole process at each call.
    """
    method: Callable[..., Any] = getattr(service, name)
    decorator = getattr(getattr(method, "__func__", None), "__globals__", {}).get("__name__")
    if decorator == "appwrite.utils.deprecated" and (wrapped := getattr(method, "__wrapped__", None)) is not None:
        return functools.partial(wrapped, service)
    return method
