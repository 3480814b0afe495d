"""What each filter finds: SQL's comparisons, with the database's collation for text and without it for arrays."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from booking_resilience.testing.appwrite_server import dates, search
from booking_resilience.testing.appwrite_server.collation import collated, folded, like
from booking_resilience.testing.appwrite_server.dialect import ApiError
from booking_resilience.testing.appwrite_server.queries import LOGICAL, Query
from booking_resilience.testing.appwrite_server.store import Row, Table

SYSTEM = {"$id": "id", "$sequence": "sequence", "$createdAt": "created", "$updatedAt": "updated"}
_MOMENTS = ("$createdAt", "$updatedAt")
Test = Callable[[Any], bool]


def _compares(test: Callable[[Any, Any], bool]) -> Callable[[Sequence[Any]], Test]:
    """Make a test of a value that isn't null; null never fits."""
    return lambda wanted: lambda value: value is not None and test(value, wanted[0])


def _equal(wanted: Sequence[Any]) -> Test:
    among = set(wanted)
    return lambda value: value is not None and value in among


def _between(wanted: Sequence[Any]) -> Test:
    return lambda value: value is not None and wanted[0] <= value <= wanted[1]


def _not_between(wanted: Sequence[Any]) -> Test:
    return lambda value: value is not None and not wanted[0] <= value <= wanted[1]


# Of a value as it compares, and the values of the query likewise.
_COMPARISONS: dict[str, Callable[[Sequence[Any]], Test]] = {
    "equal": _equal,
    "notEqual": _compares(operator.ne),
    "lessThan": _compares(operator.lt),
    "lessThanEqual": _compares(operator.le),
    "greaterThan": _compares(operator.gt),
    "greaterThanEqual": _compares(operator.ge),
    "between": _between,
    "notBetween": _not_between,
}

# Of text that `LIKE` compares.
_LIKES: dict[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith,
    "endsWith": str.endswith,
    "contains": str.__contains__,
    "containsAny": str.__contains__,
}


def _likes(method: str, wanted: Sequence[Any]) -> Test:
    is_not = method.startswith("not")
    test = _LIKES[method[3].lower() + method[4:] if is_not else method]
    texts = [like(_text(item)) for item in wanted]

    def fits(value: Any) -> bool:
        return value is not None and any(test(folded(_text(value)), text) for text in texts) != is_not

    return fits


def _any_pattern(wanted: Sequence[Any]) -> Test:
    """Return what finds text that is like one of some patterns: `containsAll` of text is a `LIKE` as it stands."""
    parts = [[{"%": ".*", "_": "."}.get(sign, re.escape(sign)) for sign in like(value)] for value in wanted]
    pattern = re.compile("|".join("".join(signs) for signs in parts), re.DOTALL)
    return lambda value: value is not None and pattern.fullmatch(folded(value)) is not None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def _json_key(value: Any) -> tuple[str, Any]:
    """Return what an item of an array compares by: JSON tells true from 1, and `x` from `X`."""
    kind = "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    return kind, value


def _overlaps(method: str, wanted: Sequence[Any]) -> Test:
    asked = set(map(_json_key, wanted))

    def fits(value: Any) -> bool:
        if value is None:
            return False
        held = set(map(_json_key, value))
        if method == "containsAll":
            return asked <= held
        return held.isdisjoint(asked) == (method == "notContains")

    return fits


def _searches(method: str, wanted: Sequence[Any]) -> Test:
    finds = search.finder(wanted[0])
    if method == "notSearch":
        return lambda value: value is None or not finds(value)
    return lambda value: value is not None and finds(value)


def _regex(wanted: Sequence[Any]) -> Test:
    """Return what finds text that a pattern is found in; numbers are compared as text, as `REGEXP` does.

    Raises:
        ApiError: If it is no pattern, which the real server's database finds out.
    """
    try:
        pattern = re.compile(_text(wanted[0]), re.IGNORECASE)
    except (re.error, OverflowError, RecursionError):
        raise ApiError(500, "general_unknown", "Server Error") from None
    return lambda value: value is not None and pattern.search(_text(value)) is not None


def test_of(query: Query, table: Table) -> Callable[[Row], bool]:
    """Return what tells whether a row fits a query; what does not change from row to row is made once."""
    if query.method in LOGICAL:
        together: Callable[[Any], bool] = all if query.method == "and" else any
        tests = [test_of(inner, table) for inner in query.values]
        return lambda row: together(test(row) for test in tests)
    name, field = query.attribute, SYSTEM.get(query.attribute)
    fits = _test(query, table)
    if field is not None:
        get = operator.attrgetter(field)
        return lambda row: fits(get(row))
    return lambda row: fits(row.data.get(name))


def _test(query: Query, table: Table) -> Test:
    method, name = query.method, query.attribute
    column = table.columns.get(name)
    if method == "isNull":
        return lambda value: value is None
    if method == "isNotNull":
        return lambda value: value is not None
    if column is not None and column.array:
        return _overlaps(method, [column.kept([value])[0] for value in query.values])
    if method in ("search", "notSearch"):
        return _searches(method, query.values)
    if method == "regex":
        return _regex(query.values)
    if method == "containsAll":
        return _any_pattern(query.values)
    wanted = _stored_values(query, table)
    if method not in _COMPARISONS:
        return _likes(method, wanted)
    test = _COMPARISONS[method]([collated(value) for value in wanted])
    if method != "equal":
        return lambda value: test(collated(value))
    exact = frozenset(wanted)  # by far the most frequent answer, and the cheapest
    return lambda value: value is not None and (value in exact or test(collated(value)))


def _stored_values(query: Query, table: Table) -> list[Any]:
    """Return the values as they would be stored: moments in the server's form."""
    column = table.columns.get(query.attribute)
    if query.attribute == "$sequence":
        return [int(value) for value in query.values]
    if query.attribute in _MOMENTS or (column is not None and column.kind.family == "datetime"):
        return [dates.stored(value) for value in query.values]
    return query.values
