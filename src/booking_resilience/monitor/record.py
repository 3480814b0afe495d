"""What is kept of an error: a frozen record of plain values. No frame, no exception, no thread is kept with it.

A record is small: what it has in common with others (type, place, operation and so on) is in one `Kind` that they
share, and what most of them lack is in one `Details`. The rest is made when it is read.
"""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

from booking_resilience.events import ErrorCategory
from booking_resilience.monitor.stacks import render

if TYPE_CHECKING:
    from booking_resilience.monitor.redact import Redactor
    from booking_resilience.monitor.stacks import Stack
    from booking_resilience.monitor.store import Shelf

Outcome: TypeAlias = Literal["failed", "recovered", "refused", "fell_back"]
OUTCOMES: tuple[Outcome, ...] = ("failed", "recovered", "refused", "fell_back")


class Severity(enum.StrEnum):
    """How bad an error is."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Kind:
    """What records have in common whose errors are of one type, came out of one place and were recorded alike.

    `shelf` is where the store keeps them. `text` is a message that was found harmless, `told` is how operation,
    category, severity and outcome were given: both tend to come again. `stack` is text in what was read back.
    """

    __slots__ = (
        "category", "error_type", "file", "fingerprint", "function", "line", "operation", "outcome", "prefix",
        "redact", "severity", "shelf", "stack", "text", "text_is_argument", "told",
    )  # fmt: skip

    def __init__(
        self,
        *,
        category: ErrorCategory,
        severity: Severity,
        operation: str,
        error_type: str,
        outcome: Outcome,
        fingerprint: str,
        place: tuple[str | None, str | None, int | None],
        stack: Stack | str,
        prefix: str = "",
        redact: Redactor = None,
    ) -> None:
        self.category: ErrorCategory = category
        self.severity: Severity = severity
        self.operation: str = operation
        self.error_type: str = error_type
        self.outcome: Outcome = outcome
        self.fingerprint: str = fingerprint
        self.function: str | None = place[0]
        self.file: str | None = place[1]
        self.line: int | None = place[2]
        self.stack: Stack | str = stack
        self.prefix: str = prefix
        self.redact: Redactor = redact
        self.shelf: Shelf | None = None
        self.text: str = ""
        self.text_is_argument: bool = False
        self.told: tuple[object, object, object, object] | None = None


class Details(NamedTuple):
    """What most records lack. `causes` are the lines of text and stacks of what the error was raised from."""

    context: dict[str, Any] | None = None
    attempts: int = 1
    attempt_errors: tuple[str, ...] = ()
    causes: tuple[tuple[str, Stack], ...] = ()
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
        attempts: How many attempts were made, 0 if refused; of a recovered operation the successful one counts, too.
        attempt_errors: `type: message` of the failed attempts, the first 4 and the last 12.
        causes: `type: message` of what it was raised from, nearest first.
        outcome: `failed`; `recovered` if a later attempt succeeded; `refused` if a breaker or a limit let no attempt be
            made; `fell_back` if something else took the place of the result.
        fingerprint: The same for errors of one kind, see `ErrorGroup`.
        duration: Seconds that the operation took, if known.
        trace_id: OpenTelemetry's, if a span was active.
        span_id: As `trace_id`.
    """

    __slots__ = ("_details", "_kind", "_moment", "_number", "message")
    if TYPE_CHECKING:  # slots, but no fields
        _details: Details
        _kind: Kind
        _moment: float | datetime.datetime
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
    outcome: Outcome
    fingerprint: str
    duration: float | None
    trace_id: str | None
    span_id: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it: field names, and plain values."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in FIELDS}
        facts["timestamp"] = self.timestamp.isoformat()
        facts["category"], facts["severity"] = self.category.value, self.severity.value
        facts["attempt_errors"], facts["causes"] = list(self.attempt_errors), list(self.causes)
        return facts

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, ErrorRecord) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<ErrorRecord {self.id} {self.severity.value}: {self.operation!r}: {self.error_type}: {self.message!r}>"

    def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
        from booking_resilience.monitor.load import from_dict  # below this module

        return from_dict, (self.to_dict(),)


FIELDS = tuple(field.name for field in fields(ErrorRecord))


class Draft:
    """A record while it is made; making it one directly would take five times as long."""

    __slots__ = ErrorRecord.__slots__

    _details: Details
    _kind: Kind
    _moment: float | datetime.datetime
    _number: int
    message: str


def frozen(draft: Draft) -> ErrorRecord:
    """Return the draft, which has become a record."""
    draft.__class__ = ErrorRecord  # type: ignore[assignment] # both have the very same slots
    return cast("ErrorRecord", draft)


def as_datetime(moment: float | datetime.datetime) -> datetime.datetime:
    """Return a moment, which may be seconds since 1970, as an aware datetime."""
    return moment if isinstance(moment, datetime.datetime) else datetime.datetime.fromtimestamp(moment, datetime.UTC)


def number_of(record: ErrorRecord) -> int:
    """Return a record's number, by which they are ordered."""
    return record._number


def _line(record: ErrorRecord) -> str:
    return f"{record.error_type}: {record.message}" if record.message else record.error_type


def _stacktrace(record: Any) -> str:
    kind = record._kind
    if isinstance(kind.stack, str):
        return kind.stack
    return render([(_line(record), kind.stack), *record._details.causes], kind.redact)


def _message_length(record: Any) -> int:
    length = record._details.message_length
    return len(record.message) if length is None else length


def _copied(value: Any) -> Any:
    """Return a copy of a context, all the way down: who changes what he has read changes no record."""
    if type(value) is dict:
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if type(value) is list else value


_READERS: dict[str, Any] = {
    "id": lambda record: record._details.id or f"{record._kind.prefix}{record._number:08x}",
    "timestamp": lambda record: as_datetime(record._moment),
    "message_length": _message_length,
    "stacktrace": _stacktrace,
    "context": lambda record: _copied(record._details.context or {}),
    "causes": lambda record: tuple(line for line, _ in record._details.causes),
}
for _name in FIELDS:
    if _name != "message":
        _home = "_kind" if _name in Kind.__slots__ else "_details"
        setattr(ErrorRecord, _name, property(_READERS.get(_name) or attrgetter(f"{_home}.{_name}")))
