"""Waking a thread or a task that waits, from any thread."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from booking_resilience import clock


class ThreadSignal:
    """Wakes one waiting thread. A wake that comes before the wait ends it at once.

    A lock that the waiting thread holds and any other may release: unlike an event, a single step of the interpreter,
    which no signal's handler comes in the middle of.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> bool:
        """Wake the thread."""
        with contextlib.suppress(RuntimeError):  # it was woken before
            self._lock.release()
        return True

    def is_there(self) -> bool:
        """Tell whether somebody may wait for it: always."""
        return True

    def wait(self, seconds: float | None) -> bool:
        """Block until woken, for `seconds` at most; None for as long as it takes. Real time.

        Returns:
            Whether it was woken.
        """
        return self._lock.acquire(timeout=-1.0 if seconds is None else min(max(0.0, seconds), threading.TIMEOUT_MAX))


class TaskSignal:
    """Wakes one waiting task of asyncio or trio, whichever runs the code that makes the signal."""

    __slots__ = ("_call_soon", "_event", "_is_late", "_loop", "_new_event")

    def __init__(self) -> None:
        if clock.in_trio():
            import trio

            self._loop: Any = None
            self._call_soon: Any = trio.lowlevel.current_trio_token().run_sync_soon
            self._new_event: Any = trio.Event
        else:
            import asyncio

            self._loop = asyncio.get_running_loop()
            self._call_soon = self._loop.call_soon_threadsafe
            self._new_event = asyncio.Event
        self._event = self._new_event()
        self._is_late = False

    def wake(self) -> bool:
        """Wake the task; return False if its event loop is gone."""
        try:
            self._call_soon(self._arrive)
        except RuntimeError:  # closed; trio's RunFinishedError is one, too
            return False
        return True

    def is_there(self) -> bool:
        """Tell whether its event loop is known to be there. Of trio's only a `wake` can tell."""
        return self._loop is not None and not self._loop.is_closed()

    async def wait(self, seconds: float | None) -> bool:
        """Suspend until woken, for `seconds` at most; None for as long as it takes. The event loop's time.

        Returns:
            Whether it was woken in time.
        """
        was_woken = True
        if seconds is None:
            await self._event.wait()
        elif self._loop is None:
            import trio

            with trio.move_on_after(max(0.0, seconds)) as scope:
                await self._event.wait()
            was_woken = not scope.cancelled_caught
        else:
            self._is_late = False
            timer = self._loop.call_later(seconds, self._give_up)
            try:
                await self._event.wait()
            finally:
                timer.cancel()
            was_woken = not self._is_late
        self._event = self._new_event()
        return was_woken

    def _arrive(self) -> None:
        self._event.set()

    def _give_up(self) -> None:
        self._is_late = True
        self._event.set()
