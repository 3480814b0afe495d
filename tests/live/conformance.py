"""Replay the recordings against an Appwrite server and print what it answers otherwise.

    python tests/live/conformance.py                                  # the embedded server
    python tests/live/conformance.py --endpoint https://host/v1 --project ID --key standard_…

A real server must have no databases `main`, `tmain` and `cmpx`; they are made, and `cmpx` is removed first. What its
guests, other keys and faults would answer is left out there. The exit status is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from booking_resilience.testing import AppwriteServer, virtual_time
from replaying import LAST_QUIET, Player, replay_exchanges, replay_recordings

_OF_THE_MACHINE = ("worker frozen", "worker thawed", "rate limit", "read-only key", "expired key", "console project")


def embedded() -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Yield each recording's file, itself and the differences of the embedded server."""
    with virtual_time() as clock, AppwriteServer(project="proj1", key="right") as server:
        server.api.access.keys.update({"read-only": frozenset({"documents.read", "rows.read"}), "expired": "expired"})
        for recording, found in replay_recordings(Player(server.endpoint, "proj1", "right", server, clock)):
            yield "recordings", recording, found
    with AppwriteServer(project="booking", key="standard_key") as server:
        for exchange, found in replay_exchanges(Player(server.endpoint, "booking", "standard_key", server)):
            yield "exchanges", exchange, found


def real(endpoint: str, project: str, key: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
    """Yield each recording's file, itself and the differences of a real server."""
    player = Player(endpoint, project, key)
    for recording, found in replay_recordings(player, until=LAST_QUIET):
        if not str(recording["label"]).startswith(_OF_THE_MACHINE):
            yield "recordings", recording, found
    for exchange, found in replay_exchanges(player):
        yield "exchanges", exchange, found


def main() -> int:
    """Replay, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("endpoint", "project", "key"):
        parser.add_argument(f"--{name}", default=os.environ.get(f"APPWRITE_{name.upper()}", ""))
    given = parser.parse_args()
    if given.endpoint and not (given.project and given.key):
        parser.error("a real server needs --project and --key, too")
    replayed = real(given.endpoint, given.project, given.key) if given.endpoint else embedded()
    count = different = 0
    for file, recording, found in replayed:
        count += 1
        different += bool(found)
        for line in found:
            print(f"{file} {recording['n']} ({recording['label']}): {line}")
    print(f"{count - different} of {count} answered alike")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
