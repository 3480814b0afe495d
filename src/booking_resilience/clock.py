"""The only place that reads the time and sleeps.

The rest of the library asks this module, as `clock.monotonic()` and so on, so that `install` can put another clock
in its place for the whole process (the test kit's virtual time does). `monotonic` is the C function itself, not a
wrapper: it is called on the path of every call. freezegun replaces it here as it does everywhere.
"""

from __future__ import annotations

import datetime
import functools
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Clock(Protocol):
    """A source of time. Durations are float seconds, moments aware UTC datetimes."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes backwards; only differences are meaningful."""
        ...

    def utc_now(self) -> datetime.datetime:
        """Return the current time, aware, in UTC."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Block the calling thread."""
        ...

    async def sleep_async(self, seconds: float, /) -> None:
        """Suspend the calling task, under asyncio or trio."""
        ...


class SystemClock:
    """The machine's clock. Each method looks up `time` when it is called, so that patching works."""

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def utc_now(self) -> datetime.datetime:
        """Return the system's time, in UTC."""
        return datetime.datetime.now(datetime.UTC)

    def sleep(self, seconds: float, /) -> None:
        """Call `time.sleep`."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float, /) -> None:
        """Sleep in the event loop that runs this task: trio's if trio runs it, else asyncio's."""
        if in_trio():
            import trio

            await trio.sleep(seconds)
        else:
            import asyncio

            await asyncio.sleep(seconds)


def in_trio() -> bool:
    """Tell whether the calling code runs in a trio task."""
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)  # trio may be half imported, by another thread
    tells = getattr(lowlevel, "in_trio_task", None)
    return tells is not None and bool(tells())


async def off_loop(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return what `fn` returns, called in a thread; under asyncio or trio."""
    if in_trio():
        import trio

        return await trio.to_thread.run_sync(functools.partial(fn, *args, **kwargs))
    import asyncio

    return await asyncio.to_thread(fn, *args, **kwargs)


_system = SystemClock()
_installed: Clock = _system

monotonic: Callable[[], float] = time.monotonic
monotonic_ns: Callable[[], int] = time.monotonic_ns  # the same in whole nanoseconds
timestamp: Callable[[], float] = time.time  # the moment of `utc_now`, as seconds since 1970, at a tenth of its cost
utc_now: Callable[[], datetime.datetime] = _system.utc_now
sleep: Callable[[float], None] = _system.sleep
sleep_async: Callable[[float], Awaitable[None]] = _system.sleep_async


def is_virtual() -> bool:
    """Tell whether another clock than the machine's own is installed: one whose sleeps may return at once."""
    return _installed is not _system


def install(clock: Clock | None) -> Clock | None:
    """Make `clock` the clock of the whole process.

    Args:
        clock: The clock to use from now on; None for the machine's own.

    Returns:
        The clock installed before, to be restored later; None if it was the machine's own.
    """
    global _installed, monotonic, monotonic_ns, timestamp, utc_now, sleep, sleep_async
    before, _installed = _installed, clock or _system
    monotonic = clock.monotonic if clock else time.monotonic
    monotonic_ns = (lambda: int(clock.monotonic() * 1e9)) if clock else time.monotonic_ns
    timestamp = (lambda: clock.utc_now().timestamp()) if clock else time.time
    utc_now, sleep, sleep_async = _installed.utc_now, _installed.sleep, _installed.sleep_async
    return None if before is _system else before
