"""What is kept of an error: a frozen record of plain values. No frame, no exception, no thread is kept with it.

Records share what they have in common (a `Kind`, an `Origin`) and what most of them lack (`Details`); the rest is made
when it is read.
"""

from __future__ import annotations

import copy
import datetime
import enum
import os
import platform
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from booking_resilience.checks import check, check_type
from booking_resilience.errors import LimitExceededError
from booking_resilience.events import AlertEvent, ErrorCategory
from booking_resilience.monitor.redact import Redactor, cut_to
from booking_resilience.monitor.stacks import Frames, Stack, render

Outcome: TypeAlias = Literal["failed", "recovered", "refused", "fell_back"]
OUTCOMES: tuple[Outcome, ...] = typing.get_args(Outcome)


class Severity(enum.StrEnum):
    """How bad an error is."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


COUNTED = (Severity.ERROR, Severity.CRITICAL)  # for the rate


class Kind(NamedTuple):
    """What records have in common whose errors are of one type, came out of one place and were recorded alike.

    `group` is what the group shows as its operation. `stack` is a string in a record that was read back (`Frames`, if
    it came out of a journal).
    """

    category: ErrorCategory
    severity: Severity
    operation: str
    error_type: str
    outcome: Outcome
    fingerprint: str
    function: str | None
    file: str | None
    line: int | None
    stack: Stack | str
    group: str


class Origin(NamedTuple):
    """Where records come from: host and process, what their IDs begin with, and what redacts their source lines."""

    host: str | None = None
    pid: int | None = None
    prefix: str = ""
    redact: Redactor = None


class Details(NamedTuple):
    """What most records lack. `causes` are the texts and stacks of what the error was raised from."""

    context: dict[str, Any] | None = None
    attempts: int = 1
    attempt_errors: tuple[str, ...] = ()
    causes: tuple[tuple[str, Stack | Frames], ...] = ()
    notes: tuple[str, ...] = ()
    duration: float | None = None
    trace_id: str | None = None
    span_id: str | None = None
    message_length: int | None = None
    id: str | None = None


NO_DETAILS = Details()


@dataclass(frozen=True, init=False, eq=False, repr=False)
class ErrorRecord:
    """One error, as it was recorded.

    Attributes:
        id: The record's own ID, 16 hexadecimal digits.
        timestamp: When it was recorded, aware UTC.
        category: What part of the application it belongs to.
        severity: How bad it is.
        operation: What was being done.
        error_type: The exception's type, `module.Name`; builtins bare.
        message: Its text, redacted, 1,024 characters at most.
        message_length: How many characters the original text had.
        stacktrace: The traceback as text, causes first as Python prints them; made when it is read.
        function: The function that raised it, and so on for `file` and `line`; None if it was never raised.
        context: What was known about the operation, redacted; a copy.
        attempts: How many attempts were made, 0 if the call was refused; the successful one of a recovered operation
            counts, too.
        attempt_errors: `type: message` of the failed attempts, the first 4 and the last 12.
        causes: `type: message` and notes of what it was raised from, nearest first; for a group, its leaves. 8 at most.
        notes: The error's notes, redacted, the first 4 and the last 12.
        outcome: `failed`, `recovered` if a later attempt succeeded, `refused` if a breaker or limit allowed no
            attempt, `fell_back` if a fallback took the place of the result.
        fingerprint: The same for errors of one kind, see `ErrorGroup`.
        duration: Seconds that the operation took, if known.
        trace_id: OpenTelemetry's, if a span was active; likewise `span_id`.
        host: The machine's name, and `pid` the process's ID; None if an export lacks them. Not in `to_dict()`.
    """

    __slots__ = ("_details", "_kind", "_moment", "_number", "_origin", "message")
    if TYPE_CHECKING:  # slots, but no fields
        _details: Details
        _kind: Kind
        _origin: Origin
        _moment: float
        _number: int

    id: str
    timestamp: datetime.datetime
    category: ErrorCategory
    severity: Severity
    operation: str
    error_type: str
    message: str
    message_length: int
    stacktrace: str
    function: str | None
    file: str | None
    line: int | None
    context: dict[str, Any]
    attempts: int
    attempt_errors: tuple[str, ...]
    causes: tuple[str, ...]
    notes: tuple[str, ...]
    outcome: Outcome
    fingerprint: str
    duration: float | None
    trace_id: str | None
    span_id: str | None
    host: str | None
    pid: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it: field names, and plain values."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in FIELDS}
        for name, value in facts.items():
            if isinstance(value, tuple):
                facts[name] = list(value)
        facts["timestamp"] = self.timestamp.isoformat()
        facts["category"], facts["severity"] = self.category.value, self.severity.value
        return facts

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, ErrorRecord) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<ErrorRecord {self.id} {self.severity.value}: {self.operation!r}: {self.error_type}: {self.message!r}>"

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        kind = self._kind._replace(stack=self.stacktrace)  # code cannot be pickled
        causes = tuple((line, ()) for line in self.causes)
        details = self._details._replace(causes=causes, id=self.id)
        return make_record, (kind, details, self.message, self._moment, self._origin._replace(redact=None))


FIELDS = tuple(field.name for field in fields(ErrorRecord) if field.name not in ("host", "pid"))
FLEET_FIELDS = (*FIELDS, "host", "pid")
set_number: Callable[[ErrorRecord, int], None]
_set_details, _set_kind, _set_moment, set_number, _set_origin, _set_message = (
    vars(ErrorRecord)[name].__set__ for name in ErrorRecord.__slots__
)


def make_record(kind: Kind, details: Details, message: str, moment: float, origin: Origin) -> ErrorRecord:
    """Return a record, made past what keeps it frozen; `set_number` gives it a number, if it is to be kept.

    The moment is in seconds since 1970.
    """
    record = object.__new__(ErrorRecord)
    _set_kind(record, kind)
    _set_details(record, details)
    _set_message(record, message)
    _set_moment(record, moment)
    _set_origin(record, origin)
    return record


def this_process() -> tuple[str | None, int]:
    """Return the machine's name and this process's ID."""
    return cut_to(platform.node(), 256) or None, os.getpid()


def member_of(kind: Any, value: Any) -> Any:
    """Return the member of an enumeration, given as itself or as its value.

    Raises:
        TypeError: If it isn't even a string.
        ValueError: If there is none; it names the setting and what is allowed.
    """
    if type(value) is kind:
        return value
    name, known = kind.__name__.removeprefix("Error").lower(), [each.value for each in kind]
    allowed = f"one of {', '.join(map(repr, known))}"
    check_type(name, value, isinstance(value, str), allowed)
    check(name, value, value in known, allowed)
    return kind(value)


def outcome_of(value: Any) -> Outcome:
    """Return an outcome exactly, though it may be given as a string of another type; `ValueError` if it is none."""
    check("outcome", value, value in OUTCOMES, f"one of {', '.join(map(repr, OUTCOMES))}")
    return OUTCOMES[OUTCOMES.index(value)]


def is_mild(error_type: type, outcome: Outcome) -> bool:
    """Tell whether a warning is enough: the operation did not fail, or it met a limit."""
    met_limit = outcome == "refused" and issubclass(error_type, LimitExceededError)
    return met_limit or outcome in ("recovered", "fell_back")


def as_datetime(moment: float) -> datetime.datetime:
    """Return a moment, in seconds since 1970, as an aware datetime."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC)


