"""The demo server with `--durable`: bookings are received at once and wait until the backend takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("dbos", reason="the extra `durable` is not installed")
pytest.importorskip("starlette", reason="the extra `dashboard` is not installed")

from demohost import BOOKING, DemoHost, demo_host, until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoHost]:
    """A demo that keeps bookings and tries them again after a minute, or when it is asked to."""
    path = str(tmp_path_factory.mktemp("kept") / "bookings.db")
    with demo_host(cooldown=0.05, durable={"path": path, "base_delay": 60.0}) as made:
        yield made


def waiting(host: DemoHost) -> list[dict[str, Any]]:
    """Return what the page would show."""
    answer = host.get("/api/waiting").json()
    assert answer["durable"]
    items: list[dict[str, Any]] = answer["waiting"]
    return items


def received(host: DemoHost, **change: Any) -> str:
    """Have a booking received while the backend is away; return its ID once it waits."""
    answer = host.post("/api/bookings", json={**BOOKING, **change})
    assert answer.status_code == 202
    assert answer.json()["received"]
    booking: str = answer.json()["id"]
    until(lambda: any(item["id"] == booking for item in waiting(host)), "it waits")
    return booking


def ended(host: DemoHost, booking: str) -> str | None:
    """Return how a booking ended; None if it has not."""
    assert host.demo.kept is not None
    try:
        host.demo.kept.durable.result(booking, timeout=0)
    except Exception as error:
        return None if isinstance(error, TimeoutError) else type(error).__name__
    return "stored"


def stored(host: DemoHost) -> set[str]:
    """Return the IDs of the bookings that are stored."""
    from appwrite.services.tables_db import TablesDB

    from booking_flow import BOOKINGS, DATABASE_ID

    tables: Any = TablesDB(host.appwrite.client())
    return {row.id for row in tables.list_rows(DATABASE_ID, BOOKINGS).rows}


def test_a_booking_waits_and_is_stored_when_it_is_tried(host: DemoHost) -> None:
    """In an outage a booking is received, listed with its error, and stored once when somebody tries it now."""
    with host.appwrite.outage():
        booking = received(host)
        (item,) = [item for item in waiting(host) if item["id"] == booking]
        assert (item["operation"], item["attempts"]) == ("createBooking", 1)
        assert item["error"]
        assert item["since"] < item["nextTry"]
    until(lambda: host.post(f"/api/waiting/{booking}/try-now").json()["accepted"], "the try is accepted")
    until(lambda: booking in stored(host), "it is stored")
    until(lambda: ended(host, booking) == "stored", "it has ended")
    assert not waiting(host)
    assert not host.post(f"/api/waiting/{booking}/try-now").json()["accepted"]


def test_a_cancelled_booking_is_never_stored(host: DemoHost) -> None:
    """A booking that is cancelled while it waits is not stored, and its time is free."""
    start = "2027-01-04T09:00:00+00:00"
    with host.appwrite.outage():
        booking = received(host, start=start)
        assert host.post(f"/api/waiting/{booking}/cancel").json()["accepted"]
        until(lambda: any(item["operation"] == "undoBooking" for item in waiting(host)), "the undoing waits")

    def is_undone() -> bool:
        host.post(f"/api/waiting/{booking}/try-now")
        return ended(host, booking) == "WorkflowCancelledError"

    until(is_undone, "it is undone")
    assert booking not in stored(host)


def test_a_key_is_one_received_booking(host: DemoHost) -> None:
    """The same key and content is the same booking; with other content it is refused."""
    key = {"Idempotency-Key": '"durable-key"'}
    first, again = (host.post("/api/bookings", json=BOOKING, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    other = host.post("/api/bookings", json={**BOOKING, "duration": 90}, headers=key)
    assert other.status_code == 422
    until(lambda: first.json()["id"] in stored(host), "it is stored")


def test_what_waits_is_guarded(host: DemoHost) -> None:
    """Other sites can't try or cancel, an unknown booking is 404, and so is an unknown action."""
    foreign = {"Origin": "https://example.com"}
    assert host.get("/api/waiting", headers=foreign).status_code == 403
    assert host.post("/api/waiting/x/cancel", headers=foreign).status_code == 403
    assert host.post("/api/waiting/x/cancel", headers={"Host": "example.com"}).status_code == 400
    assert [host.post(f"/api/waiting/x/{action}").status_code for action in ("cancel", "try-now", "x")] == [404] * 3
    assert host.get("/api/waiting/x/cancel").status_code == 405


def test_it_is_served_on_the_loopback_only(capsys: pytest.CaptureFixture[str]) -> None:
    """Bookings are kept for the loopback only."""
    from demo_server import parse

    with pytest.raises(SystemExit) as ended:
        parse(["--durable", "bookings.db", "--host", "0.0.0.0"])
    assert ended.value.code == 2
    assert "--durable is served on the loopback only" in capsys.readouterr().err


def test_nothing_waits_without_it() -> None:
    """Without `--durable` there is nothing to wait for or to cancel."""
    with demo_host() as plain:
        assert plain.get("/api/waiting").json() == {"durable": False, "waiting": []}
        assert plain.post("/api/waiting/x/cancel").status_code == 404
