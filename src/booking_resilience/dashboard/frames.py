"""Reads the frames out of a stack that is text, and tells the application's own code from libraries."""

from __future__ import annotations

import re
import sysconfig
from typing import Any

_FRAME = re.compile(r'  File "(.*)", line (\d+), in (.*)')
_LIBRARY = tuple(
    folder.replace("\\", "/").rstrip("/") + "/"
    for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
)
_ELSEWHERE = ("/site-packages/", "/dist-packages/", "/booking_resilience/")


def is_own(file: str) -> bool:
    """Tell whether a file is the application's own: not Python's, an installed package's or this library's."""
    path = file.replace("\\", "/")
    if path.startswith("<frozen") or re.search(r"/lib/python3\.\d+t?/", path):
        return False
    return not path.startswith(_LIBRARY) and not any(part in path for part in _ELSEWHERE)


def frames_of(stack: str) -> list[dict[str, Any]]:
    """Return the frames in a stack, in its order: `file`, `line`, `function`, `code` (may be empty) and `own`."""
    found: list[dict[str, Any]] = []
    is_frame = False
    for text in stack.splitlines():
        match = _FRAME.fullmatch(text)
        if match:
            file, line, function = match.groups()
            found.append({"file": file, "line": int(line), "function": function, "code": "", "own": is_own(file)})
        elif is_frame and text.startswith("    "):
            found[-1]["code"] = text.strip()
        is_frame = match is not None
    return found


def own_first(stack: str) -> list[dict[str, Any]]:
    """Return the frames where to look first: the application's own, the innermost first, then the others likewise."""
    frames = frames_of(stack)[::-1]
    return [frame for frame in frames if frame["own"]] + [frame for frame in frames if not frame["own"]]
