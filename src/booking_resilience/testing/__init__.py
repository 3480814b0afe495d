"""The test kit: virtual time, an embedded Appwrite server with faults, recording chat providers, pytest fixtures.

The server needs the extra `testing`; the rest needs nothing. What needs it is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from booking_resilience.testing.chat import AsyncRecordingChatProvider, RecordingChatProvider
from booking_resilience.testing.faults import Fault
from booking_resilience.testing.time import VirtualClock, virtual_time

if TYPE_CHECKING:
    from booking_resilience.testing.appwrite_server import AppwriteServer, RecordedRequest

__all__ = [
    "AppwriteServer",
    "AsyncRecordingChatProvider",
    "Fault",
    "RecordedRequest",
    "RecordingChatProvider",
    "VirtualClock",
    "virtual_time",
]


if not TYPE_CHECKING:  # type checkers would take `__getattr__` as leave to import any name

    def __getattr__(name: str) -> Any:
        if name in ("AppwriteServer", "RecordedRequest"):
            from booking_resilience.testing import appwrite_server

            return getattr(appwrite_server, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
