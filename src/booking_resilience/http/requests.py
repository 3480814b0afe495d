"""An adapter for requests: `session.mount("https://", ResilientAdapter())`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
import urllib3

from booking_resilience.breakers import Breakers
from booking_resilience.http.exchange import Exchange, shorter
from booking_resilience.http.rules import DEADLINE_HEADER, HTTP_RETRY, Rules, origin_of
from booking_resilience.recording import ErrorRecorder
from booking_resilience.retry import RetryPolicy

__all__ = ["ResilientAdapter"]


class ResilientAdapter(requests.adapters.HTTPAdapter):
    """An adapter that retries what may be repeated, through a breaker for each origin, within the caller's deadline.

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
        options: What `HTTPAdapter` takes.

    Raises:
        TypeError: If a setting is of the wrong type.
        ValueError: If the policy has `retry_on_result`, or the header's name is empty.
    """

    def __init__(
        self,
        *,
        retry: RetryPolicy = HTTP_RETRY,
        breakers: Breakers | None = None,
        monitor: ErrorRecorder | None = None,
        deadline_header: str | None = DEADLINE_HEADER,
        **options: Any,
    ) -> None:
        self._rules = Rules(retry, breakers, monitor, deadline_header)
        super().__init__(**options)

    def __reduce__(self) -> Any:
        raise TypeError("a ResilientAdapter can't be copied or pickled: its breakers would not be shared; make another")

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send a request, again if need be, and return the response."""
        arguments = (stream, timeout, verify, cert, proxies)
        response: requests.Response = _Exchange(self._rules, request, super().send, arguments).send()
        return response


class _Exchange(Exchange):
    """A request of requests."""

    __slots__ = ("_given",)

    def __init__(self, rules: Rules, request: Any, handle: Any, arguments: tuple[Any, ...]) -> None:
        url, body = urlsplit(request.url or ""), request.body
        origin = origin_of(url.scheme, url.hostname, url.port)
        is_in_memory = body is None or isinstance(body, (bytes, bytearray, memoryview, str))
        super().__init__(rules, request, origin, handle, can_repeat=is_in_memory)
        self.arguments = self._given = arguments

    def limit(self, left: float) -> None:
        stream, timeout, *others = self._given
        self.arguments = (stream, _least(timeout, left), *others)

    def error_of(self, response: requests.Response) -> Exception | None:
        if response.status_code < 400:
            return None
        return requests.HTTPError(f"the status was {response.status_code}", request=self.request, response=response)


def _least(timeout: Any, left: float) -> Any:
    """Return a timeout in one of the forms that requests takes, no wait of it longer than `left`."""
    if isinstance(timeout, urllib3.Timeout):
        connect, read, total = timeout._connect, timeout._read, timeout.total
        waits = {"connect": connect, "read": read, "total": total}
        return urllib3.Timeout(**{name: shorter(wait, left) for name, wait in waits.items()})
    if isinstance(timeout, tuple):
        return tuple(shorter(wait, left) for wait in timeout)
    return shorter(timeout, left)
