"""The middleware for Django, whose views' errors no WSGI or ASGI middleware ever sees."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from booking_resilience.checks import check_type
from booking_resilience.web.problems import problem_for
from booking_resilience.web.resilience import DEADLINE_HEADER, HasContext, Requests


class ResilienceDjango:
    """Does the same as `Resilience` for a Django project, sync or async.

    Write a function under `django.utils.decorators.sync_and_async_middleware` that returns it, with its settings, and
    name that function in `MIDDLEWARE`; without settings name the class itself. It is a coroutine function where
    `get_response` is one.

    Args:
        get_response: What Django gives to a middleware.
        monitor: The `ErrorMonitor` whose records get the context, or None.
        deadline: Seconds for each request, 0 or more; None for no deadline but the header's.
        deadline_header: The request header that brings a deadline, in whole milliseconds from 1 to 3,600,000.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of its range.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self,
        get_response: Callable[[Any], Any],
        *,
        monitor: HasContext | None = None,
        deadline: float | None = None,
        deadline_header: str = DEADLINE_HEADER,
    ) -> None:
        check_type("get_response", get_response, callable(get_response), "what Django gives to a middleware")
        self._get_response = get_response
        self._requests = Requests(monitor, deadline, deadline_header)
        self._is_async = _is_coroutine_function(get_response)
        if self._is_async:
            _mark(self)

    def __call__(self, request: Any) -> Any:
        """Serve one request."""
        if self._is_async:
            return self._serve_async(request)
        with ExitStack() as stack:
            self._enter(stack, request)
            return self._get_response(request)

    def process_exception(self, request: Any, error: Exception) -> Any:  # noqa: ARG002 - Django calls it so
        """Answer a view's error, if `problem_for` knows it."""
        problem = problem_for(error)
        if problem is None:
            return None
        from django.http import HttpResponse  # type: ignore[import-untyped] # Django has no annotations

        return HttpResponse(problem.body, status=problem.status, headers=problem.headers)

    async def _serve_async(self, request: Any) -> Any:
        with ExitStack() as stack:
            self._enter(stack, request)
            return await self._get_response(request)

    def _enter(self, stack: ExitStack, request: Any) -> None:
        timeouts, ids = (
            [request.headers[name]] if name in request.headers else []
            for name in (self._requests.header, "X-Request-ID")
        )
        self._requests.enter(stack, timeouts, ids, request.method, request.path)


def _is_coroutine_function(fn: Any) -> bool:
    from asgiref.sync import iscoroutinefunction

    return bool(iscoroutinefunction(fn))


def _mark(middleware: ResilienceDjango) -> None:
    """Make Django treat the object as a coroutine function."""
    from asgiref.sync import markcoroutinefunction

    markcoroutinefunction(middleware)
