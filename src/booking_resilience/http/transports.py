"""What the transports of httpx and httpx2 do, which have the same classes. Imports neither."""

from __future__ import annotations

import functools
from typing import Any, Self

from booking_resilience.breakers import Breakers
from booking_resilience.http.loops import send, send_async
from booking_resilience.http.rules import DEADLINE_HEADER, HTTP_RETRY, Exchange, Rules, origin_of
from booking_resilience.pipeline import ErrorRecorder
from booking_resilience.retry import RetryPolicy


class _Transport:
    """What both colours share: the settings, and what is changed of a request for one attempt."""

    library: Any
    make_inner: Any

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
        if inner is not None and options:
            raise TypeError(f"inner must be None, or without {', '.join(options)}: give that to the inner transport")
        self._inner: Any = type(self).make_inner(**options) if inner is None else inner

    def _begin(self, request: Any) -> Exchange:
        url = request.url
        origin = origin_of(url.scheme, url.raw_host.decode("ascii"), url.port)
        can_repeat = isinstance(request.stream, self.library.ByteStream)
        return self._rules.begin(request.method, origin, request.headers, can_repeat=can_repeat)

    def _limit(self, request: Any, exchange: Exchange, given: tuple[Any, dict[str, Any]]) -> None:
        """Put the attempt's deadline into the request: no wait is longer than what is left when it begins."""
        headers, extensions = given
        if exchange.header is not None and self._rules.header is not None:
            request.headers = headers.copy()
            request.headers[self._rules.header] = exchange.header
        if exchange.left is not None:
            waits = extensions.get("timeout", {})
            limited = {name: _least(waits.get(name), exchange.left) for name in ("connect", "read", "write", "pool")}
            request.extensions = {**extensions, "timeout": limited}
            exchange.look()

    def _judge(self, request: Any, response: Any) -> Exception | None:
        if response.status_code < 400:
            return None
        text = f"the status was {response.status_code}"
        error: Exception = self.library.HTTPStatusError(text, request=request, response=response)
        return error


class SyncTransport(_Transport):
    """The synchronous transport."""

    def handle_request(self, request: Any) -> Any:
        """Send a request, again if need be, and return the response."""
        exchange, given = self._begin(request), (request.headers, request.extensions)

        def once() -> Any:
            self._limit(request, exchange, given)
            return self._inner.handle_request(request)

        try:
            return send(exchange, once, functools.partial(self._judge, request), _close)
        finally:
            request.headers, request.extensions = given

    def close(self) -> None:
        """Close the inner transport."""
        self._inner.close()

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._inner.__exit__(*raised)


class AsyncTransport(_Transport):
    """The asynchronous transport."""

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request, again if need be, and return the response."""
        exchange, given = self._begin(request), (request.headers, request.extensions)

        async def once() -> Any:
            self._limit(request, exchange, given)
            return await self._inner.handle_async_request(request)

        try:
            return await send_async(exchange, once, functools.partial(self._judge, request), _aclose)
        finally:
            request.headers, request.extensions = given

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._inner.__aexit__(*raised)


def _close(response: Any) -> None:
    response.close()


async def _aclose(response: Any) -> None:
    await response.aclose()


def _least(wait: float | None, left: float) -> float:
    return left if wait is None else min(wait, left)