def _stacktrace(record: Any) -> str:
    kind = record._kind
    if isinstance(kind.stack, str) and not isinstance(kind.stack, Frames):
        return kind.stack
    line = f"{record.error_type}: {record.message}" if record.message else record.error_type
    return render([(line, kind.stack), *record._details.causes], record._origin.redact)


_HOMES = (("_kind", Kind._fields), ("_origin", Origin._fields), ("_details", Details._fields))
_READERS: dict[str, Any] = {
    **{name: attrgetter(f"{home}.{name}") for home, names in _HOMES for name in names},
    "id": lambda record: record._details.id or f"{record._origin.prefix}{record._number:08x}",
    "timestamp": lambda record: as_datetime(record._moment),
    "message_length": lambda record: record._details.message_length or len(record.message),
    "stacktrace": _stacktrace,
    "context": lambda record: copy.deepcopy(record._details.context or {}),  # so that nobody changes a record
    "causes": lambda record: tuple(line for line, _ in record._details.causes),
}
for _name in FLEET_FIELDS:
    if _name != "message":
        setattr(ErrorRecord, _name, property(_READERS[_name]))


@dataclass(frozen=True, slots=True)
class ErrorStats:
    """The monitor's numbers since it was made or cleared, as of one moment.

    Attributes:
        total: Records made: failed, recovered, refused and fell_back together.
        failed: Operations that failed.
        recovered: Operations that succeeded after a retry.
        refused: Calls that a breaker or a limit refused, so that no attempt was made.
        fell_back: Operations whose result a fallback replaced.
        by_category: `total` by category; all categories are there.
        by_severity: `total` by severity; all severities are there.
        error_rate: Errors and critical errors per minute, over the window.
        alert: The alert as it fires, else None.
        dropped: Records no longer kept.
        unjournaled: Records that were made and not written to a journal, because too many waited.
        groups: How many groups of errors there are.
    """

    total: int
    failed: int
    recovered: int
    refused: int
    fell_back: int
    by_category: dict[ErrorCategory, int]
    by_severity: dict[Severity, int]
    error_rate: float
    alert: AlertEvent | None
    dropped: int
    unjournaled: int
    groups: int


@dataclass(frozen=True, slots=True)
class MonitorSnapshot:
    """All that a dashboard shows, as of one moment; `recent_errors` are the newest 50, `error_rate` is per minute."""

    stats: ErrorStats
    recent_errors: list[ErrorRecord]
    error_rate: float
    alerting: bool
