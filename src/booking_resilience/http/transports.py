"""The transports of httpx and httpx2, which have the same classes. Imports neither."""

from __future__ import annotations

from typing import Any, Self

from booking_resilience.breakers import Breakers
from booking_resilience.checks import check_type, has_method
from booking_resilience.http.exchange import Exchange, shorter
from booking_resilience.http.rules import DEADLINE_HEADER, HTTP_RETRY, Rules, origin_of
from booking_resilience.recording import ErrorRecorder
from booking_resilience.retry import RetryPolicy


class _Exchange(Exchange):
    """A request of httpx or httpx2."""

    __slots__ = ("_extensions", "_library")

    def __init__(self, library: Any, rules: Rules, request: Any, handle: Any) -> None:
        url = request.url
        origin = origin_of(url.scheme, url.raw_host, url.port)
        super().__init__(rules, request, origin, handle, can_repeat=isinstance(request.stream, library.ByteStream))
        self._library, self._extensions = library, request.extensions

    def limit(self, left: float) -> None:
        waits = self._extensions.get("timeout", {})
        limited = {name: shorter(waits.get(name), left) for name in ("connect", "read", "write", "pool")}
        self.request.extensions = {**self._extensions, "timeout": limited}

    def error_of(self, response: Any) -> Exception | None:
        if response.status_code < 400:
            return None
        text = f"the status was {response.status_code}"
        error: Exception = self._library.HTTPStatusError(text, request=self.request, response=response)
        return error

    async def discard_async(self, response: Any) -> None:
        await response.aclose()

    def close(self) -> None:
        super().close()
        self.request.extensions = self._extensions


class _Transport:
    """What both colours share: the settings."""

    library: Any
    kind: str
    sends: str

    def __init__(
        self,
        inner: Any = None,
        *,
        retry: RetryPolicy = HTTP_RETRY,
        breakers: Breakers | None = None,
        monitor: ErrorRecorder | None = None,
        deadline_header: str | None = DEADLINE_HEADER,
        **options: Any,
    ) -> None:
        self._rules = Rules(retry, breakers, monitor, deadline_header)
        is_right = inner is None or has_method(inner, self.sends)
        check_type("inner", inner, is_right, f"a transport with {self.sends}, or None")
        if inner is not None and options:
            raise TypeError(f"inner must be None, or without {', '.join(options)}: give that to the inner transport")
        self._inner: Any = getattr(self.library, self.kind)(**options) if inner is None else inner


class SyncTransport(_Transport):
    """A transport that retries what may be repeated, through a breaker for each origin, within the caller's deadline.

    GET, HEAD, OPTIONS and TRACE are sent again after whatever `retry.retry_on` accepts; any other method only if the
    request never left, or carries an `Idempotency-Key`. Bodies that can be read only once are sent once.
    When it gives up, it returns the last response or raises the last attempt's exception; a breaker's rejection is
    `CircuitOpenError`.

    Args:
        inner: The transport that sends; None for the library's `HTTPTransport`.
        retry: When to send again; a status of 400 or more is asked about as an error with that `response`.
        breakers: The breakers, by origin (`scheme://host:port`); None for new ones.
        monitor: Gets a record of each request that failed or recovered; its operation is `METHOD origin`. Or None.
        deadline_header: The request header that tells what is left of the caller's `deadline`, in whole milliseconds,
            at most 3,600,000; None to send none.
        options: What the library's `HTTPTransport` takes, if `inner` is None.

    Raises:
        TypeError: If a setting is of the wrong type.
        ValueError: If the policy has `retry_on_result`, or the header's name is empty.
    """

    kind = "HTTPTransport"
    sends = "handle_request"

    def handle_request(self, request: Any) -> Any:
        """Send a request, again if need be, and return the response."""
        return _Exchange(self.library, self._rules, request, self._inner.handle_request).send()

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._inner.__exit__(*raised)


class AsyncTransport(_Transport):
    """Does the same as `ResilientTransport` for an asynchronous client; each attempt is cut off at its deadline."""

    kind = "AsyncHTTPTransport"
    sends = "handle_async_request"

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, again if need be, and return the response."""
        return await _Exchange(self.library, self._rules, request, self._inner.handle_async_request).send_async()

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._inner.__aexit__(*raised)
