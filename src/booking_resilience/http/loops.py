"""The loops around the attempts of a request, one for each colour. What to do, the `Exchange` says.

The sleep is outside of the `except` block, so that the next attempt's error does not get this one's as context.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from booking_resilience.cutoff import cut_off
from booking_resilience.errors import DeadlineExceededError
from booking_resilience.http.rules import Exchange

T = TypeVar("T")


def send(
    exchange: Exchange, once: Callable[[], T], judge: Callable[[T], Exception | None], close: Callable[[T], object]
) -> T:
    """Make the attempts of a request and return the last one's response.

    Args:
        exchange: The request.
        once: Makes one attempt.
        judge: Returns the error that stands for a response with a status of 400 or more, else None.
        close: Closes a response, without reading what is left of it.
    """
    try:
        while True:
            try:
                exchange.attempt()
                response = once()
            except BaseException as error:
                if not exchange.goes_on_after(error):
                    raise
            else:
                if not exchange.goes_on_with(judge(response)):
                    return response
                close(response)
            exchange.pause()
    finally:
        exchange.close()


async def send_async(
    exchange: Exchange,
    once: Callable[[], Coroutine[Any, Any, T]],
    judge: Callable[[T], Exception | None],
    close: Callable[[T], Awaitable[object]],
) -> T:
    """Do as `send` in an event loop, cutting off each attempt at its end."""
    try:
        while True:
            try:
                exchange.attempt()
                if exchange.stop is None:
                    response = await once()
                else:
                    kind = DeadlineExceededError if exchange.stop == exchange.end else TimeoutError
                    response = await cut_off(once(), exchange.stop, kind, exchange.operation, exchange.is_own)
            except BaseException as error:
                if not exchange.goes_on_after(error):
                    raise
            else:
                if not exchange.goes_on_with(judge(response)):
                    return response
                await close(response)
            await exchange.pause_async()
    finally:
        exchange.close()
