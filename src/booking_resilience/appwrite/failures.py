"""The errors of `AppwriteClient`.

::

    AppwriteException                 the SDK's
    └── AppwriteCallError             every failure of a call
        ├── AppwriteConnectionError   no connection, or it broke (also a ConnectionError)
        └── AppwriteTimeoutError      no answer in time, or no time left to ask (also a TimeoutError)
"""

from __future__ import annotations

from collections.abc import Mapping

from booking_resilience.appwrite.evidence import Evidence, Kind
from booking_resilience.appwrite.sdk import AppwriteException
from booking_resilience.verdicts.meanings import Sent
from booking_resilience.verdicts.waits import wait_in

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
        """Whether the request reached the server (`"no"`, `"maybe"` or `"yes"`, as in `Verdict`)."""
        return self.evidence.sent

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before the next attempt, as the answer's headers ask; None if they do not."""
        return wait_in(self.evidence.headers, self.evidence.status, of_appwrite=True)


class AppwriteConnectionError(AppwriteCallError, ConnectionError):
    """There was no connection, or it broke before the whole answer was there."""


class AppwriteTimeoutError(AppwriteCallError, TimeoutError):
    """There was no answer in time; or no time left to send the request, then `sent` is `"no"`."""


def refused_certificate(error: BaseException) -> AppwriteCallError:
    """Return the error of a certificate that isn't trusted: nothing was sent."""
    evidence = Evidence("certificate", "no")
    return AppwriteCallError(f"the server's certificate was refused: {error}", evidence=evidence)


def no_connection(error: BaseException) -> AppwriteCallError:
    """Return the error of a connection that could not be made: nothing was sent."""
    return _broken("no connection", error, Evidence("network", "no"))


def no_answer(error: BaseException) -> AppwriteCallError:
    """Return the error of a request that has left, or a part of it, and was not answered."""
    return _broken("no answer", error, Evidence("network", "maybe"))


def broken_answer(
    error: BaseException, status: int, headers: Mapping[str, str], kind: Kind = "cut"
) -> AppwriteCallError:
    """Return the error of an answer that could not be read to its end; one of a failure is a failure all the same."""
    evidence = Evidence("answer" if status >= 300 else kind, "yes", status, None, headers)
    return _broken(f"the answer {status} could not be read to its end", error, evidence)


def _broken(what: str, error: BaseException, evidence: Evidence) -> AppwriteCallError:
    kind = AppwriteTimeoutError if isinstance(error, TimeoutError) else AppwriteConnectionError
    reason = str(error) or type(error).__name__
    return kind(f"{what}: {reason}", evidence.status or 0, None, None, evidence=evidence)
