from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience.booking import BookingSource, booking_attribution, resolve_source

SIX = ["bookingButton", "chatWindow", "menuSlider", "scheduled", "priceSlider", "direct"]


def test_there_are_six_sources_with_the_values_that_are_stored():
    """The enum's values are the six texts, in their order."""
    assert [source.value for source in BookingSource] == SIX


@pytest.mark.parametrize(
    ("booking_type", "chat_window_open", "expected"),
    [
        (None, False, "bookingButton"),
        ("immediate", False, "bookingButton"),
        (None, True, "chatWindow"),
        ("immediate", True, "chatWindow"),
        ("scheduled", False, "scheduled"),
        ("scheduled", True, "scheduled"),
    ],
)
def test_without_a_named_source_type_and_chat_window_decide(booking_type, chat_window_open, expected):
    """A scheduled booking is `scheduled`, else an open chat window counts, else the button."""
    found = resolve_source(booking_type=booking_type, chat_window_open=chat_window_open)
    assert found is BookingSource(expected)


@pytest.mark.parametrize("text", SIX)
def test_a_source_named_by_the_caller_wins(text):
    """Whatever the type and the chat window are, a source that is named is the one, as text or as member."""
    for booking_type, is_open in itertools.product([None, "immediate", "scheduled"], [True, False]):
        for named in (text, BookingSource(text)):
            found = resolve_source(booking_type=booking_type, chat_window_open=is_open, source=named)
            assert found is BookingSource(text)


@given(st.text().filter(lambda text: text not in SIX))
def test_an_unknown_source_is_refused_with_the_six_listed(text):
    """Any other text raises a `ValueError` that names it and lists the six."""
    with pytest.raises(ValueError, match="source must be one of") as caught:
        resolve_source(source=text)
    assert repr(text) in str(caught.value)
    assert all(repr(known) in str(caught.value) for known in SIX)


@pytest.mark.parametrize("source", ["chatwindow", "CHAT_WINDOW", " direct", "", 3, ["direct"]])
def test_sources_are_matched_exactly(source):
    """Case, spaces, member names and other types do not pass for a source."""
    with pytest.raises(ValueError, match="bookingButton"):
        resolve_source(source=source)


@pytest.mark.parametrize("booking_type", ["", "later", "Immediate", 1, ["immediate"]])
def test_an_unknown_booking_type_is_refused(booking_type):
    """A booking type is `immediate`, `scheduled` or None; another raises, also when a source is named."""
    with pytest.raises(ValueError, match="'immediate', 'scheduled'"):
        resolve_source(booking_type=booking_type, source="direct")
    with pytest.raises(ValueError, match="booking_type"):
        booking_attribution(booking_type=booking_type)


def test_attribution_has_the_four_fields():
    """The stored fields are plain values with the names of the stored row."""
    assert booking_attribution(booking_type="immediate", chat_window_open=True) == {
        "source": "chatWindow",
        "chatWindowOpen": True,
        "mode": "immediate",
        "bookingType": "immediate",
    }
    scheduled = booking_attribution(booking_type="scheduled", source="priceSlider")
    assert scheduled == {
        "source": "priceSlider",
        "chatWindowOpen": False,
        "mode": "scheduled",
        "bookingType": "scheduled",
    }
    assert type(scheduled["source"]) is str


def test_no_booking_type_means_immediate():
    """None is stored as `immediate`."""
    stored = booking_attribution(booking_type=None)
    assert (stored["mode"], stored["bookingType"], stored["source"]) == ("immediate", "immediate", "bookingButton")


def test_the_source_is_resolved_from_the_type_that_is_stored():
    """A scheduled booking with no source named is stored as `scheduled`; with nothing known it is the button."""
    stored = booking_attribution(booking_type="scheduled", chat_window_open=True)
    assert (stored["source"], stored["mode"]) == ("scheduled", "scheduled")
    assert resolve_source() is BookingSource.BOOKING_BUTTON


def test_the_refusals_are_told_to_the_letter():
    """The errors name what was given and list what is allowed."""
    with pytest.raises(ValueError, match="source") as caught:
        resolve_source(source="billboard")
    assert str(caught.value) == (
        "source must be one of 'bookingButton', 'chatWindow', 'menuSlider', 'scheduled', 'priceSlider', 'direct', "
        "not 'billboard'"
    )
    with pytest.raises(ValueError, match="booking_type") as caught:
        resolve_source(booking_type="later")
    assert str(caught.value) == "booking_type must be one of 'immediate', 'scheduled', or None, not 'later'"


@pytest.mark.parametrize("value", ["false", "", 0, 1, None])
def test_the_chat_window_is_open_or_not(value: Any) -> None:
    """`chat_window_open` is True or False; a text such as "false", which would count as True, is refused."""
    for call in (resolve_source, booking_attribution):
        with pytest.raises(TypeError, match="chat_window_open must be True or False"):
            call(booking_type=None, chat_window_open=value)
