"""The live numbers as server-sent events: made once for all viewers, and sent to each as fast as it reads.

There is no queue. A viewer that is ready for more gets the newest frames, whatever it missed; one that doesn't read
waits in `send` and only occupies its socket's buffer. Recording an error involves none of this.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from booking_resilience import clock
from demo_parts import LISTED_ERRORS, listed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from booking_resilience import MonitorSnapshot
    from demo_parts import Demo

RECONNECT_MS = 1000
"""After how long a browser connects again."""


class Hub:
    """Makes the frames, and gives the newest ones to each viewer.

    Args:
        demo: Where the numbers come from.
        interval: Seconds between two states; above 0.
        samples: How many values of the error rate to keep for the chart.
        max_viewers: The most viewers at a time.
    """

    def __init__(self, demo: Demo, *, interval: float = 0.5, samples: int = 600, max_viewers: int = 1000) -> None:
        self.viewers = 0
        self._demo, self._interval, self._max_viewers = demo, interval, max_viewers
        self._instance = uuid.uuid4().hex
        self._samples: deque[tuple[int, float]] = deque(maxlen=samples)
        self._state = self._errors = b""
        self._listed: list[str] | None = None
        self._tick = asyncio.Event()
        self._is_closed = False

    @property
    def is_full(self) -> bool:
        """Whether there are as many viewers as allowed."""
        return self.viewers >= self._max_viewers

    async def run(self) -> None:
        """Take the numbers every `interval` seconds until cancelled; make frames only while somebody watches."""
        async for snapshot in self._demo.monitor.watch(self._interval):
            self._samples.append((_now_ms(), round(snapshot.error_rate, 2)))
            if self.viewers:
                self._make_frames(snapshot)
            self._wake()

    def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        self._wake()

    def overview(self) -> dict[str, Any]:
        """Return everything that a page needs at first."""
        snapshot = self._demo.monitor.snapshot()
        return {**self._hello(), "state": self._demo.state(snapshot), "errors": _newest(snapshot)}

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield new frames whenever there are any; a slow viewer misses those in between."""
        self._make_frames(self._demo.monitor.snapshot())
        yield f"retry: {RECONNECT_MS}\n".encode() + _frame("hello", self._hello())
        seen = b""
        while not self._is_closed:
            tick = self._tick  # taken before sending: a frame that comes meanwhile isn't missed
            if self._errors is not seen:
                seen = self._errors
                yield seen
            yield self._state
            await tick.wait()

    def _hello(self) -> dict[str, Any]:
        settings = {"instance": self._instance, "interval": self._interval, **self._demo.settings()}
        return {**settings, "now": _now_ms(), "history": list(self._samples)}

    def _make_frames(self, snapshot: MonitorSnapshot) -> None:
        facts = {"now": _now_ms(), "viewers": self.viewers, **self._demo.state(snapshot)}
        self._state = _frame("state", facts)
        ids = [record.id for record in snapshot.recent_errors[:LISTED_ERRORS]]
        if ids != self._listed:
            self._listed, self._errors = ids, _frame("errors", _newest(snapshot))

    def _wake(self) -> None:
        tick, self._tick = self._tick, asyncio.Event()
        tick.set()


class EventStream(Response):
    """Sends the hub's frames until the viewer disconnects or the hub closes."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send; leave nothing behind, however it ends."""
        if scope["method"] == "HEAD":
            await self._send_head(send, more=False)
            return
        self._hub.viewers += 1
        frames = self._hub.frames()
        sending = asyncio.ensure_future(self._send_all(frames, send))
        leaving = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._hub.viewers -= 1
            sending.cancel()
            leaving.cancel()
            ended = await asyncio.gather(sending, leaving, return_exceptions=True)
            await frames.aclose()
        for error in ended:
            if isinstance(error, Exception):  # a cancelled task is none
                raise error

    async def _send_all(self, frames: AsyncGenerator[bytes, None], send: Send) -> None:
        await self._send_head(send)
        async for frame in frames:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_head(self, send: Send, *, more: bool = True) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if not more:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _newest(snapshot: MonitorSnapshot) -> list[dict[str, Any]]:
    return [listed(record) for record in snapshot.recent_errors[:LISTED_ERRORS]]


def _frame(event: str, facts: Any) -> bytes:
    """Return a server-sent event; JSON has no line breaks, so its data is one line."""
    return f"event: {event}\ndata: {json.dumps(facts, separators=(',', ':'), allow_nan=False)}\n\n".encode()


def _now_ms() -> int:
    return round(clock.utc_now().timestamp() * 1000)
