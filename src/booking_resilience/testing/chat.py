"""Chat providers that keep what they are told."""

from __future__ import annotations

from booking_resilience.booking import BookingSuccess


class RecordingChatProvider:
    """A `ChatProvider` for tests.

    Args:
        error: What to raise instead of keeping the event; None for nothing.

    Attributes:
        events: The events it was told of, in order.
    """

    def __init__(self, *, error: Exception | None = None) -> None:
        self.error = error
        self.events: list[BookingSuccess] = []

    def handle_booking_success(self, event: BookingSuccess) -> None:
        """Keep the event."""
        if self.error is not None:
            raise self.error
        self.events.append(event)


class AsyncRecordingChatProvider:
    """An `AsyncChatProvider` for tests.

    Args:
        error: What to raise instead of keeping the event; None for nothing.

    Attributes:
        events: The events it was told of, in order.
    """

    def __init__(self, *, error: Exception | None = None) -> None:
        self._provider = RecordingChatProvider(error=error)
        self.events: list[BookingSuccess] = self._provider.events

    async def handle_booking_success(self, event: BookingSuccess) -> None:
        """Keep the event."""
        self._provider.handle_booking_success(event)
