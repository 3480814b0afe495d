"""Undo the escapes of URLs and of JSON one layer at a time, and know of each character how it was written.

The escapes that a value has of its own belong to a deeper layer than its delimiters, so that none of them ends it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LAYERS = 5
"""How many layers are undone at most."""
_IN_JSON = re.compile(r"\\{1,7}(?:u00([2-7][0-9A-Fa-f])|(/))")
_IN_URL = re.compile(r"%([0-9A-Fa-f]{2})|(?<=%3[Aa])\+|(?<=%2[Cc])\+")  # the space of JSON in a form is a plus


def unescaped(text: str, veil: str, written: Sequence[str]) -> tuple[str, str, list[str]] | None:
    """Return the text without its outermost layer of escapes, the veil for it, and how each character was written.

    None if there is no layer to undo.

    Args:
        text: Any text.
        veil: The text with a letter for each character that a URL had encoded in a layer that is undone already.
        written: How each character of `text` was written.
    """
    in_json = _IN_JSON.search(text) is not None
    if not in_json and _IN_URL.search(text) is None:
        return None
    characters, covers, sources, done = list[str](), list[str](), list[str](), 0
    for match in (_IN_JSON if in_json else _IN_URL).finditer(text):
        begin, end = match.span()
        character = chr(int(match[1], 16)) if match[1] else "/" if in_json else " "
        characters += text[done:begin], character
        covers += veil[done:begin], character if in_json and veil[begin:end] == match[0] else "x"
        sources += written[done:begin]
        sources.append("".join(written[begin:end]))
        done = end
    return "".join([*characters, text[done:]]), "".join([*covers, veil[done:]]), [*sources, *written[done:]]
