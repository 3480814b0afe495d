"""Making a record of an error: what is read off it, redacted, and cut to size. Cheap, since the caller waits."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import sys
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from booking_resilience.monitor.record import ErrorCategory, ErrorRecord, Severity, positions_of
from booking_resilience.monitor.redact import CYCLE, ContextCopy, clean_text, text_of

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator, Mapping

    from booking_resilience.events import FailedAttempt
    from booking_resilience.monitor.record import Outcome, Position
    from booking_resilience.monitor.redact import Redactor

_CAUSES = 8
_FIRST_ATTEMPTS, _LAST_ATTEMPTS = 4, 12
_INTERNED = 2048
_NO_CONTEXT: Mapping[str, Any] = MappingProxyType({})


class RecordBuilder:
    """Makes records; what many of them have in common is kept once, in tables of bounded size.

    Args:
        redact: What takes the secrets out.
    """

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self._prefix = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self._stacks: dict[tuple[Position, ...], tuple[Position, ...]] = {}
        self._fingerprints: dict[tuple[Any, ...], str] = {}
        self._busy = threading.local()

    def build(
        self,
        error: BaseException,
        *,
        operation: str,
        category: ErrorCategory,
        severity: Severity,
        context: Mapping[str, Any] | None,
        attempts: int | tuple[FailedAttempt, ...] | None,
        outcome: Outcome,
        timestamp: datetime.datetime,
    ) -> ErrorRecord:
        """Return the record of an error."""
        depth = getattr(self._busy, "depth", 0)
        self._busy.depth = depth + 1
        try:
            # A text that is made by recording another error, and so on, ends here.
            text = text_of(error) if depth < 3 else CYCLE
            chain = list(_chain(error))
            sections = tuple((self._line(link, text if link is error else None), self._stack(link)) for link in chain)
            number, errors, duration = self._attempts(attempts)
            copied = ContextCopy(self._redact).of(context) if context else _NO_CONTEXT
        finally:
            self._busy.depth = depth
        name, stack = type_name(error), sections[0][1]
        operation = clean_text(operation, self._redact, "operation", 256)
        code, line = stack[-1] if stack else (None, None)
        trace_id, span_id = _active_span()
        return ErrorRecord(
            f"{self._prefix}{next(self._numbers):08x}",
            timestamp,
            category,
            severity,
            operation,
            name,
            clean_text(text, self._redact),
            len(text),
            None if code is None else code.co_qualname,
            None if code is None else code.co_filename,
            line,
            copied,
            number,
            errors,
            tuple(line for line, _ in sections[1:]),
            outcome,
            self._fingerprint(category, operation, name, type_name(chain[-1]), stack),
            duration,
            trace_id,
            span_id,
            sections,
        )

    def _line(self, error: BaseException, text: str | None = None) -> str:
        """Return `type: message`, redacted."""
        message = clean_text(text_of(error) if text is None else text, self._redact)
        return f"{type_name(error)}: {message}" if message else type_name(error)

    def _stack(self, error: BaseException) -> tuple[Position, ...]:
        stack = positions_of(error.__traceback__)
        if len(self._stacks) >= _INTERNED:
            self._stacks.clear()
        return self._stacks.setdefault(stack, stack)

    def _attempts(self, attempts: int | tuple[FailedAttempt, ...] | None) -> tuple[int, tuple[str, ...], float | None]:
        if not attempts:
            return 1, (), None
        if isinstance(attempts, int):
            return attempts, (), None
        shown = attempts
        if len(attempts) > _FIRST_ATTEMPTS + _LAST_ATTEMPTS:
            shown = (*attempts[:_FIRST_ATTEMPTS], *attempts[-_LAST_ATTEMPTS:])
        return len(attempts), tuple(self._line(item.error) for item in shown), attempts[-1].elapsed

    def _fingerprint(
        self, category: ErrorCategory, operation: str, name: str, root: str, stack: tuple[Position, ...]
    ) -> str:
        key = (category, operation, name, root, stack[-3:])
        found = self._fingerprints.get(key)
        if found is None:
            places = [f"{code.co_filename}:{code.co_qualname}" for code, _ in stack[-3:]]
            facts = "\0".join([category, operation, name, root, *places]).encode("utf-8", "backslashreplace")
            found = hashlib.blake2b(facts, digest_size=8).hexdigest()
            if len(self._fingerprints) >= _INTERNED:
                self._fingerprints.clear()
            self._fingerprints[key] = found
        return found


def type_name(error: BaseException) -> str:
    """Return the name of the error's type, with its module unless it is a builtin."""
    kind = type(error)
    try:
        return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    except Exception:  # noqa: BLE001 - a metaclass may do anything
        return "<type() failed>"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it was raised from or during, nearest first, each once, a few at most."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) <= _CAUSES:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _active_span() -> tuple[str | None, str | None]:
    """Return OpenTelemetry's trace and span IDs, if its API is in use and a span is active."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None, None
    try:
        span = trace.get_current_span().get_span_context()
        return (f"{span.trace_id:032x}", f"{span.span_id:016x}") if span.is_valid else (None, None)
    except Exception:  # noqa: BLE001 - telemetry must not hurt
        return None, None
