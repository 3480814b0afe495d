"""The least that a hand-written closure can do for each row: what no library that keeps its promises will undercut."""

from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class RefusedError(Exception):
    """The error of a call that was refused."""


def retry(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Try three times."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        attempt = 1
        while True:
            try:
                return fn(*args, **kwargs)
            except ConnectionError:
                if attempt == 3:
                    raise
            attempt += 1

    return call


def retry_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Try three times, awaiting."""

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        attempt = 1
        while True:
            try:
                return await fn(*args, **kwargs)
            except ConnectionError:
                if attempt == 3:
                    raise
            attempt += 1

    return call


class Breaker:
    """Counts failures in a row; five of them open it for 30 s."""

    __slots__ = ("failures", "lock", "until")

    def __init__(self) -> None:
        self.failures, self.until, self.lock = 0, 0.0, threading.Lock()

    def failed(self) -> None:
        """Count a failure."""
        with self.lock:
            self.failures += 1
            if self.failures >= 5:
                self.until = time.monotonic() + 30.0

    def succeeded(self) -> None:
        """Forget the failures."""
        with self.lock:
            self.failures, self.until = 0, 0.0

    def call(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call through the breaker."""
        if self.until and time.monotonic() < self.until:
            raise RefusedError
        try:
            result = fn(*args, **kwargs)
        except Exception:
            self.failed()
            raise
        if self.failures:
            self.succeeded()
        return result


def breaker(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with a breaker."""
    state = Breaker()

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if state.until and time.monotonic() < state.until:
            raise RefusedError
        try:
            result = fn(*args, **kwargs)
        except Exception:
            state.failed()
            raise
        if state.failures:
            state.succeeded()
        return result

    return call


def breaker_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a coroutine function with a breaker."""
    state = Breaker()

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        if state.until and time.monotonic() < state.until:
            raise RefusedError
        try:
            result = await fn(*args, **kwargs)
        except Exception:
            state.failed()
            raise
        if state.failures:
            state.succeeded()
        return result

    return call


def both(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Retry around a breaker."""
    return retry(breaker(fn))


def both_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Retry around a breaker, awaiting."""
    return retry_async(breaker_async(fn))


def limit(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Let ten calls run at a time."""
    places = threading.BoundedSemaphore(10)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not places.acquire(blocking=False):
            raise RefusedError
        try:
            return fn(*args, **kwargs)
        finally:
            places.release()

    return call


def limit_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Let ten calls run at a time, awaiting."""
    running = 0

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal running
        if running >= 10:
            raise RefusedError
        running += 1
        try:
            return await fn(*args, **kwargs)
        finally:
            running -= 1

    return call


def rate(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Let a million calls begin in a second, without a lock."""
    interval = 1e-6
    even = 0.0

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal even
        now = time.monotonic()
        if even > now + 1.0:
            raise RefusedError
        even = max(even, now) + interval
        return fn(*args, **kwargs)

    return call


def rate_async(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Let a million calls begin in a second, awaiting."""
    interval = 1e-6
    even = 0.0

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal even
        now = time.monotonic()
        if even > now + 1.0:
            raise RefusedError
        even = max(even, now) + interval
        return await fn(*args, **kwargs)

    return call
