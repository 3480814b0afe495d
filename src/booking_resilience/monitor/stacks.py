"""Read an error's type, causes, stack and span. A stack is kept as code positions, once, and becomes text when read."""

from __future__ import annotations

import hashlib
import linecache
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeAlias

from booking_resilience.monitor.redact import Cleaner, Redactor, cut_to

Position: TypeAlias = tuple[CodeType, int, str, int]
"""Code, line, module, and the offset of the instruction in the code."""
Stack: TypeAlias = tuple[Position, ...]

FIRST_FRAMES, LAST_FRAMES = 16, 48
_STACKS = 512
_PATH = 4096
_CAUSES, _MEMBERS = 8, 1024
_TOP_FRAMES = 3
_OWN = "booking_resilience."


def _reader(owner: type, name: str) -> Any:
    """Return what reads an attribute of any exception, whatever its class has put in the way."""
    return vars(owner)[name].__get__


traceback_of: Callable[[BaseException], Any] = _reader(BaseException, "__traceback__")
attributes_of: Callable[[BaseException], dict[Any, Any]] = _reader(BaseException, "__dict__")
"""Returns an error's own attributes; `TypeError` for what isn't an error."""
arguments_of: Callable[[BaseException], tuple[Any, ...]] = _reader(BaseException, "args")
_cause_of, _context_of, _suppressed_in = (
    _reader(BaseException, name) for name in ("__cause__", "__context__", "__suppress_context__")
)
_members_of = _reader(BaseExceptionGroup, "exceptions")


def plain_text(error: BaseException) -> str | None:
    """Return the text of an error that was made of one string and has no `__str__` of its own; else None."""
    arguments = arguments_of(error)
    if len(arguments) != 1 or type(arguments[0]) is not str:
        return None
    text = type.__getattribute__(type(error), "__str__")
    return arguments[0] if text is BaseException.__str__ or text is OSError.__str__ else None


def type_name(kind: type) -> str:
    """Return the name of a type, with its module unless it is a builtin; a metaclass is not asked."""
    name = vars(type)["__qualname__"].__get__(kind)
    try:
        module = vars(type)["__module__"].__get__(kind)
    except AttributeError:  # taken away
        module = "?"
    module = str.__str__(module) if isinstance(module, str) else "?"
    return cut_to(name if module == "builtins" else f"{module}.{name}", 256)


def chain(error: BaseException) -> list[BaseException]:
    """Return the error and what it was raised from or during, nearest first, or a group's leaves; a few at most."""
    if _cause_of(error) is None is _context_of(error) and not issubclass(type(error), BaseExceptionGroup):
        return [error]
    links: list[BaseException] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen and len(links) <= _CAUSES:
        seen.add(id(link))
        links.append(link)
        if issubclass(type(link), BaseExceptionGroup):
            return [*links, *_leaves(link)][: _CAUSES + 1]
        cause = _cause_of(link)
        link = _context_of(link) if cause is None and not _suppressed_in(link) else cause
    return links


def _leaves(group: BaseException) -> Iterator[BaseException]:
    """Yield the leaves of a group, in order; of one that is very large only the first."""
    left = [group]
    for _ in range(_MEMBERS):
        if not left:
            return
        member = left.pop()
        if issubclass(type(member), BaseExceptionGroup):
            left += reversed(_members_of(member))
        else:
            yield member


def fingerprint(facts: Iterable[str], stack: Stack = ()) -> str:
    """Return 16 hexadecimal digits that errors of one kind have in common; the line doesn't matter."""
    places = [f"{module}:{code.co_qualname}" for code, _, module, _ in stack[-_TOP_FRAMES:]]
    text = "\0".join([*facts, *places]).encode("utf-8", "backslashreplace")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


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


