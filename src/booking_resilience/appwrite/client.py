"""`AppwriteClient`: the SDK's client with a transport of its own, with timeouts and connections that are kept.

The SDK's services use nothing of a client but `call`, `get_config` and `chunked_upload`, so `call` is what is replaced.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from booking_resilience.appwrite.answers import Answer, content_of
from booking_resilience.appwrite.sdk import Client
from booking_resilience.appwrite.transport import Transport
from booking_resilience.appwrite.wire import WireRequest, cannot_send, request_of
from booking_resilience.checks import check_number, check_whole

logger: logging.Logger = logging.getLogger("booking_resilience.appwrite")

_MOST_WARNINGS: Final = 64


class AppwriteClient(Client):
    """A client of the Appwrite SDK, with all its setters, that does not hang and says what went wrong.

    It keeps connections alive, and bounds each wait by its timeouts and by `remaining_time()` of the operation that it
    is called in. Every failure of a call is an `AppwriteException`, but for a `TypeError` for data that isn't JSON,
    and what the SDK's models reject afterwards. It never sends a request twice. Uploads are left to
    the SDK. A proxy that the environment names is used if it is an HTTP proxy, though not for this machine itself. A
    redirect is followed within the same host only, and never changes the method. Safe to share between threads, and
    across `fork`.

    Args:
        connect_timeout: Seconds for connecting, all addresses and TLS included, without the look-up of the name;
            above 0.
        read_timeout: Seconds for each wait for the server, not for the whole; above 0.
        pool_size: Idle connections kept at most; 1 or more. More threads than that open more.

    Raises:
        TypeError: If a setting isn't a number.
        ValueError: If a setting is out of its range.

    >>> client = AppwriteClient(read_timeout=5.0).set_endpoint("http://localhost/v1").set_project("demo")
    """

    def __init__(self, *, connect_timeout: float = 2.0, read_timeout: float = 10.0, pool_size: int = 10) -> None:
        check_timeouts(connect_timeout, read_timeout, pool_size)
        super().__init__()
        self._transport = Transport(connect_timeout=connect_timeout, read_timeout=read_timeout, pool_size=pool_size)
        self._told = Warnings()
        weakref.finalize(self, self._transport.pool.close)

    def call(
        self,
        method: str,
        path: str = "",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        response_type: str = "json",
    ) -> Any:
        """Call a route, as the SDK's services do.

        Args:
            method: The HTTP method, in any case.
            path: The path behind the endpoint, unquoted: everything but `/` is quoted here.
            headers: Headers beside the client's own.
            params: The query of a GET, else what the body holds.
            response_type: `json`, `text` or `location`.

        Returns:
            What the JSON holds, or the body's bytes if it is none; its text; or the Location header.

        Raises:
            AppwriteCallError: If the call failed, in whatever way. A successful answer that isn't a JSON object, though
                the SDK expects one, is such a failure.
            TypeError: If the data can't be sent as JSON.
        """
        request = request_of(self, method, path, headers, params, response_type)
        if request is None:
            return super().call(method, path, headers, params, response_type)
        try:
            answer = self._exchange(request)
        except (ValueError, LookupError) as error:
            raise cannot_send(error) from error
        self._told.log(answer)
        return content_of(answer, request.expects)

    def close(self) -> None:
        """Close the idle connections. The client can still be used; it closes them too when it is collected."""
        self._transport.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _exchange(self, request: WireRequest) -> Answer:
        """Return the answer at the end of the redirects."""
        while True:
            answer = self._transport.exchange(request)
            following = request.after(answer)
            if following is None:
                return answer
            request = following


class Warnings:
    """Logs what the server warns of, each text once; the SDK prints it at every call."""

    def __init__(self) -> None:
        self._texts: dict[str, object] = {}

    def log(self, answer: Answer) -> None:
        """Log the warning of an answer, if it has one."""
        text = answer.headers.get("x-appwrite-warning")
        if not text or len(self._texts) >= _MOST_WARNINGS:
            return
        mine = object()
        if self._texts.setdefault(text, mine) is mine:  # in one step: of many threads, one tells it
            logger.info("Appwrite warns: %s", text)


def check_timeouts(connect_timeout: object, read_timeout: object, pool_size: object) -> None:
    """Check the settings that both clients have."""
    check_number("connect_timeout", connect_timeout, above=True)
    check_number("read_timeout", read_timeout, above=True)
    check_whole("pool_size", pool_size)
