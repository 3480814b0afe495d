"""What a reader keeps of a journal is bounded, and is right whatever the order of the log."""

from __future__ import annotations

from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import ErrorMonitor
from booking_resilience.journal.books import Books, ReadRecord
from booking_resilience.journal.entries import RECORD, STACK, STACKS, Stack, StackEntries, entry, record_entry
from booking_resilience.monitor.rate import SlidingRate
from booking_resilience.monitor.record import ErrorRecord

NOW = 1_800_000_000.0


def books(capacity: int = 100) -> Books:
    """Make empty books."""
    return Books(capacity, SlidingRate(60.0))


def log(number: int, kinds: int = 1) -> list[bytes]:
    """Make the entries of so many records of so many kinds, each kind's stack before its first record."""
    monitor, stacks = ErrorMonitor(), StackEntries()
    found: list[bytes] = []
    for place in range(number):
        made = monitor.record(ValueError(str(place)), operation=f"op {place % kinds}")
        stack = stacks.of(made)
        if place < kinds:
            found.append(stack.data)
        found.append(record_entry(made, b"w" * 8, place, stack.id, 0.0))
    return found


def read(into: Books, data: bytes) -> list[ReadRecord]:
    """Read an entry."""
    if data.startswith(STACK):
        return into.stack(data, NOW)
    found = into.record(data, 0, NOW)
    return [] if found is None else [found]


def test_stacks_are_kept_up_to_a_number() -> None:
    """Of very many stacks those that were used last stay, and a record of another one waits until it is read again."""
    found = books()
    stack, first, second = log(2)
    read(found, stack)
    for number in range(STACKS - 1):
        facts = ["network", "error", "op", "E", "failed", f"{number}", None, None, None, "op", "", []]
        found.stack(entry(STACK, number.to_bytes(8, "big") * 2, facts), NOW)
    assert read(found, first)
    for number in range(STACKS, STACKS + 10):
        facts = ["network", "error", "op", "E", "failed", f"{number}", None, None, None, "op", "", []]
        found.stack(entry(STACK, number.to_bytes(8, "big") * 2, facts), NOW)
    assert len(found._stacks) == STACKS
    assert read(found, second)
    found._stacks.pop(stack[1:9])
    third = log(3)[-1]
    assert not read(found, third)
    assert [each.record() for each in read(found, stack)]
    assert found.total == 3


@given(st.permutations(range(13)), st.lists(st.integers(0, 12), max_size=20))
def test_order_and_repeats_change_no_number(order: list[int], again: list[int]) -> None:
    """Records come before their stacks, stacks twice, records again: each record counts once."""
    entries = ENTRIES
    found = books()
    new = [each for place in (*order, *again) for each in read(found, entries[place])]
    assert found.total == len(new) == 10
    assert sorted(group.count for group in found.groups()) == [3, 3, 4]
    assert {each.message for each in found.records()} == set(map(str, range(10)))


ENTRIES = log(10, kinds=3)


def test_a_record_that_is_just_being_made_is_shown() -> None:
    """Two threads that ask for a record at the same moment both get it."""
    found = books()
    stack, first = log(1)
    read(found, stack)
    (each,) = read(found, first)
    make, also = each.stack, []

    class Slow:
        def record(self, moment: float, data: bytes) -> ErrorRecord:
            each.stack = make
            also.append(each.record())
            return make.record(moment, data)

    each.stack = cast("Stack", Slow())
    assert [each.record()] == also
    assert also[0] is not None


def test_an_entry_whose_record_is_spoilt_costs_itself() -> None:
    """A record's head with something else behind it is counted by its stack, and shown nowhere."""
    found = books()
    stack, first, second = log(2)
    read(found, stack)
    read(found, first[:-7])
    read(found, second)
    assert found.total == 2
    assert [each.message for each in found.records()] == ["1"]
    assert first.startswith(RECORD)
