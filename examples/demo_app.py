"""The demo's web application: the page, the dashboard, the tests, bookings, downloads and the stream.

`create_app(demo)` makes it. Everything runs in the event loop; only the downloads, which keep the processor busy,
are made in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from booking_flow import BookingError
from booking_resilience import CircuitOpenError, ResilienceError, message_for
from booking_resilience.appwrite import RowConflictError, SlotTakenError
from booking_resilience.dashboard import dashboard
from booking_resilience.web import IdempotencyKey, problem_for
from demo_forms import BODY_LIMIT, FormError, parse_booking, read_body
from demo_guard import Guard, page_policy
from demo_stream import EventStream, Hub

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.requests import Request

    from booking_flow import BookingRequest
    from demo_durable import KeptBookings
    from demo_parts import Demo

PAGE = Path(__file__).with_name("demo.html")
DATA_MESSAGE = "Booking data error. Please try again or contact support."
BUSY_MESSAGE = "Service temporarily unavailable. Please try again in a moment."
MOST_BOOKINGS = 80
"""Bookings under way at a time; more are refused."""


class Api:
    """The routes.

    Args:
        demo: The parts to serve.
        hub: The source of the stream.
    """

    def __init__(self, demo: Demo, hub: Hub) -> None:
        self._demo, self._hub = demo, hub
        self._page = PAGE.read_text(encoding="utf-8")
        self._policy = page_policy(self._page)
        self._downloads = CapacityLimiter(2)
        self._under_way = 0

    def routes(self) -> list[Route | Mount]:
        """Return the routes."""
        return [
            Route("/", self.page),
            Route("/favicon.ico", self.no_icon),
            Route("/api/test-retry", self.simulate_retry, methods=["POST"]),
            Route("/api/test-fail", self.simulate_failure, methods=["POST"]),
            Route("/api/bookings", self.book, methods=["POST"]),
            Route("/api/waiting", self.waiting),
            Route("/api/waiting/{id}/{action}", self.hurry_or_cancel, methods=["POST"]),
            Route("/api/stats", self.stats),
            Route("/api/stream", self.stream),
            Route("/api/errors.json", self.errors_json),
            Route("/api/errors.csv", self.errors_csv),
            Route("/api/errors/{record_id}", self.error),
            Mount("/errors", dashboard(self._demo.monitor, breakers=[self._demo.breaker], title="Booking errors")),
        ]

    async def page(self, _request: Request) -> Response:
        """The form and the tests."""
        headers = {"Content-Security-Policy": self._policy, "Cache-Control": "no-cache"}
        return HTMLResponse(self._page, headers=headers)

    async def no_icon(self, _request: Request) -> Response:
        """Nothing: the page contains its icon."""
        return Response(status_code=204)

    async def simulate_retry(self, _request: Request) -> Response:
        """Network failures, and how a retry survives them."""
        return JSONResponse(await self._demo.simulate_retry())

    async def simulate_failure(self, _request: Request) -> Response:
        """A failure; or, when the breaker is open, its rejection."""
        try:
            self._demo.simulate_failure()
        except CircuitOpenError as error:
            return self._unavailable(error, message_for(error))
        except ConnectionError as error:
            facts = {"message": message_for(error), "error": f"{type(error).__name__}: {error}"}
            return JSONResponse({**facts, "breaker": self._demo.breaker_state()}, 502)
        raise AssertionError("the failure did not fail")

    async def book(self, request: Request) -> Response:
        """A booking, by the real workflow."""
        kind = request.headers.get("content-type", "application/json")
        body = await read_body(request)
        if kind.partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "the request must be application/json")
        try:
            asked = parse_booking(body)
        except FormError as error:
            return JSONResponse({"message": DATA_MESSAGE, "errors": error.problems}, 422)
        if self._demo.kept is not None:
            return await self._receive(self._demo.kept, asked)
        if self._under_way >= MOST_BOOKINGS:
            return JSONResponse({"message": BUSY_MESSAGE}, 503, {"Retry-After": "1"})
        self._under_way += 1
        try:
            result = await self._demo.book(asked)
        except BookingError as error:
            cause = error.__cause__
            if isinstance(cause, CircuitOpenError):
                return self._unavailable(cause, error.message)
            if isinstance(cause, (RowConflictError, SlotTakenError)) and (problem := problem_for(cause)) is not None:
                return Response(problem.body, problem.status, problem.headers)
            if error.message == DATA_MESSAGE:  # it passed here, but not the backend
                return JSONResponse({"message": error.message, "errors": {"body": "was rejected by the backend"}}, 422)
            facts = {"message": error.message, **({"unknown": True} if error.unknown else {})}
            return JSONResponse(facts, 503)
        finally:
            self._under_way -= 1
        return JSONResponse(result.to_payload(), 201)

    async def _receive(self, kept: KeptBookings, asked: BookingRequest) -> Response:
        """Answer as soon as a booking is kept."""
        try:
            booking_id = await kept.receive(asked)
        except ValueError:
            return JSONResponse({"message": DATA_MESSAGE, "errors": {"body": "differs from this key's booking"}}, 422)
        except ResilienceError:  # the file is in trouble
            return JSONResponse({"message": BUSY_MESSAGE}, 503, {"Retry-After": "1"})
        return JSONResponse({"id": booking_id, "received": True}, 202)

    async def waiting(self, _request: Request) -> Response:
        """The bookings that wait, since when and why."""
        kept = self._demo.kept
        if kept is None:
            return JSONResponse({"durable": False, "waiting": []})
        try:
            return JSONResponse({"durable": True, "waiting": await kept.waiting()})
        except ResilienceError:
            return JSONResponse({"message": BUSY_MESSAGE}, 503, {"Retry-After": "1"})

    async def hurry_or_cancel(self, request: Request) -> Response:
        """Try a booking now, or cancel it; tell whether that was accepted."""
        kept, action = self._demo.kept, request.path_params["action"]
        if kept is None or action not in ("try-now", "cancel"):
            raise HTTPException(404, "there is no such thing here")
        ask = kept.durable.try_now_async if action == "try-now" else kept.durable.cancel_async
        try:
            return JSONResponse({"accepted": await ask(request.path_params["id"])})
        except KeyError:
            raise HTTPException(404, "there is no such booking") from None
        except ResilienceError:
            return JSONResponse({"message": BUSY_MESSAGE}, 503, {"Retry-After": "1"})

    async def stats(self, _request: Request) -> Response:
        """The numbers, once."""
        return JSONResponse(self._hub.overview())

    async def stream(self, _request: Request) -> Response:
        """The numbers, live."""
        if self._hub.is_full:
            return JSONResponse({"message": "too many are watching"}, 503, {"Retry-After": "5"})
        return EventStream(self._hub)

    async def errors_json(self, _request: Request) -> Response:
        """All errors in the monitor, as JSON."""
        return await self._download(self._demo.monitor.to_json, "errors.json", "application/json")

    async def errors_csv(self, _request: Request) -> Response:
        """All errors in the monitor, as CSV."""
        return await self._download(self._demo.monitor.to_csv, "errors.csv", "text/csv")

    async def error(self, request: Request) -> Response:
        """One error, with its stack, attempts and context."""
        facts = self._demo.details(request.path_params["record_id"])
        if facts is None:
            raise HTTPException(404, "this error is no longer kept")
        return JSONResponse(facts)

    async def _download(self, make: Callable[[], str], name: str, media_type: str) -> Response:
        text = await to_thread.run_sync(make, limiter=self._downloads)
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(text, headers=headers, media_type=media_type)

    def _unavailable(self, error: CircuitOpenError, message: str) -> Response:
        wait = 30.0 if error.retry_after is None else error.retry_after
        facts: dict[str, Any] = {"message": message, "error": str(error), "retry_after": error.retry_after}
        headers = {"Retry-After": str(max(1, math.ceil(wait)))}
        return JSONResponse({**facts, "breaker": self._demo.breaker_state()}, 503, headers)


def create_app(demo: Demo, hub: Hub, *, host: str = "127.0.0.1") -> Starlette:
    """Return the application.

    Args:
        demo: The parts to serve.
        hub: The source of its stream; runs while the application does.
        host: The address that it will be served at, for the check of the Host header.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None, None]:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(hub.run())
            yield
            hub.close()
            running.cancel()
        await demo.aclose()

    return Starlette(
        routes=Api(demo, hub).routes(),
        middleware=[Middleware(Guard, host=host), Middleware(IdempotencyKey, max_body=BODY_LIMIT)],
        exception_handlers={HTTPException: _say, ClientDisconnect: _gone, 500: _broken},
        lifespan=lifespan,
    )


async def _say(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these
    return JSONResponse({"message": error.detail}, error.status_code, error.headers)


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _broken(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"message": "something went wrong"}, 500)  # what, is in the log
