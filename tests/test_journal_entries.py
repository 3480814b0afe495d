"""The entries of a journal: records as they come out again, repeats, and what nothing needs any more."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import ErrorMonitor
from booking_resilience.journal.books import Seen
from booking_resilience.journal.entries import (
    CLAIM,
    HEARTBEAT,
    RECORD_HEAD,
    SECRET,
    STACK,
    Stack,
    StackEntries,
    entry,
    record_entry,
)
from booking_resilience.journal.stored import surplus

DAY = 86_400.0
NOW = 1_800_000_000.0


def test_a_record_comes_out_as_it_went_in():
    """Every field of a record with causes, notes, attempts and context passes through its entries."""
    monitor = ErrorMonitor()
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("lone \ud800 nul \0") from inner
    except ValueError as error:
        error.add_note("a note")
        context = {"nested": {"a": [1, None, math.nan]}}
        made = monitor.record(error, operation="o\udcff", context=context, attempts=3, severity="critical")
    stack = StackEntries().of(made)
    data = record_entry(made, b"w" * 8, 1, stack.id, 2.5)
    *_, moment, ahead = RECORD_HEAD.unpack_from(data)
    read = Stack(stack.data).record(moment, data)
    assert read == made
    assert ahead == 2.5
    assert (read.host, read.pid) == (made.host, made.pid)
    assert read.notes == ("a note",)


def test_a_stack_is_made_once_for_a_kind():
    """Records of one kind share their stack's entry, and one of another line has its own."""
    monitor, entries = ErrorMonitor(), StackEntries()
    made = [monitor.record(ValueError(str(number)), operation="op") for number in range(3)]
    assert len({entries.of(record).id for record in made}) == 1
    other = monitor.record(ValueError("x"), operation="other")
    assert entries.of(other).id != entries.of(made[0]).id


@given(st.lists(st.integers(0, 40), max_size=120))
def test_a_number_is_new_once(numbers):
    """Whatever the order, each number is new the first time and never again."""
    seen, known = Seen(), set()
    for number in numbers:
        assert seen.add(number) is (number not in known)
        known.add(number)


def place(seconds: float) -> int:
    """Return the position of that moment."""
    return int((NOW + seconds) * 1e6)


def notes(*kept: tuple[float, bytes, bytes]) -> list[tuple[int, bytes]]:
    """Make entries of these moments, kinds and IDs."""
    return [(place(at), entry(kind, id_.ljust(16, b"."), [])) for at, kind, id_ in kept]


def test_a_heartbeat_replaces_the_former_one_and_ages():
    """Of a process the last heartbeat stays, and goes when the process has not been seen for `max_age`."""
    found = notes((-2 * DAY, HEARTBEAT, b"old"), (-3, HEARTBEAT, b"a"), (-2, HEARTBEAT, b"b"), (-1, HEARTBEAT, b"a"))
    assert surplus(found, None, NOW, DAY, 10) == [place(-2 * DAY), place(-3)]


def test_a_stack_stays_as_long_as_a_record_may_need_it():
    """The first and the last entry of a stack stay while there are records from after it was in use."""
    found = notes((-9000, STACK, b"a"), (-8000, STACK, b"a"), (-7000, STACK, b"a"), (-6000, STACK, b"b"))
    assert surplus(found, place(-7500), NOW, DAY, 10) == [place(-8000)]
    assert surplus(found, place(-6300), NOW, DAY, 10) == [place(-9000), place(-8000), place(-7000)]
    assert len(surplus(found, None, NOW, DAY, 10)) == 4


def test_the_first_secret_stays():
    """The first secret counts for all readers, so it stays, and later ones go."""
    assert surplus(notes((-3, SECRET, b"a"), (-2, SECRET, b"b")), None, NOW, DAY, 10) == [place(-2)]


def test_the_newest_claims_stay():
    """Of very many claims the newest stay."""
    found = notes(*((number - 2000, CLAIM, b"%d" % number) for number in range(1500)))
    assert surplus(found, None, NOW, DAY, 10) == [place(number - 2000) for number in range(500)]
