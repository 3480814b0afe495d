"""How the real database compares text: MariaDB's utf8mb4_general_ci, which the recordings show.

Letter case, accents and trailing blanks don't count; characters beyond U+FFFF are all alike.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any

_BEYOND = "\ufffd"


@lru_cache(maxsize=4096)
def _weight(sign: str) -> str:
    if sign > "\uffff":
        return _BEYOND
    if sign == "ß":
        return "S"
    decomposed = unicodedata.normalize("NFD", sign)
    base = decomposed[0] if len(decomposed) > 1 and unicodedata.combining(decomposed[1]) else sign
    upper = base.upper()
    return upper if len(upper) == 1 else base


def folded(text: str) -> str:
    """Return text in which what the collation doesn't tell apart is equal, trailing blanks excepted (for `LIKE`)."""
    return text.upper() if text.isascii() else "".join(map(_weight, text))


def collated(value: Any) -> Any:
    """Return what a value is compared by; what isn't text is compared by itself."""
    if not isinstance(value, str):
        return value
    return folded(value).rstrip(" ") + " "  # shorter text is compared as if blanks followed


def like(value: str) -> str:
    r"""Return the text that a `LIKE` with this value looks for: a backslash goes, what follows it stays."""
    return folded(re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) if "\\" in value else value)
