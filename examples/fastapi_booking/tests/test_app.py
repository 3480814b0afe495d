"""The application against an embedded Appwrite server with faults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app import create_app
from booking_resilience.testing import AppwriteServer, Fault
from tables import make_tables

BOOKING = {"therapist": "ada", "start": "2027-01-04T10:30:00+01:00", "customer": "c-1"}


@pytest.fixture
def client(appwrite_server: AppwriteServer, tmp_path: Path) -> Iterator[TestClient]:
    """The application, on an Appwrite of its own, asked from this machine."""
    with appwrite_server.client() as appwrite:
        make_tables(appwrite)
    environ = {
        "APPWRITE_ENDPOINT": appwrite_server.endpoint,
        "APPWRITE_PROJECT": "demo",
        "APPWRITE_KEY": "demo-key",
        "BOOKINGS_FILE": str(tmp_path / "bookings.db"),
    }
    app = create_app(environ)
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50000)) as client:
        yield client


def book(client: TestClient, key: str, **changes: str) -> Any:
    """Ask for a booking."""
    return client.post("/bookings", json={**BOOKING, **changes}, headers={"Idempotency-Key": key})


def wait_for(client: TestClient, booking_id: str, state: str) -> dict[str, str]:
    """Wait until the booking has this state."""
    end = time.monotonic() + 60
    while (found := client.get(f"/bookings/{booking_id}").json())["state"] != state:
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found  # type: ignore[no-any-return] # what JSON holds


def test_a_lost_answer_and_a_double_click_are_one_booking(client: TestClient, appwrite_server: AppwriteServer) -> None:
    """The booking is stored once, though the answer to the commit got lost and the customer clicked twice."""
    appwrite_server.faults.script([Fault.reset(after_commit=True)], method="PATCH", path="/transactions")
    first, second = book(client, "click-1"), book(client, "click-1")
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    wait_for(client, first.json()["id"], "booked")
    listed = client.get("/bookings", params={"therapist": "ada"}).json()
    assert [(row["id"], row["start"]) for row in listed] == [(first.json()["id"], "2027-01-04T09:30:00+00:00")]


def test_a_booking_is_taken_during_an_outage_and_stored_afterwards(
    client: TestClient, appwrite_server: AppwriteServer
) -> None:
    """Nobody who books is turned away while Appwrite is down, and nothing is lost."""
    with appwrite_server.outage():
        taken = book(client, "click-2")
        assert taken.status_code == 202
        assert client.get(f"/bookings/{taken.json()['id']}").json()["state"] == "received"
        listed = client.get("/bookings", params={"therapist": "ada"})
        assert (listed.status_code, list(listed.json())) == (503, ["detail"])
    wait_for(client, taken.json()["id"], "booked")


def test_a_time_that_is_taken_is_refused(client: TestClient) -> None:
    """Of two customers who want one time one gets it, and the other is told."""
    winner = book(client, "click-3", customer="c-1").json()["id"]
    wait_for(client, winner, "booked")
    loser = book(client, "click-4", customer="c-2").json()["id"]
    assert wait_for(client, loser, "refused")["message"] == "This time is taken."


def test_a_key_is_needed_and_stands_for_one_booking(client: TestClient) -> None:
    """Without a key it is a 400; the same key with another time is a 422."""
    assert client.post("/bookings", json=BOOKING).status_code == 400
    assert book(client, "click-5").status_code == 202
    assert book(client, "click-5", start="2027-01-04T12:00:00+01:00").status_code == 422


def test_the_operators_pages_answer(client: TestClient) -> None:
    """Health and dashboard answer on this machine; an unknown booking is a 404."""
    assert client.get("/health").json() == {"status": "ok", "checks": {"appwrite": "ok", "monitor": "ok"}}
    assert "Bookings" in client.get("/errors/").text
    assert client.get("/bookings/unknown").status_code == 404
