"""What is kept of an error: a frozen record of plain values. No frame, no exception, no thread is kept with it."""

from __future__ import annotations

import datetime
import enum
import linecache
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from booking_resilience.monitor.redact import DEFAULT_REDACTION, clean_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType, TracebackType

Outcome: TypeAlias = Literal["failed", "recovered"]


class ErrorCategory(enum.StrEnum):
    """What part of the application an error belongs to."""

    BOOKING = "booking"
    CHAT = "chat"
    PAYMENT = "payment"
    APPWRITE = "appwrite"
    NETWORK = "network"


class Severity(enum.StrEnum):
    """How bad an error is."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


Position: TypeAlias = "tuple[CodeType, int]"
Stack: TypeAlias = "tuple[tuple[str, tuple[Position, ...]], ...]"
"""The error and its causes, each with its line of text and the positions its traceback went through."""

_FIRST_FRAMES, _LAST_FRAMES = 16, 48


@dataclass(frozen=True, slots=True, eq=False)
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
        function: The function that raised it, and so on for `file` and `line`; None if it was never raised.
        context: What was known about the operation, redacted.
        attempts: How many attempts were made; of a recovered operation the successful one counts, too.
        attempt_errors: `type: message` of the failed attempts, the first 4 and the last 12.
        causes: `type: message` of what it was raised from, nearest first.
        outcome: `failed`, or `recovered` if a later attempt succeeded.
        fingerprint: The same for errors of one kind, see `ErrorGroup`.
        duration: Seconds that the operation took, if known.
        trace_id: OpenTelemetry's, if a span was active.
        span_id: As `trace_id`.
    """

    id: str
    timestamp: datetime.datetime
    category: ErrorCategory
    severity: Severity
    operation: str
    error_type: str
    message: str
    message_length: int
    function: str | None
    file: str | None
    line: int | None
    context: Mapping[str, Any]
    attempts: int
    attempt_errors: tuple[str, ...]
    causes: tuple[str, ...]
    outcome: Outcome
    fingerprint: str
    duration: float | None
    trace_id: str | None
    span_id: str | None
    stack: Stack | str

    @property
    def stacktrace(self) -> str:
        """The traceback as text, causes first as Python prints them; made when it is read."""
        return self.stack if isinstance(self.stack, str) else render(self.stack)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it: field names, and plain values."""
        facts: dict[str, Any] = {name: getattr(self, name) for name in FIELDS}
        facts["timestamp"] = self.timestamp.isoformat()
        facts["category"], facts["severity"] = self.category.value, self.severity.value
        facts["context"] = dict(self.context)
        facts["attempt_errors"], facts["causes"] = list(self.attempt_errors), list(self.causes)
        return facts

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, ErrorRecord) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)


FIELDS = tuple("stacktrace" if field.name == "stack" else field.name for field in fields(ErrorRecord))


def from_dict(facts: Any) -> ErrorRecord:
    """Return the record that `to_dict` made this of.

    Raises:
        ValueError: If a field is missing, unknown, or cannot be what it says.
    """
    if not isinstance(facts, dict) or set(facts) != set(FIELDS):
        wrong = sorted(set(FIELDS) ^ set(facts)) if isinstance(facts, dict) else [type(facts).__name__]
        raise ValueError(
            f"a record must have exactly the fields of ErrorRecord; missing or unknown: {', '.join(wrong)}"
        )
    values = dict(facts)
    values["stack"] = values.pop("stacktrace")
    values["timestamp"] = datetime.datetime.fromisoformat(values["timestamp"])
    values["category"], values["severity"] = ErrorCategory(values["category"]), Severity(values["severity"])
    values["attempt_errors"], values["causes"] = tuple(values["attempt_errors"]), tuple(values["causes"])
    if values["outcome"] not in ("failed", "recovered"):
        raise ValueError(f"outcome must be 'failed' or 'recovered', not {values['outcome']!r}")
    return ErrorRecord(**values)


def positions_of(tb: TracebackType | None) -> tuple[Position, ...]:
    """Return the code and line of each frame, outermost first; of very many, the first and the last."""
    positions = []
    while tb is not None:
        positions.append((tb.tb_frame.f_code, tb.tb_lineno))
        tb = tb.tb_next
    if len(positions) > _FIRST_FRAMES + _LAST_FRAMES:
        del positions[_FIRST_FRAMES:-_LAST_FRAMES]
    return tuple(positions)


def render(stack: Stack) -> str:
    """Return the text of a stack, much as Python prints it; source lines are read now."""
    sections = []
    for text, positions in reversed(stack):
        lines = ["Traceback (most recent call last):"] if positions else []
        for code, line in positions:
            lines.append(f'  File "{code.co_filename}", line {line}, in {code.co_qualname}')
            if source := linecache.getline(code.co_filename, line).strip():
                lines.append(f"    {clean_text(source, DEFAULT_REDACTION)}")
        sections.append("\n".join([*lines, text]))
    return "\n\nand from that\n\n".join(sections)
