"""Stacks as code positions: walked cheaply, kept once, and turned into text when they are read."""

from __future__ import annotations

import linecache
from typing import TYPE_CHECKING, Any, TypeAlias

from booking_resilience.monitor.redact import clean_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, TracebackType

    from booking_resilience.monitor.redact import Redactor

Position: TypeAlias = "tuple[CodeType, int, str]"
"""Code, line and module."""
Stack: TypeAlias = "tuple[Position, ...]"

FIRST_FRAMES, LAST_FRAMES = 16, 48
_NODES = 4096
_PATH = 4096
_STACK, _EXPECTED = "stack", "expected"


class StackTable:
    """Finds the stack of a traceback, and what else is noted for it, without hashing a single code object.

    It is a tree of dictionaries, a level for each frame. The key of a position is the address of the instruction in
    memory, code object's plus offset: the instructions lie inside of the code object, and code objects that are kept
    alive do not overlap. So the table keeps alive those that it knows.
    """

    def __init__(self) -> None:
        self._root: dict[Any, Any] = {}
        self._kept: list[Any] = []
        self._last: tuple[tuple[tuple[CodeType, int], ...], dict[Any, Any]] = ((), {_STACK: ()})

    def find(self, tb: TracebackType | None) -> dict[Any, Any]:
        """Return the notes of a traceback's stack: `stack` is the stack, all else is the caller's to note."""
        link: Any = tb
        expected, notes = self._last  # errors tend to come out of the same place several times running
        try:
            for code, offset in expected:
                if link.tb_lasti != offset or link.tb_frame.f_code is not code:
                    break
                link = link.tb_next
            else:
                if link is None:
                    return notes
        except AttributeError:  # it is shorter
            pass
        return self._look_up(tb)

    def _look_up(self, tb: TracebackType | None) -> dict[Any, Any]:
        node, link = self._root, tb
        try:
            while link is not None:
                node = node[id(link.tb_frame.f_code) + link.tb_lasti]
                link = link.tb_next
        except KeyError:
            return self._grow(tb)
        if _STACK not in node:
            return self._grow(tb)
        self._last = (node[_EXPECTED], node)
        return node

    def note(self, notes: dict[Any, Any], key: Any, value: Any) -> None:
        """Note something; all notes are dropped when there are too many."""
        self._keep(value)
        notes[key] = value

    def _grow(self, tb: TracebackType | None) -> dict[Any, Any]:
        stack = positions_of(tb)
        if len(stack) >= FIRST_FRAMES + LAST_FRAMES:  # a runaway recursion fills no table
            return {_STACK: stack}
        node, expected = self._root, []
        while tb is not None:
            code = tb.tb_frame.f_code
            self._keep(code)
            expected.append((code, tb.tb_lasti))
            node = node.setdefault(id(code) + tb.tb_lasti, {})
            tb = tb.tb_next
        node.setdefault(_EXPECTED, tuple(expected))
        node.setdefault(_STACK, stack)
        return node

    def _keep(self, thing: object) -> None:
        if len(self._kept) >= _NODES:
            self._kept = []  # first this: who finds the new root keeps alive what he puts into it
            self._root = {}
            self._last = ((), {_STACK: ()})
        self._kept.append(thing)


def positions_of(tb: TracebackType | None) -> Stack:
    """Return code, line and module of each frame, outermost first; of very many, the first and the last."""
    frames = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    if len(frames) > FIRST_FRAMES + LAST_FRAMES:
        del frames[FIRST_FRAMES:-LAST_FRAMES]
    return tuple((link.tb_frame.f_code, link.tb_lineno or 0, _module_of(link)) for link in frames)


def _module_of(link: TracebackType) -> str:
    name = link.tb_frame.f_globals.get("__name__")
    return name if type(name) is str else "?"


def place_of(code: CodeType) -> tuple[str, str]:
    """Return function and file, as texts that a file can hold: a path need be no Unicode."""
    return clean_text(code.co_name, None), clean_text(code.co_filename, None, length=_PATH)


def _source_of(code: CodeType, line: int) -> str:
    try:
        return linecache.getline(code.co_filename, line).strip()
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - no path, or a loader that does its worst
        return ""


def render(sections: Iterable[tuple[str, Stack]], redact: Redactor) -> str:
    """Return the text of an error and its causes, much as Python prints it; source lines are read now."""
    texts = []
    for text, stack in reversed(list(sections)):
        lines = ["Traceback (most recent call last):"] if stack else []
        for code, line, _ in stack:
            function, file = place_of(code)
            lines.append(f'  File "{file}", line {line}, in {function}')
            if source := _source_of(code, line):
                lines.append(f"    {clean_text(source, redact, 'stacktrace')}")
        texts.append("\n".join([*lines, text]))
    return "\n\nand from that\n\n".join(texts)
