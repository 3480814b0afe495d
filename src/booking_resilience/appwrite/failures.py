"""The errors of `AppwriteClient`.

::

    AppwriteException                 the SDK's
    └── AppwriteCallError             every failure of a call
        ├── AppwriteConnectionError   no connection, or it broke (also a ConnectionError)
        └── AppwriteTimeoutError      no answer in time, or no time left to ask (also a TimeoutError)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from booking_resilience.appwrite.evidence import Evidence
from booking_resilience.appwrite.sdk import AppwriteException
from booking_resilience.appwrite.waits import retry_after_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from booking_resilience.appwrite.evidence import Sent

_NOTHING_SENT = Evidence("local", "no")


class AppwriteCallError(AppwriteException):
    """A call to Appwrite failed. `message`, `code`, `type` and `response` are as the SDK's; it can be pickled.

    Args:
        message: Appwrite's message, or what went wrong on the way.
        code: The HTTP status; 0 if none came.
        type: Appwrite's error type, or None.
        response: The body of the answer as text, or None.
        evidence: What is known of the call.
    """

    def __init__(
        self,
        message: str,
        code: int = 0,
        type: str | None = None,  # noqa: A002 - the SDK's name
        response: str | None = None,
        *,
        evidence: Evidence = _NOTHING_SENT,
    ) -> None:
        super().__init__(message, code, type, response)
        self.evidence = evidence

    @property
    def status(self) -> int | None:
        """The HTTP status; None if none came."""
        return self.evidence.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, their names in lower case; empty if no answer came."""
        return self.evidence.headers

    @property
    def sent(self) -> Sent:
        """Whether the request reached the server: `"no"`, `"maybe"` or `"yes"`, as in `Verdict`."""
        return self.evidence.sent

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before the next attempt, as the answer's headers ask; None if they do not."""
        return retry_after_of(self.evidence.status, self.evidence.headers) if self.evidence.headers else None


class AppwriteConnectionError(AppwriteCallError, ConnectionError):
    """There was no connection, or it broke before the whole answer was there."""


class AppwriteTimeoutError(AppwriteCallError, TimeoutError):
    """There was no answer in time; or no time left to send the request, then `sent` is `"no"`."""
