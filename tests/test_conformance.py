"""The embedded Appwrite server answers as a real Appwrite 1.9.6 did: two files of recordings, replayed in order."""

from __future__ import annotations

import re
from pathlib import Path

from booking_resilience.testing import AppwriteServer, virtual_time
from replaying import EXCHANGES, RECORDINGS, Player, is_exchange, load, replay_exchanges, replay_recordings

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "fidelity.md"

EXCEPTIONS = {434: "GraphQL is not emulated"}
"""The further exchanges that are answered otherwise, each with its reason."""


def test_the_recordings_are_answered_alike() -> None:
    """Every recorded exchange gets the recorded answer, those of a server in trouble through faults."""
    with virtual_time() as clock, AppwriteServer(project="proj1", key="right") as server:  # limits are by the minute
        server.api.access.keys.update({"read-only": frozenset({"documents.read", "rows.read"}), "expired": "expired"})
        player = Player(server.endpoint, "proj1", "right", server, clock)
        answered = list(replay_recordings(player))
    assert {recording["n"]: found for recording, found in answered if found} == {}
    assert [one["n"] for one in load(RECORDINGS) if is_exchange(one)] == [one["n"] for one, _ in answered]
    _said("recordings", len(load(RECORDINGS)), len(answered), 0)


def test_the_further_exchanges_are_answered_alike() -> None:
    """Every further exchange gets the recorded answer, but for the exceptions, which all differ."""
    with AppwriteServer(project="booking", key="standard_key") as server:
        player = Player(server.endpoint, "booking", "standard_key", server)
        answered = list(replay_exchanges(player))
    different = {exchange["n"]: found for exchange, found in answered if found}
    assert {n: found for n, found in different.items() if n not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) == set(different)
    assert len(EXCEPTIONS) <= 6
    _said("further exchanges", len(load(EXCHANGES)), len(answered), len(EXCEPTIONS))


def _said(what: str, lines: int, replayed: int, exceptions: int) -> None:
    """Check that the reference page says the same; a wheel is tested without it."""
    if PAGE.exists():
        row = re.search(rf"^\| {what} \| (\d+) \| (\d+) \| (\d+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
        assert row is not None
        assert tuple(map(int, row.groups())) == (lines, replayed, exceptions)
