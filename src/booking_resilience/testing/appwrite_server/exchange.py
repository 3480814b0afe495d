"""One request and its answer, as they are on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from booking_resilience.testing.appwrite_server.dialect import Dialect

JSON = "application/json; charset=UTF-8"
HTML = "text/html; charset=UTF-8"
_NOT_FOUND = (
    b'<!DOCTYPE html><html lang="en"><head> <meta charset="UTF-8"> <meta name="viewport" '
    b'content="width=device-width, initial-scale=1.0"> <link rel="icon" type="image/svg+xml" '
    b'href="http://localhost/images/favicon.svg"> <title>404 Not Found</title></head><body>Page not found</body></html>'
)
_APPWRITE = {"Server": "Appwrite"}
_METHODS = {"Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE"}
_SAFE = {"X-Content-Type-Options": "nosniff"}
_UNCACHED = {"Cache-Control": "no-cache, no-store, must-revalidate", "Expires": "0", "Pragma": "no-cache"}

STYLES: dict[str, dict[str, str]] = {
    "success": {**_APPWRITE, **_SAFE, **_METHODS},
    "error": {**_APPWRITE, **_SAFE, **_METHODS, **_UNCACHED},
    "preflight": {**_APPWRITE, **_METHODS},
    "swoole": {"Server": "swoole-http-server"},
    "bare": {},
}
"""The headers that all answers of a kind have, as recorded: only errors forbid caching; what fails before Appwrite's
own code runs has the HTTP library's headers, or none."""


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
    """One answer; `body` is what becomes JSON, or ready bytes; `style` is one of `STYLES`, None for what fits."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON
    style: str | None = None

    def payload(self) -> bytes:
        """Return the body's bytes."""
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body, ensure_ascii=False).replace("/", "\\/").encode()

    def all_headers(self) -> dict[str, str]:
        """Return the headers, those of its style included."""
        style = self.style or ("success" if self.status < 400 else "error")
        return {**STYLES[style], **self.headers}


@dataclass(slots=True)
class Call:
    """A request that has found its route.

    Attributes:
        dialect: The vocabulary of the API that it came through.
        is_guest: Whether it came without a key.
        ids: The parts of the path behind the API's name.
        torn: How many operations a torn commit applies, and what it tells; None for a whole one.
    """

    request: Request
    dialect: Dialect
    is_guest: bool
    ids: list[str]
    torn: tuple[int, str] | None = None

    @property
    def body(self) -> dict[str, Any]:
        """What the request brings: the query's parameters of a GET, the body's of all others."""
        return self.request.body  # type: ignore[no-any-return]  # the router has parsed it


def nowhere() -> Answer:
    """Return the answer for a route that the real server does not have either."""
    return Answer(404, _NOT_FOUND, content_type=HTML)


def deleted() -> Answer:
    """Return the answer to a delete; it says that its nothing is HTML."""
    return Answer(204, content_type="text/html")
