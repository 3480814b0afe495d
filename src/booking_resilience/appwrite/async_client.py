"""`AsyncAppwriteClient`: the SDK's client and services without blocking, under asyncio or trio.

The SDK's methods are synchronous: they make a request, wait for `Client.call`, and make a model of the answer. So a
method runs twice. The first time `call` takes the request and stops the method; then the request is sent and its
answer awaited; the second time `call` gives the answer, and the method makes its model of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MethodType, TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from booking_resilience.appwrite.answers import Answer, content_of
from booking_resilience.appwrite.client import Warnings, check_timeouts
from booking_resilience.appwrite.sdk import Client, plain_method
from booking_resilience.appwrite.wire import WireRequest, cannot_send, request_of
from booking_resilience.callbacks import is_coroutine_function

P = ParamSpec("P")
T = TypeVar("T")

_current: ContextVar[_Passes | None] = ContextVar("booking_resilience_appwrite_pass", default=None)


class AsyncAppwriteClient(Client):
    """A client of the Appwrite SDK, with all its setters, for asyncio and trio.

    Make the SDK's services with it as with any client, and await their methods through `run`:
    `await client.run(tables.get_row, "db", "table", "id")`. Its connections, waits, errors and redirects are those of
    `AppwriteClient`; the deadline bounds the whole call, from the look-up of the name to the last byte. A call that is
    cancelled closes its connection; whether it was carried out is open then. One client serves one event loop at a
    time; after `aclose` another one may use it. Needs the extra `appwrite-async`.

    Args:
        connect_timeout: Seconds for connecting, the look-up of the name, all addresses and TLS included; above 0.
        read_timeout: Seconds for each wait for the server, not for the whole; above 0.
        pool_size: Idle connections kept at most; 1 or more. More calls than that at once open more.

    Raises:
        TypeError: If a setting isn't a number.
        ValueError: If a setting is out of its range.
    """

    is_asynchronous = True

    def __init__(self, *, connect_timeout: float = 2.0, read_timeout: float = 10.0, pool_size: int = 100) -> None:
        check_timeouts(connect_timeout, read_timeout, pool_size)
        from booking_resilience.appwrite.async_transport import AsyncTransport  # httpx2 is only needed here

        super().__init__()
        self._transport = AsyncTransport(
            connect_timeout=connect_timeout, read_timeout=read_timeout, pool_size=pool_size
        )
        self._told = Warnings()

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await a method of one of the SDK's services, and return what it returns.

        Args:
            fn: The method, of a service made with this client: `tables.get_row`. The client's own `call` does as well.
            args: Its arguments.
            kwargs: Its keyword arguments.

        Raises:
            AppwriteCallError: If the call failed, in whatever way.
            TypeError: If `fn` is no such method, makes no request or uploads a file: nothing was sent. If it makes a
                second request: the first was carried out.
        """
        self._check(fn)
        passes = _Passes(self)
        with contextlib.suppress(_Asked):
            passes.run(fn, args, kwargs)
        if passes.request is None:
            name = getattr(fn, "__qualname__", repr(fn))
            raise TypeError(f"{name} makes no request that `run` could await; nothing was sent: call it directly")
        try:
            passes.answer = await self._exchange(passes.request)
        except Exception as error:  # noqa: BLE001 - the method is told, as it would have been by `call`
            passes.answer = error
        result = passes.run(fn, args, kwargs)
        if passes.has_more:  # and the method has swallowed what it was told
            raise _second_request()
        return cast("T", result)

    def call(
        self,
        method: str,
        path: str = "",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        response_type: str = "json",
    ) -> Any:
        """Call a route on behalf of the SDK's services: only within `run`.

        Raises:
            TypeError: If it is called directly; nothing was sent.
        """
        current = _current.get()
        if current is None or current.client is not self:
            raise TypeError(
                "a service of an AsyncAppwriteClient was called directly; await it: "
                "`await client.run(service.method, …)`"
            )
        return current.call(lambda: request_of(self, method, path, headers, params, response_type))

    def chunked_upload(self, *_: object, **__: object) -> Any:
        """Refuse an upload.

        Raises:
            TypeError: Always; nothing was sent.
        """
        raise _no_upload()

    async def aclose(self) -> None:
        """Close the connections. Calls that are under way end first or fail; another event loop may use it then.

        Await it in the event loop that used the client. If that has ended, any other one will do.
        """
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def _check(self, fn: object) -> None:
        owner = fn.__self__ if isinstance(fn, MethodType) else None
        if owner is None or (owner is not self and getattr(owner, "client", None) is not self):
            raise TypeError(
                f"run takes a method of an SDK service made with this client, as in `await client.run(tables.get_row, "
                f"…)`, not {fn!r}"
            )
        if is_coroutine_function(fn):
            raise TypeError(f"run takes a method of an SDK service; {fn!r} is a coroutine function: await it itself")

    async def _exchange(self, request: WireRequest) -> Answer:
        """Return the answer at the end of the redirects."""
        try:
            while True:
                answer = await self._transport.exchange(request)
                following = request.after(answer)
                if following is None:
                    break
                request = following
        except (ValueError, LookupError) as error:
            raise cannot_send(error) from error
        self._told.log(answer)
        return answer


class _Asked(BaseException):
    """Stops a method in its first pass, past every `except Exception` in it."""


class _Passes:
    """The two runs of a method: the first takes its request, the second gives it the answer.

    Attributes:
        client: Whose `call` it is.
        request: The request, once it was made.
        answer: What came of it, until the method has been told.
        has_more: Whether the method asked again after its answer.
    """

    def __init__(self, client: AsyncAppwriteClient) -> None:
        self.client = client
        self.request: WireRequest | None = None
        self.answer: Answer | Exception | None = None
        self.has_more = False

    def run(self, method: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run the method."""
        token = _current.set(self)
        try:
            return plain_method(method)(*args, **kwargs)
        finally:
            _current.reset(token)

    def call(self, make: Callable[[], WireRequest | None]) -> Any:
        """Stand in for the client's `call`."""
        if self.request is None:
            self.request = make()
            raise _no_upload() if self.request is None else _Asked
        answer, self.answer = self.answer, None
        if answer is None:
            self.has_more = True
            raise _second_request()
        if isinstance(answer, Exception):
            try:
                raise answer
            finally:
                del answer  # its traceback leads back to this frame
        return content_of(answer, self.request.expects)


def _second_request() -> TypeError:
    return TypeError(
        "a second request of one method can't be awaited, and was not sent; the first was carried out. Use "
        "AppwriteClient in a thread: `await asyncio.to_thread(…)`"
    )


def _no_upload() -> TypeError:
    return TypeError(
        "an upload can't be awaited, nothing was sent; use AppwriteClient in a thread: `await asyncio.to_thread(…)`"
    )