class StackTable:
    """Keeps each stack once, and finds that of a traceback without hashing a single code object.

    A frame's key is the address of its instruction in memory: the code object's plus the offset. The instructions lie
    inside of the code object, and code objects that are alive do not overlap; a stack keeps its own alive.
    """

    def __init__(self) -> None:
        self._stacks: dict[tuple[int, ...], Stack] = {}
        self._last: Stack = ()

    def find(self, tb: TracebackType | None) -> Stack:
        """Return the stack of a traceback."""
        last, link = self._last, tb  # errors tend to come out of the same place several times running
        for code, _, _, offset in last:
            if link is None or link.tb_lasti != offset or link.tb_frame.f_code is not code:
                break
            link = link.tb_next
        else:
            if link is None:
                return last
        addresses, link = [], tb
        while link is not None:
            addresses.append(id(link.tb_frame.f_code) + link.tb_lasti)
            link = link.tb_next
        key = tuple(addresses)
        stack = self._last = self._stacks.get(key) or self._add(key, positions_of(tb))
        return stack

    def find_caller(self, tb: TracebackType | None) -> Stack:
        """Return the stack where this library was called that refused a call."""
        stack = callers(tb)
        key = tuple(id(code) + offset for code, _, _, offset in stack)
        return self._stacks.get(key) or self._add(key, stack)

    def _add(self, key: tuple[int, ...], stack: Stack) -> Stack:
        if len(key) < FIRST_FRAMES + LAST_FRAMES:  # of a longer one not all code objects are kept alive
            if len(self._stacks) >= _STACKS:
                self._stacks = {}
            self._stacks[key] = stack
        return stack


def positions_of(tb: TracebackType | None) -> Stack:
    """Return code, line and module of each frame, outermost first; of very many, the first and the last."""
    frames = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    if len(frames) > FIRST_FRAMES + LAST_FRAMES:
        del frames[FIRST_FRAMES:-LAST_FRAMES]
    return tuple(
        (link.tb_frame.f_code, link.tb_lineno or 0, _module_of(link.tb_frame), link.tb_lasti) for link in frames
    )


def callers(tb: TracebackType | None) -> Stack:
    """Return the stack of the code that called this library, outermost first, then the traceback's other frames."""
    frames: list[Position] = []
    frame: FrameType | None = sys._getframe()
    first = None if tb is None else tb.tb_frame
    while frame is not None and len(frames) < LAST_FRAMES:
        if not _module_of(frame).startswith(_OWN) and frame is not first:
            frames.append((frame.f_code, frame.f_lineno, _module_of(frame), frame.f_lasti))
        frame = frame.f_back
    own = tuple(position for position in positions_of(tb) if not position[2].startswith(_OWN))
    return (*reversed(frames), *own)


def _module_of(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if type(name) is str else "?"


def place_of(code: CodeType) -> tuple[str, str]:
    """Return function and file as strings that can be encoded: a path need not be valid Unicode."""
    return cut_to(code.co_name), cut_to(code.co_filename, _PATH)


def _source_of(code: CodeType, line: int) -> str:
    try:
        return linecache.getline(code.co_filename, line).strip()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - no path, or a loader that does its worst
        return ""


class Frames(str):
    """A stack that another process has turned into text, without the line of its error."""

    __slots__ = ()


def frames_of(stack: Stack, cleaner: Cleaner) -> Frames:
    """Return the text of a stack, much as Python prints it; source lines are read now."""
    lines = ["Traceback (most recent call last):"] if stack else []
    for code, line, _, _ in stack:
        function, file = place_of(code)
        lines.append(f'  File "{file}", line {line}, in {function}')
        if source := _source_of(code, line):
            lines.append(f"    {cleaner.text(source, 'stacktrace')}")
    return Frames("\n".join(lines))


def render(sections: Iterable[tuple[str, Stack | Frames]], redact: Redactor) -> str:
    """Return the text of an error and its causes."""
    texts, cleaner = [], Cleaner(redact)
    for text, stack in reversed(list(sections)):
        frames = stack if isinstance(stack, Frames) else frames_of(stack, cleaner)
        texts.append(f"{frames}\n{text}" if frames else text)
    return "\n\nand from that\n\n".join(texts)
