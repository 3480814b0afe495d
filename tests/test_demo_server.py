"""The demo server over real HTTP: its routes, what it refuses, its stream, and how it starts and stops."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import csv
import gc
import hashlib
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import load_json
from booking_resilience.testing import AppwriteServer, Fault

pytest.importorskip("starlette", reason="the extra `examples` is not installed")
pytest.importorskip("uvicorn", reason="the extra `examples` is not installed")

from demohost import BOOKING, EXAMPLES, DemoHost, Viewer, demo_host, moved_clock, until

DATA = "Booking data error. Please try again or contact support."
NETWORK = "Network error. Please check your connection and try again."
SERVICE = "Service temporarily unavailable. Please try again in a moment."


@pytest.fixture(autouse=True)
def _nothing_goes_wrong_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    while Viewer.opened:
        Viewer.opened.pop().close()
    told = [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
    ours = [record for record in told if "a listener raised" in record.getMessage()]
    assert [record for record in told if record.name in ("uvicorn.error", "asyncio")] + ours == []


@pytest.fixture
def host() -> Iterator[DemoHost]:
    """A demo of its own."""
    with demo_host() as running:
        yield running


@pytest.fixture(scope="module")
def shared() -> Iterator[DemoHost]:
    """A demo for tests that change nothing."""
    with demo_host() as running:
        yield running


def breaker(host: DemoHost) -> dict[str, Any]:
    """Return what the server tells of its breaker."""
    state: dict[str, Any] = host.get("/api/stats").json()["state"]["breaker"]
    return state


# --- the tests and the breaker


def test_the_retry_test_shows_three_attempts_and_their_delays(host: DemoHost) -> None:
    """The retry test fails twice, waits about 300 and 600 ms, succeeds, and is one recovery and no error."""
    answer = host.post("/api/test-retry")
    facts = answer.json()
    assert answer.status_code == 200
    assert [attempt["number"] for attempt in facts["attempts"]] == [1, 2, 3]
    assert [attempt["outcome"] for attempt in facts["attempts"]] == ["failed", "failed", "succeeded"]
    first, second = facts["delays"]
    assert 0.255 <= first <= 0.345
    assert 0.51 <= second <= 0.69
    assert [attempt["delay"] for attempt in facts["attempts"]] == [first, second, None]
    assert facts["elapsed"] >= first + second
    state = host.get("/api/stats").json()["state"]
    assert (state["recovered"], state["failed"], state["rate"]) == (1, 0, 0)
    assert state["activity"]["attempts"] == 3


def test_the_fifth_failure_in_a_row_opens_the_breaker(host: DemoHost) -> None:
    """Five failures open the breaker, the sixth call is refused at once, and says when to come back."""
    answers = [host.post("/api/test-fail") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [502] * 5 + [503]
    assert [answer.json()["breaker"]["state"] for answer in answers] == ["closed"] * 4 + ["open"] * 2
    assert {answer.json()["message"] for answer in answers[:5]} == {NETWORK}
    refusal = answers[5]
    assert refusal.json()["message"] == SERVICE
    assert "Circuit breaker is OPEN" in refusal.json()["error"]
    assert 1 <= int(refusal.headers["Retry-After"]) <= 30
    assert "Retry-After" not in answers[0].headers


def test_an_open_breaker_refuses_bookings_too(host: DemoHost) -> None:
    """While the breaker is open a booking is refused with the message for people, and nothing is sent to Appwrite."""
    for _ in range(5):
        host.post("/api/test-fail")
    sent = len(host.appwrite.requests)
    answer = host.post("/api/bookings", json=BOOKING)
    assert (answer.status_code, answer.json()["message"]) == (503, SERVICE)
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert len(host.appwrite.requests) == sent


def test_the_breaker_recovers_after_its_cooldown() -> None:
    """After the cooldown the next booking is the trial, succeeds, and closes the breaker."""
    with moved_clock() as clock, demo_host() as host:
        for _ in range(5):
            host.post("/api/test-fail")
        assert host.post("/api/bookings", json=BOOKING).status_code == 503
        clock.advance(31)
        assert (breaker(host)["state"], breaker(host)["retry_after"]) == ("open", 0)
        assert host.post("/api/bookings", json=BOOKING).status_code == 201
        assert breaker(host)["state"] == "closed"


def test_failures_count_only_in_a_row(host: DemoHost) -> None:
    """A booking between the failures begins the count anew."""
    for _ in range(4):
        host.post("/api/test-fail")
    assert host.post("/api/bookings", json=BOOKING).status_code == 201
    assert [host.post("/api/test-fail").status_code for _ in range(5)] == [502] * 5
    assert breaker(host)["state"] == "open"


# --- bookings


def test_a_booking_runs_the_workflow(host: DemoHost) -> None:
    """A booking is stored with its attribution, its chat opens, and the answer tells of both."""
    answer = host.post("/api/bookings", json={**BOOKING, "chatWindowOpen": True})
    facts = answer.json()
    assert answer.status_code == 201
    assert {key: facts[key] for key in ("source", "chatWindowOpen", "mode", "bookingType", "missing")} == {
        "source": "chatWindow", "chatWindowOpen": True, "mode": "immediate", "bookingType": "immediate", "missing": [],
    }  # fmt: skip
    stored = [r for r in host.appwrite.requests if r.method == "POST" and r.path.endswith("/operations")]
    assert [request.status for request in stored] == [201]
    assert facts["id"] in json.dumps(stored[0].body)
    activity = host.get("/api/stats").json()["state"]["activity"]
    assert (activity["bookings"], activity["chats"], activity["operations"]) == (1, 1, 0)
    assert facts["chatRoomId"]


def test_a_named_source_wins(host: DemoHost) -> None:
    """A source that is named stands, null counts as not given."""
    assert host.post("/api/bookings", json={**BOOKING, "source": "menuSlider"}).json()["source"] == "menuSlider"
    scheduled = {**BOOKING, "bookingType": "scheduled", "source": None, "chatWindowOpen": None}
    assert host.post("/api/bookings", json=scheduled).json()["source"] == "scheduled"


def test_a_booking_without_its_chat_stands(host: DemoHost) -> None:
    """A booking whose chat cannot be opened is a booking, and the answer says what is missing."""
    refused = Fault.status(400, type="document_invalid_structure")
    host.appwrite.faults.script([refused], method="PATCH", path="/transactions/")
    host.appwrite.faults.script([Fault.status(503)] * 3, method="POST", path="/rows")
    answer = host.post("/api/bookings", json=BOOKING)
    assert answer.status_code == 201
    assert "createChatRoom" in answer.json()["missing"]
    assert answer.json()["chatRoomId"] is None


def test_a_backend_that_is_gone_is_told_to_people(host: DemoHost) -> None:
    """With Appwrite out of reach a booking ends with 503 and the message about the network."""
    with host.appwrite.outage():
        answer = host.post("/api/bookings", json=BOOKING)
    assert (answer.status_code, answer.json()) == (503, {"message": NETWORK})


def test_what_the_backend_refuses_is_a_data_error(host: DemoHost) -> None:
    """A booking that Appwrite refuses as invalid ends with 422 and the message about the data."""
    refused = Fault.status(400, type="document_invalid_structure")
    host.appwrite.faults.script([refused] * 2, method="PATCH", path="/transactions/")
    answer = host.post("/api/bookings", json=BOOKING)
    assert (answer.status_code, answer.json()["message"]) == (422, DATA)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"therapistId": ""}, "therapistId", "1 to 64"),
    ({"therapistId": "  "}, "therapistId", "blanks"),
    ({"therapistId": 7}, "therapistId", "string"),
    ({"therapistName": "n" * 129}, "therapistName", "128"),
    ({"therapistName": "a\x00b"}, "therapistName", "control"),
    ({"userId": "\ud800"}, "userId", "control"),
    ({"userId": None}, "userId", "string"),
    ({"bookingType": "soon"}, "bookingType", "immediate, scheduled"),
    ({"bookingType": ["immediate"]}, "bookingType", "immediate, scheduled"),
    ({"duration": 14}, "duration", "15 to 480"),
    ({"duration": 481}, "duration", "15 to 480"),
    ({"duration": "60"}, "duration", "whole number"),
    ({"duration": 60.0}, "duration", "whole number"),
    ({"duration": True}, "duration", "whole number"),
    ({"source": "billboard"}, "source", "priceSlider"),
    ({"source": "s" * 5000}, "source", "priceSlider"),
    ({"source": 3}, "source", "string"),
    ({"chatWindowOpen": "yes"}, "chatWindowOpen", "true or false"),
    ({"colour": "red"}, "colour", "not known"),
]


@pytest.mark.parametrize(("change", "field", "says"), WRONG)
def test_a_wrong_field_is_named(shared: DemoHost, change: dict[str, Any], field: str, says: str) -> None:
    """A wrong or unknown field ends with 422, which names it and what is allowed, and nothing else."""
    answer = shared.post("/api/bookings", json={**BOOKING, **change})
    assert (answer.status_code, answer.json()["message"]) == (422, DATA)
    assert list(answer.json()["errors"]) == [field]
    assert says in answer.json()["errors"][field]


def test_everything_wrong_is_told_at_once(shared: DemoHost) -> None:
    """All missing fields are told in one answer."""
    answer = shared.post("/api/bookings", json={})
    assert answer.json()["errors"] == dict.fromkeys(BOOKING, "is missing")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"\xff", b'{"duration": NaN}', b"[" * 10_000,
        b'{"duration": ' + b"9" * 10_000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(shared: DemoHost, body: bytes) -> None:
    """A body that is no JSON object ends with 422."""
    answer = shared.post("/api/bookings", data=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == ["body"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(st.sampled_from([*BOOKING, "source", "chatWindowOpen", "more"]), JSON)


@given(FIELDS | JSON | st.binary())
def test_no_body_confuses_the_form(body: Any) -> None:
    """Whatever is sent is a booking or a list of problems, of a bounded length."""
    from booking_flow import BookingRequest
    from demo_forms import FormError, parse_booking

    try:
        request = parse_booking(body if isinstance(body, bytes) else json.dumps(body).encode())
    except FormError as error:
        assert error.problems
        assert all(len(problem) < 400 for problem in error.problems.values())
    else:
        assert isinstance(request, BookingRequest)


def chunks(size: int) -> Iterator[bytes]:
    """Give a body of unknown length."""
    for _ in range(size // 1024):
        yield b" " * 1024


@pytest.mark.parametrize("body", [b" " * 20_000, b" " * 20_000_000], ids=["20 kB", "20 MB"])
def test_a_large_body_is_refused(shared: DemoHost, body: bytes) -> None:
    """A body above the limit ends with 413, with its length told and without."""
    assert shared.post("/api/bookings", data=body).status_code == 413
    assert shared.post("/api/bookings", data=chunks(len(body))).status_code == 413


def test_another_type_of_body_is_refused(shared: DemoHost) -> None:
    """A form that is posted is no JSON, and ends with 415."""
    assert shared.post("/api/bookings", data={"therapistId": "t1"}).status_code == 415


def test_a_body_that_does_not_come_ends_the_request(shared: DemoHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that announces a body and sends only half of it is told so, and the connection ends."""
    monkeypatch.setattr("demo_forms.BODY_TIME", 0.2)
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as client:
        client.sendall(b"POST /api/bookings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_goes_away_in_the_middle_harms_nothing(shared: DemoHost) -> None:
    """After a client has gone in the middle of its body the server answers others."""
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as client:
        client.sendall(b"POST /api/bookings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert shared.get("/api/stats").status_code == 200


def test_bookings_block_nobody_else_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """While bookings hang, other requests are answered, and a booking that finds no place to wait gets 503."""
    monkeypatch.setattr("demo_app.MOST_BOOKINGS", 2)
    gate, begun = threading.Event(), threading.Event()
    with demo_host() as host, concurrent.futures.ThreadPoolExecutor(3) as pool:
        real = host.demo.book

        async def blocked(request: Any) -> Any:
            begun.set()
            assert await asyncio.to_thread(gate.wait, 30)
            return await real(request)

        monkeypatch.setattr(host.demo, "book", blocked)
        asked = [pool.submit(host.post, "/api/bookings", json=BOOKING) for _ in range(3)]
        (refused,), others = concurrent.futures.wait(asked, 20, concurrent.futures.FIRST_COMPLETED)
        assert (refused.result().status_code, refused.result().json()) == (503, {"message": SERVICE})
        assert begun.wait(20)
        assert host.get("/api/stats").status_code == 200
        gate.set()
        assert [answer.result(20).status_code for answer in others] == [201, 201]


# --- who is served, and how


@pytest.mark.parametrize("path", ["/", "/api/stats", "/api/errors.json", "/nowhere", "/api/test-fail", "/favicon.ico"])
def test_every_answer_is_strict(shared: DemoHost, path: str) -> None:
    """Every answer, errors included, forbids framing, sniffing, referrers and foreign content, and names no server."""
    headers = shared.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "Server" not in headers


def test_the_page_runs_its_own_script_only(shared: DemoHost) -> None:
    """The policy has the hashes of the only script and style of the page, which has nothing from elsewhere."""
    answer = shared.get("/")
    page, policy = answer.text, answer.headers["Content-Security-Policy"]
    for kind in ("script", "style"):
        (inside,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
        assert page.count(f"<{kind}") == 1
    assert set(re.findall(r"https?://[^\s'\"<]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\son\w+=|style=", page)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST", "localhost:5173"])
def test_the_loopbacks_names_are_served(shared: DemoHost, name: str) -> None:
    """The loopback's own names are served, with any port."""
    assert shared.get("/", headers={"Host": name}).status_code == 200


@pytest.mark.parametrize("name", ["example.com", "127.0.0.1.example.com", "localhost@example.com", "10.0.0.1", "", "["])
def test_foreign_host_names_are_not_served(shared: DemoHost, name: str) -> None:
    """A name of somebody else's that leads here is not served, nor is another address."""
    for path in ("/", "/api/stats", "/api/stream"):
        assert shared.get(path, headers={"Host": name}).status_code == 400


def test_a_server_on_all_addresses_knows_addresses_but_no_names() -> None:
    """A server bound to all addresses answers to any address, and to no name but localhost."""
    from demo_guard import Guard

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def status(host: str, name: str) -> int:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "path": "/", "headers": [(b"host", name.encode())], "method": "GET"}
        asyncio.run(Guard(app, host=host)(scope, None, send))
        return int(sent[0]["status"])

    assert [status("0.0.0.0", name) for name in ("192.168.0.7:80", "localhost", "example.com")] == [200, 200, 400]
    assert [status("pc.lan", name) for name in ("pc.lan", "192.168.0.7")] == [200, 400]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_requests_of_other_sites_are_not_served(shared: DemoHost, headers: dict[str, str]) -> None:
    """A request that another web site makes a browser send is refused before anything happens."""
    before = shared.demo.monitor.stats().total
    assert shared.post("/api/test-fail", headers=headers).status_code == 403
    assert shared.get("/api/stream", headers=headers).status_code == 403
    assert shared.demo.monitor.stats().total == before


def test_the_pages_own_requests_are_served(host: DemoHost) -> None:
    """A request with the page's own origin is served."""
    headers = {"Origin": host.url, "Sec-Fetch-Site": "same-origin"}
    assert host.post("/api/bookings", json=BOOKING, headers=headers).status_code == 201


def test_another_method_is_refused(shared: DemoHost) -> None:
    """A wrong method ends with 405 and says which is right, in JSON as all errors."""
    answer = shared.get("/api/bookings")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["message"]
    assert shared.get("/nowhere").json() == {"message": "Not Found"}


# --- downloads and details


def test_downloads_are_strict_and_complete(host: DemoHost) -> None:
    """Both downloads have every error, can be read back by strict readers, and run no formula."""
    hostile = '=cmd|"/c calc"!A0, "quoted"\r\nand \u2028 \u00e9 <script>'
    host.demo.monitor.log_chat_error("sendWelcomeMessage", ValueError(hostile), note="a,b\nc")
    host.post("/api/test-fail")
    answer = host.get("/api/errors.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="errors.json"'

    def refuse(text: str) -> None:
        raise AssertionError(text)

    assert len(json.loads(answer.text, parse_constant=refuse)["errors"]) == 2
    assert [record.message for record in load_json(answer.text)] == ["Network request failed", hostile]

    answer = host.get("/api/errors.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="errors.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8"), newline=""), strict=True))
    assert [row["message"] for row in rows] == ["Network request failed", f"'{hostile}"]
    assert json.loads(rows[1]["context"]) == {"note": "a,b\nc"}


def test_an_error_can_be_unfolded(host: DemoHost) -> None:
    """One error by its ID has its attempts, context and stack; one that is not kept ends with 404."""
    host.appwrite.faults.script([Fault.status(503)] * 9, method="POST", path="/transactions")
    assert host.post("/api/bookings", json=BOOKING).status_code == 503
    (listed,) = host.get("/api/stats").json()["errors"]
    facts = host.get(f"/api/errors/{listed['id']}").json()
    assert (facts["attempts"], len(facts["attempt_errors"])) == (5, 5)
    assert facts["context"]["therapist_name"] == "Ada"
    assert "AppwriteCallError: Server Error" in facts["stacktrace"]
    assert "stacktrace" not in listed
    assert host.get("/api/errors/none").status_code == 404


# --- the stream


def test_the_stream_begins_with_everything_and_goes_on(host: DemoHost) -> None:
    """A viewer gets the past and the present at once, and then each change."""
    host.post("/api/test-fail")
    viewer = Viewer(host.port)
    seen = [next(events) for events in [viewer.events()] for _ in range(3)]
    assert [name for name, _ in seen] == ["hello", "errors", "state"]
    assert seen[0][1]["threshold"] == 10
    assert [error["operation"] for error in seen[1][1]] == ["testFail"]
    assert (seen[2][1]["total"], seen[2][1]["viewers"]) == (1, 1)
    host.post("/api/test-fail")
    assert len(viewer.until(lambda name, _: name == "errors")) == 2
    state = viewer.until(lambda name, data: name == "state" and data["total"] == 2)
    assert state["by_category"]["network"] == 2
    viewer.close()
    until(lambda: host.hub.viewers == 0, "the viewer to be forgotten")


def test_the_stream_says_what_browsers_need(host: DemoHost) -> None:
    """The stream is an event stream, is not to be stored, and HEAD ends at once."""
    with host.get("/api/stream", stream=True) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert next(answer.iter_lines()) == b"retry: 1000"
    assert requests.head(host.url + "/api/stream", timeout=20).headers["Content-Type"].startswith("text/event-stream")


def things_of_the_stream() -> int:
    """Return how many streams are in memory."""
    from demo_stream import EventStream

    gc.collect()
    return sum(type(thing) is EventStream for thing in gc.get_objects())


def test_two_hundred_viewers_hold_nothing_up_and_leave_nothing_behind(host: DemoHost) -> None:
    """With 200 viewers, half of whom never read, 1,000 errors are recorded while the event loop stands still; those
    who read see them all; when the viewers have gone, so have their tasks, threads and memory.
    """  # noqa: D205 - one sentence
    tasks, threads = host.call(lambda: len(asyncio.all_tasks())), threading.active_count()
    readers = [Viewer(host.port) for _ in range(100)]
    deaf = [Viewer(host.port, receive_buffer=2048) for _ in range(100)]
    until(lambda: host.hub.viewers == 200, "all viewers")

    standing, go_on = threading.Event(), threading.Event()
    assert host.loop is not None
    host.loop.call_soon_threadsafe(lambda: (standing.set(), go_on.wait(30)))
    assert standing.wait(20)
    for number in range(1000):
        host.demo.monitor.log_network_error("lookUp", ConnectionError(number))
    assert host.demo.monitor.stats().total == 1000
    go_on.set()

    for reader in readers:
        reader.until(lambda name, data: name == "state" and data["total"] == 1000)
    for viewer in readers + deaf:
        viewer.close()
    until(lambda: host.hub.viewers == 0, "all viewers to be forgotten")
    until(lambda: host.call(lambda: len(asyncio.all_tasks())) <= tasks, "their tasks to end")
    assert threading.active_count() <= threads
    assert things_of_the_stream() == 0


def flood(host: DemoHost, frames: int = 200, *, while_watched: bool = False) -> int:
    """Record an error with a long message for each frame, so that unread sockets fill up; return how many.

    Frames are only made while somebody watches. With `while_watched` it ends also when nobody does any more.
    """
    sent = 0
    make = host.hub._make_frames

    def with_error(snapshot: Any) -> None:
        nonlocal sent
        if sent < frames:
            host.demo.monitor.log_network_error("lookUp", ConnectionError(f"{sent} " + "x" * 300))
            sent += 1
        make(snapshot)

    host.call(lambda: setattr(host.hub, "_make_frames", with_error))
    until(lambda: sent == frames or (while_watched and host.hub.viewers == 0), "the frames")
    return sent


def test_a_slow_viewer_gets_the_newest_state() -> None:
    """A viewer that reads again after its socket was full has missed what was in between, and gets the newest."""
    with demo_host(interval=0.002, send_buffer=8192) as host:
        viewer = Viewer(host.port, receive_buffer=2048)
        until(lambda: host.hub.viewers == 1, "the viewer")
        sent = flood(host)
        lists = 0
        for name, data in viewer.events():
            lists += name == "errors"
            if name == "state" and data["total"] == sent:
                break
        assert 0 < lists < sent / 2


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system cannot cut off who does not read")
def test_a_viewer_that_reads_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer that has read nothing for too long loses its connection."""
    monkeypatch.setattr("demo_server.DEAF_AFTER_MS", 500)
    with demo_host(interval=0.002, send_buffer=8192) as host:
        Viewer(host.port, receive_buffer=2048)
        until(lambda: host.hub.viewers == 1, "the viewer")
        flood(host, while_watched=True)  # on a busy machine the viewer is cut off before its end
        until(lambda: host.hub.viewers == 0, "the viewer to be cut off")


def test_only_so_many_may_watch(host: DemoHost) -> None:
    """One viewer too many gets 503; when another has gone there is place again."""
    host.hub._max_viewers = 1
    first = Viewer(host.port)
    until(lambda: host.hub.viewers == 1, "the first viewer")
    answer = host.get("/api/stream")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    first.close()
    until(lambda: host.hub.viewers == 0, "the first viewer to go")
    Viewer(host.port).close()


def test_streams_end_when_the_server_stops_and_go_on_when_it_is_back() -> None:
    """A stop ends all streams, also of those who do not read; after a restart the port answers, as another instance."""
    with AppwriteServer() as appwrite:
        host = DemoHost(appwrite, interval=0.002, send_buffer=8192)
        reader, deaf = Viewer(host.port), Viewer(host.port, receive_buffer=2048)
        instance = reader.until(lambda name, _: name == "hello")["instance"]
        until(lambda: host.hub.viewers == 2, "both viewers")
        sent = flood(host)
        reader.until(lambda name, data: name == "state" and data["total"] == sent)
        assert host.stop() < 10
        assert all(name in ("errors", "state") for name, _ in reader.events())
        assert reader.tail.endswith(b"\r\n0\r\n\r\n")  # the whole stream, and not a connection that broke
        host = DemoHost(appwrite, port=host.port)
        again = Viewer(host.port)
        assert again.until(lambda name, _: name == "hello")["instance"] != instance
        deaf.close()
        assert host.stop() < 10


# --- the program


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the demo server in a process of its own."""
    command = [sys.executable, str(EXAMPLES / "demo_server.py"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ})


def port_of(process: subprocess.Popen[str]) -> int:
    """Wait until it serves; return its port."""
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
    assert match, (line, process.communicate(timeout=20))
    return int(match[1])


@pytest.mark.parametrize("how_many", [1, 2])
def test_ctrl_c_ends_it_promptly_while_people_watch(how_many: int) -> None:
    """Ctrl-C, once or twice, ends the server with code 130 and one line although streams are open."""
    process = start("--port", "0")
    port = port_of(process)
    viewers = [Viewer(port) for _ in range(5)]
    for viewer in viewers:
        viewer.until(lambda name, _: name == "state")
    started = time.monotonic()
    for _ in range(how_many):
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert (process.returncode, err.splitlines()) == (130, ["demo_server.py: interrupted"])


def test_a_port_in_use_ends_with_one_line() -> None:
    """A port that somebody else has ends with code 1 and one line that names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        out, err = start("--port", port).communicate(timeout=60)
    assert (out, len(err.splitlines())) == ("", 1)
    assert port in err
    assert "in use" in err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--port", "99999"], 2, "--port"),
        (["--port", "x"], 2, "--port"),
        (["--host", ""], 2, "--host"),
        (["--nonsense"], 2, "--nonsense"),
        (["--endpoint", "http://127.0.0.1:9/v1"], 2, "--project"),
        (["--key", "k"], 2, "--endpoint"),
        (["--host", "no such host", "--port", "0"], 1, "no such host"),
        (["--host", "192.0.2.1", "--port", "0"], 1, "192.0.2.1"),
        (["--port", "0", "--endpoint", "http://127.0.0.1:9/v1", "--project", "p", "--key", "k"], 1, "127.0.0.1:9"),
        (["--port", "0", "--endpoint", "nonsense", "--project", "p", "--key", "k"], 1, "nonsense"),
    ],
)
def test_what_cannot_start_ends_with_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    """A bad argument, address or endpoint ends with its exit code and one line that names it."""
    from demo_server import main

    try:
        ended: Any = main(arguments)
    except SystemExit as error:
        ended = error.code
    out, err = capsys.readouterr()
    assert (ended, out, len(err.splitlines())) == (code, "", 1), err
    assert says in err


def test_a_wrong_key_is_not_printed() -> None:
    """A wrong key ends with code 1 and one line, in which it does not stand."""
    with AppwriteServer() as server:
        process = start("--port", "0", "--endpoint", server.endpoint, "--project", "demo", "--key", "not-the-key")
        out, err = process.communicate(timeout=60)
    assert (process.returncode, len(err.splitlines())) == (1, 1)
    assert "not-the-key" not in out + err


def test_a_real_endpoint_is_used() -> None:
    """With an endpoint, bookings go there."""
    with AppwriteServer(project="clinic", key="secret-key") as server:
        process = start("--port", "0", "--endpoint", server.endpoint, "--project", "clinic", "--key", "secret-key")
        answer = requests.post(f"http://127.0.0.1:{port_of(process)}/api/bookings", json=BOOKING, timeout=20)
        assert answer.status_code == 201
        assert answer.json()["id"] in json.dumps([request.body for request in server.requests])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130


# --- repeated requests


def test_a_key_is_one_booking(host: DemoHost) -> None:
    """The same key and content are one booking, also when it is sent ten times at once; the answers are equal."""
    headers = {"Idempotency-Key": "k-1"}
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: host.post("/api/bookings", json=BOOKING, headers=headers), range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    other = host.post("/api/bookings", json={**BOOKING, "userId": "u2"}, headers=headers)
    assert other.status_code == 201
    assert other.json()["id"] != answers[0].json()["id"]


def test_a_key_that_is_used_for_something_else(host: DemoHost) -> None:
    """The same key with another content is 422, a time that is taken 409, both as problem details."""
    headers, timed = {"Idempotency-Key": "k-1"}, {**BOOKING, "start": "2027-01-04T09:00:00+01:00"}
    assert host.post("/api/bookings", json=timed, headers=headers).status_code == 201
    again = host.post("/api/bookings", json={**timed, "duration": 90}, headers=headers)
    taken = host.post("/api/bookings", json=timed)
    assert [(answer.status_code, answer.json()["status"]) for answer in (again, taken)] == [(422, 422), (409, 409)]
    assert taken.headers["content-type"] == "application/problem+json"
    assert taken.json()["detail"] == "Booking creation failed"
    wrong = host.post("/api/bookings", json={**BOOKING, "start": "2027-01-04T09:00:00"})
    assert (wrong.status_code, list(wrong.json()["errors"])) == (422, ["start"])
