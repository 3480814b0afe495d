"""A middleware for aiohttp: `aiohttp.ClientSession(middlewares=[resilient()])`.

After a disconnect aiohttp itself calls all middlewares once more for GET, HEAD, OPTIONS, TRACE, PUT and DELETE: that is
an operation of its own, with attempts and a record of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import aiohttp

from booking_resilience.breakers import Breakers
from booking_resilience.http.exchange import Exchange
from booking_resilience.http.rules import DEADLINE_HEADER, HTTP_RETRY, Rules, origin_of
from booking_resilience.recording import ErrorRecorder
from booking_resilience.retry import RetryPolicy

__all__ = ["resilient"]


def resilient(
    *,
    retry: RetryPolicy = HTTP_RETRY,
    breakers: Breakers | None = None,
    monitor: ErrorRecorder | None = None,
    deadline_header: str | None = DEADLINE_HEADER,
) -> aiohttp.ClientMiddlewareType:
    """Return a middleware that retries what may be repeated, through a breaker for each origin, within the deadline.

    GET, HEAD, OPTIONS and TRACE are sent again after whatever `retry.retry_on` accepts; any other method only if the
    request never left, or carries an `Idempotency-Key`. A body that isn't in memory is sent once.
    When it gives up, it returns the last response or raises the last attempt's exception; a breaker's rejection is
    `CircuitOpenError`.

    Args:
        retry: When to send again; a status of 400 or more is asked about as an error with that `response`.
        breakers: The breakers, by origin (`scheme://host:port`); None for new ones.
        monitor: Gets a record of each request that failed or recovered; its operation is `METHOD origin`. Or None.
        deadline_header: The request header that tells what is left of the caller's `deadline`, in whole milliseconds,
            at most 3,600,000; None to send none.

    Raises:
        TypeError: If a setting is of the wrong type.
        ValueError: If the policy has `retry_on_result`, or the header's name is empty.
    """
    rules = Rules(retry, breakers, monitor, deadline_header)

    def middleware(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> Awaitable[aiohttp.ClientResponse]:
        return _Exchange(rules, request, handler).send_async()

    return middleware


class _Exchange(Exchange):
    """A request of aiohttp."""

    __slots__ = ()

    def __init__(self, rules: Rules, request: Any, handle: Any) -> None:
        url = request.url
        origin = origin_of(url.scheme, url.raw_host, url.port)
        can_repeat = isinstance(request.body, (bytes, aiohttp.BytesPayload))
        super().__init__(rules, request, origin, handle, can_repeat=can_repeat)

    def goes_on_after(self, error: BaseException) -> bool:
        timer = getattr(self.request, "_timer", None)
        if getattr(timer, "_cancelled", False):  # the session's `total` is over, and another attempt would be in vain
            self.end_now()
        return super().goes_on_after(error)

    def error_of(self, response: aiohttp.ClientResponse) -> Exception | None:
        return None if response.status < 400 else _StatusError(response)


class _StatusError(aiohttp.ClientResponseError):
    """Stands for a response. Its text leaves out the URL, whose query may hold secrets."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = _Answer(response)
        super().__init__(response.request_info, response.history, status=response.status, headers=response.headers)

    def __str__(self) -> str:
        return f"the status was {self.status}"


class _Answer:
    """A response that has the `status_code` that the other clients' have, too."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status_code: int = response.status

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)
