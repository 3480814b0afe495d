"""Where a booking came from."""

from __future__ import annotations

import enum
from typing import Final, TypedDict

from booking_resilience.checks import check, check_type


class BookingSource(enum.StrEnum):
    """Where a booking was made; the booking is stored with its value."""

    BOOKING_BUTTON = "bookingButton"
    """The Book Now button; the default."""
    CHAT_WINDOW = "chatWindow"
    """Inside the chat."""
    MENU_SLIDER = "menuSlider"
    """A choice in the service menu."""
    SCHEDULED = "scheduled"
    """A scheduled appointment."""
    PRICE_SLIDER = "priceSlider"
    """The price slider."""
    DIRECT = "direct"
    """A direct API call."""


class Attribution(TypedDict):
    """The four fields that say where a booking came from."""

    source: str
    chatWindowOpen: bool
    mode: str
    bookingType: str


_TYPES: Final = ("immediate", "scheduled")


def resolve_source(
    *, booking_type: str | None = None, chat_window_open: bool = False, source: BookingSource | str | None = None
) -> BookingSource:
    """Return where a booking came from.

    A source named by the caller wins; else a scheduled booking is `SCHEDULED`; else, with the chat window open, it is
    `CHAT_WINDOW`; else `BOOKING_BUTTON`.

    Args:
        booking_type: `immediate` or `scheduled`; None means `immediate`.
        chat_window_open: Whether the chat window was open.
        source: The source that the caller names: a member, or exactly one of the six strings.

    Raises:
        TypeError: If `chat_window_open` is neither True nor False: the text "false" would count as True.
        ValueError: If the booking type or the source is unknown; the error lists those that are known.

    >>> resolve_source(chat_window_open=True)
    <BookingSource.CHAT_WINDOW: 'chatWindow'>
    """
    check_type("chat_window_open", chat_window_open, isinstance(chat_window_open, bool), "True or False")
    kind = _booking_type(booking_type)
    if source is not None:
        known = [each.value for each in BookingSource]
        check("source", source, source in known, f"one of {', '.join(map(repr, known))}")
        return BookingSource(source)
    if kind == "scheduled":
        return BookingSource.SCHEDULED
    return BookingSource.CHAT_WINDOW if chat_window_open else BookingSource.BOOKING_BUTTON


def booking_attribution(
    *, booking_type: str | None, chat_window_open: bool = False, source: BookingSource | str | None = None
) -> Attribution:
    """Return the four fields that every stored booking carries; arguments and errors as for `resolve_source`.

    >>> booking_attribution(booking_type="immediate", chat_window_open=True)
    {'source': 'chatWindow', 'chatWindowOpen': True, 'mode': 'immediate', 'bookingType': 'immediate'}
    """
    kind = _booking_type(booking_type)
    resolved = resolve_source(booking_type=kind, chat_window_open=chat_window_open, source=source)
    return {"source": resolved.value, "chatWindowOpen": chat_window_open, "mode": kind, "bookingType": kind}


def _booking_type(booking_type: str | None) -> str:
    if booking_type is None:
        return "immediate"
    check("booking_type", booking_type, booking_type in _TYPES, f"one of {', '.join(map(repr, _TYPES))}, or None")
    return str(booking_type)
