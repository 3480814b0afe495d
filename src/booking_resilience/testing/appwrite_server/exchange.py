"""One request and its answer, as they are on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

JSON = "application/json; charset=UTF-8"
HTML = "text/html; charset=UTF-8"
_NOT_FOUND = (
    b'<!DOCTYPE html><html lang="en"><head><title>404 Not Found</title></head><body>Page not found</body></html>'
)


@dataclass(slots=True)
class Request:
    """One request, as it came over the wire. Header names are in small letters."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    raw_body: bytes
    body: Any = None


@dataclass(slots=True)
class Answer:
    """One answer; `body` is what becomes JSON, or ready bytes."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON

    def payload(self) -> bytes:
        """Return the body's bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body, ensure_ascii=False).replace("/", "\\/").encode()


def nowhere() -> Answer:
    """Return the answer for a route that the real server does not have either."""
    return Answer(404, _NOT_FOUND, content_type=HTML)


def deleted() -> Answer:
    """Return the answer to a delete; it says that its nothing is HTML."""
    return Answer(204, content_type="text/html")
