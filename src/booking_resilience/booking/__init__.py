"""What is known of a booking: its source, its chat, what to tell people."""

from booking_resilience.booking.chat import (
    AsyncChatProvider,
    AsyncChatService,
    BookingSuccess,
    ChatMessage,
    ChatProvider,
    ChatRoom,
    ChatService,
    Page,
    iter_messages,
    iter_messages_async,
)
from booking_resilience.booking.messages import message_for
from booking_resilience.booking.source import BookingSource, booking_attribution, resolve_source

__all__ = [
    "AsyncChatProvider",
    "AsyncChatService",
    "BookingSource",
    "BookingSuccess",
    "ChatMessage",
    "ChatProvider",
    "ChatRoom",
    "ChatService",
    "Page",
    "booking_attribution",
    "iter_messages",
    "iter_messages_async",
    "message_for",
    "resolve_source",
]
