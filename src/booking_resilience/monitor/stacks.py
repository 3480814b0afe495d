"""Read an error's type, causes, stack and span. A stack is kept as code positions, once, and becomes text when read."""

from __future__ import annotations

import hashlib
import linecache
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeAlias

from booking_resilience.callbacks import safely
from booking_resilience.monitor.redact import Cleaner, Redactor, cut_to

Position: TypeAlias = tuple[CodeType, int, str]
"""Code, line and module."""
Stack: TypeAlias = tuple[Position, ...]

FIRST_FRAMES, LAST_FRAMES = 16, 48
_NODES = 4096
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
_cause_of, _context_of, _suppressed_in = (
    _reader(BaseException, name) for name in ("__cause__", "__context__", "__suppress_context__")
)
_members_of = _reader(BaseExceptionGroup, "exceptions")
_READ = ("__traceback__", "__cause__", "__context__", "__suppress_context__", "args", "__getattribute__")


class TypeFacts:
    """An exception type: its name, whether its errors' attributes can be read plainly, and whether `str` is builtin."""

    __slots__ = ("is_plain", "name", "text_is_builtin")

    def __init__(self, kind: type) -> None:
        self.name: str = type_name(kind)
        self.is_plain: bool = (
            type(kind) is type
            and not issubclass(kind, BaseExceptionGroup)
            and all(safely(None, type.__getattribute__, kind, name) is getattr(BaseException, name) for name in _READ)
        )
        text = safely(None, type.__getattribute__, kind, "__str__") if self.is_plain else None
        self.text_is_builtin: bool = text is BaseException.__str__ or text is OSError.__str__


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
    places = [f"{module}:{code.co_qualname}" for code, _, module in stack[-_TOP_FRAMES:]]
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


@dataclass(slots=True)
class Known:
    """What is known of a place and an error type: the kind of its records, and the last message found harmless."""

    kind: Any
    facts: TypeFacts
    text: str = ""


@dataclass(slots=True)
class Place:
    """A stack, and what is known of the errors that came out of it, by what they were recorded as."""

    stack: Stack
    instructions: tuple[tuple[CodeType, int], ...] = ()
    known: dict[tuple[object, ...], Known] = field(default_factory=dict)


class PlaceTable:
    """Finds the place of a traceback without hashing a single code object.

    A frame's key is the address of its instruction in memory: the code object's plus the offset. The instructions lie
    inside of the code object, and code objects that are alive do not overlap; a place keeps those of its stack alive.
    """

    def __init__(self) -> None:
        self._places: dict[tuple[object, ...], Place] = {}
        self._size = 0
        self._last = Place(())

    def find(self, tb: TracebackType | None) -> Place:
        """Return where an error came out."""
        last, link = self._last, tb  # errors tend to come out of the same place several times running
        for code, offset in last.instructions:
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
        place = self._last = self._places.get(key) or self._add(key, Place(positions_of(tb), _instructions(tb)))
        return place

    def find_caller(self, tb: TracebackType | None) -> Place:
        """Return where this library was called that refused a call."""
        stack = callers(tb)
        key = tuple((id(code), line) for code, line, _ in stack)
        return self._places.get(key) or self._add(key, Place(stack))

    def note(self, place: Place, key: tuple[object, ...], known: Known) -> None:
        """Note what is known of an error that came out there."""
        self._make_room(1)
        place.known[key] = known

    def _add(self, key: tuple[object, ...], place: Place) -> Place:
        if len(key) < FIRST_FRAMES + LAST_FRAMES:  # a runaway recursion fills no table
            self._make_room(len(key) + 1)
            self._places[key] = place
        return place

    def _make_room(self, size: int) -> None:
        """Forget everything when it is too much."""
        self._size += size
        if self._size > _NODES:
            self._places, self._size = {}, size


def _frames(tb: TracebackType | None) -> list[TracebackType]:
    frames = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    return frames


def _instructions(tb: TracebackType | None) -> tuple[tuple[CodeType, int], ...]:
    return tuple((link.tb_frame.f_code, link.tb_lasti) for link in _frames(tb))


def positions_of(tb: TracebackType | None) -> Stack:
    """Return code, line and module of each frame, outermost first; of very many, the first and the last."""
    frames = _frames(tb)
    if len(frames) > FIRST_FRAMES + LAST_FRAMES:
        del frames[FIRST_FRAMES:-LAST_FRAMES]
    return tuple((link.tb_frame.f_code, link.tb_lineno or 0, _module_of(link.tb_frame)) for link in frames)


def callers(tb: TracebackType | None) -> Stack:
    """Return the stack of the code that called this library, outermost first, then the traceback's other frames."""
    frames: list[Position] = []
    frame: FrameType | None = sys._getframe()
    first = None if tb is None else tb.tb_frame
    while frame is not None and len(frames) < LAST_FRAMES:
        if not _module_of(frame).startswith(_OWN) and frame is not first:
            frames.append((frame.f_code, frame.f_lineno, _module_of(frame)))
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
    for code, line, _ in stack:
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
