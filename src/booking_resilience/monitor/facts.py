"""What is read off an error, whatever its class has put in the way, and off the world around it."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any, cast

from booking_resilience.monitor.redact import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from booking_resilience.monitor.stacks import Stack

_CAUSES = 8
_TOP_FRAMES = 3


def _reader(name: str) -> Any:
    """Return what reads an attribute of any exception, whatever its class has put in the way."""
    return vars(BaseException)[name].__get__


traceback_of: Callable[[BaseException], Any] = _reader("__traceback__")
_cause_of, _context_of, _suppressed_in = map(_reader, ("__cause__", "__context__", "__suppress_context__"))
_READ = ("__traceback__", "__cause__", "__context__", "__suppress_context__", "args", "__getattribute__")


class TypeFacts:
    """An exception type: its name, and whether attributes and text of its errors can be read off them plainly."""

    __slots__ = ("is_plain", "name", "text_is_argument", "text_is_own")

    def __init__(self, kind: type) -> None:
        self.name: str = type_name(kind)
        self.is_plain: bool = type(kind) is type and all(
            type.__getattribute__(kind, name) is getattr(BaseException, name) for name in _READ
        )
        text = type.__getattribute__(kind, "__str__") if self.is_plain else None
        self.text_is_argument: bool = text is BaseException.__str__
        self.text_is_own: bool = text is OSError.__str__


def type_name(kind: type) -> str:
    """Return the name of a type, with its module unless it is a builtin; a metaclass is not asked."""
    name = vars(type)["__qualname__"].__get__(kind)
    try:
        module = vars(type)["__module__"].__get__(kind)
    except AttributeError:  # taken away
        module = "?"
    module = str.__str__(module) if isinstance(module, str) else "?"
    full = name if module == "builtins" else f"{module}.{name}"
    return clean_text(full, None, length=256)


def next_link(error: BaseException) -> BaseException | None:
    """Return what an error was raised from, or during; None if neither, or if it is hidden."""
    cause = _cause_of(error)
    if cause is None and not _suppressed_in(error):
        cause = _context_of(error)
    return cast("BaseException | None", cause)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it was raised from or during, nearest first, each once, a few at most."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(seen) <= _CAUSES:
        seen.add(id(link))
        yield link
        link = next_link(link)


def fingerprint(category: str, operation: str, name: str, root: str, stack: Stack) -> str:
    """Return what errors of one kind have in common, as 16 hexadecimal digits; the line is no part of it."""
    places = [f"{module}:{code.co_qualname}" for code, _, module in stack[-_TOP_FRAMES:]]
    facts = "\0".join([category, operation, name, root, *places]).encode("utf-8", "backslashreplace")
    return hashlib.blake2b(facts, digest_size=8).hexdigest()


def active_span() -> tuple[str | None, str | None]:
    """Return OpenTelemetry's trace and span IDs, if its API is in use and a span is active."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None, None
    try:
        span = trace.get_current_span().get_span_context()
        return (f"{span.trace_id:032x}", f"{span.span_id:016x}") if span.is_valid else (None, None)
    except Exception:  # noqa: BLE001 - telemetry must not hurt
        return None, None
