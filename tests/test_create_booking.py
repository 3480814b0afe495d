"""The example `create_booking`: the main job, over real HTTP, as a user would start it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from appwrite.query import Query
from appwrite.services.tables_db import TablesDB

from booking_resilience import ErrorMonitor, load_json
from booking_resilience.testing import AppwriteServer, Fault, RecordingChatProvider
from demohost import until
from fresh import unwatched

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MESSAGES = {
    "Booking data error. Please try again or contact support.",
    "Network error. Please check your connection and try again.",
    "Service temporarily unavailable. Please try again in a moment.",
    "Booking creation failed",
}


@pytest.fixture(autouse=True)
def _examples_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start the example in a process of its own."""
    command = [sys.executable, str(EXAMPLES / "create_booking.py"), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**unwatched(), "COLUMNS": "120"}
    )


def run(*arguments: str, expect: int = 0) -> tuple[str, str]:
    """Run the example to its end; return what it printed and what it complained about."""
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    assert process.returncode == expect, (process.returncode, out, err)
    return out, err


def test_the_asynchronous_form_makes_the_same_bookings(tmp_path: Path) -> None:
    """`--async` meets the same faults with the same outcome, in an event loop."""
    counted = []
    for options in ([], ["--async"]):
        run("--bookings", "15", "--fault-rate", "0.1", "--steps", *options, "--json", str(tmp_path / "out.json"))
        facts = json.loads((tmp_path / "out.json").read_text())
        names = ("succeeded", "failed", "degraded", "duplicates", "lost")
        counted.append([(facts[name], facts["baseline"][name]) for name in names])
    assert counted[0] == counted[1]


def test_makes_bookings_that_survive_faults(tmp_path: Path) -> None:
    """With 5 % of the calls failing, bookings succeed, none is lost or doubled, and the table and files say so."""
    out, err = run(
        "--fault-rate",
        "0.05",
        "--bookings",
        "60",
        "--seed",
        "2",
        "--json",
        str(tmp_path / "out.json"),
        "--errors",
        str(tmp_path / "errors.json"),
    )
    facts = json.loads((tmp_path / "out.json").read_text())
    assert err == ""
    for words in ("stored", "reported as failed", "incomplete chat", "lost", "twice", "calls to Appwrite", "recovered",
                  "p50", "breaker", "without"):  # fmt: skip
        assert words in out
    assert out.splitlines()[-1].startswith("With resilience ")
    assert out.rstrip().endswith(".")
    assert set(facts) >= {
        "requested", "succeeded", "failed", "degraded", "duplicates", "lost", "attempts", "recovered", "success_rate",
        "baseline_success_rate", "recovery_ms", "latency_ms", "breaker",
    }  # fmt: skip
    assert facts["requested"] == 60
    assert facts["lost"] == facts["duplicates"] == 0
    assert facts["success_rate"] >= 0.99
    assert facts["baseline_success_rate"] < 1
    assert facts["recovered"] > 0
    assert facts["attempts"] > 4 * 60
    assert 0 < facts["recovery_ms"]["mean"] <= facts["recovery_ms"]["max"] <= 4000
    assert any(record.outcome == "recovered" for record in load_json(tmp_path / "errors.json"))


def test_failing_bookings_have_a_message_for_people(tmp_path: Path) -> None:
    """With 60 % of the calls failing, some callers are told so with a message, and no booking is lost or doubled."""
    process = start(
        "--fault-rate",
        "0.6",
        "--steps",
        "--bookings",
        "12",
        "--json",
        str(tmp_path / "out.json"),
        "--errors",
        str(tmp_path / "e.csv"),
    )
    process.communicate(timeout=120)
    facts = json.loads((tmp_path / "out.json").read_text())
    assert process.returncode == (0 if facts["failed"] == 0 else 1)
    assert facts["messages"]
    assert facts["lost"] == facts["duplicates"] == 0
    assert set(facts["messages"]) <= MESSAGES
    assert sum(facts["messages"].values()) == facts["failed"] + facts["unconfirmed"]
    assert (tmp_path / "e.csv").read_text().startswith('"id","timestamp"')


def test_the_defaults_of_the_command_line() -> None:
    """Without arguments the embedded server fails at 5 % of the calls; another Appwrite is left to itself."""
    import create_booking

    options = create_booking.parse([])
    assert (options.bookings, options.fault_rate, options.seed, options.workers) == (200, 0.05, 1, 8)
    assert options.kinds == ["status", "reset", "close", "cut_body", "lost"]
    assert create_booking.parse(["--fault-rate", "0"]).fault_rate == 0
    endpoint = ["--endpoint", "http://localhost/v1", "--project", "p", "--key", "k"]
    assert create_booking.parse(endpoint).fault_rate == 0


BAD_ARGUMENTS = [
    (["--nonsense"], "--nonsense"),
    (["--fault-rate", "2"], "--fault-rate"),
    (["--fault-rate", "nan"], "--fault-rate"),
    (["--bookings", "0"], "--bookings"),
    (["--bookings", "ten"], "ten"),
    (["--workers", "0"], "--workers"),
    (["--kinds", "status,quake"], "quake"),
    (["--endpoint", "http://127.0.0.1:9/v1", "--project", "p", "--key", "k", "--fault-rate", "0.1"], "--fault-rate"),
    (["--endpoint", "http://127.0.0.1:9/v1"], "--project"),
    (["--key", "k"], "--endpoint"),
    (["--errors", "errors.txt"], ".json"),
    (["--json", "no-such-folder/out.json"], "no-such-folder"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD_ARGUMENTS)
def test_bad_arguments_end_with_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad argument ends with exit code 2 and one line that names it."""
    import create_booking

    with pytest.raises(SystemExit) as left:
        create_booking.main(arguments)
    out, err = capsys.readouterr()
    assert (left.value.code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert says in err


def test_the_exit_code_of_bad_arguments_is_the_process_own() -> None:
    """Started by itself, it ends with exit code 2 and without a traceback."""
    out, err = run("--bookings", "0", expect=2)
    assert (out, len(err.splitlines())) == ("", 1)


def test_unreachable_endpoint_ends_with_one_line() -> None:
    """An endpoint where nobody listens ends with exit code 1 and one line."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    _, err = run("--endpoint", f"http://127.0.0.1:{port}/v1", "--project", "p", "--key", "k", expect=1)
    assert len(err.splitlines()) == 1
    assert f"127.0.0.1:{port}" in err


class Website(BaseHTTPRequestHandler):
    """Answers whatever it is asked with a page."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def do_GET(self) -> None:
        self.do_POST()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""


def test_an_endpoint_that_is_no_appwrite_ends_with_one_line() -> None:
    """A web server that answers 200 to everything ends with exit code 1 and one line."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Website) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{server.server_port}/v1"
            _, err = run("--endpoint", endpoint, "--project", "p", "--key", "k", expect=1)
        finally:
            server.shutdown()
            thread.join()
    assert len(err.splitlines()) == 1
    assert endpoint in err


def test_wrong_key_ends_with_one_line_without_the_key() -> None:
    """A wrong key ends with exit code 1 and one line, in which the key does not stand."""
    with AppwriteServer() as server:
        out, err = run("--endpoint", server.endpoint, "--project", "demo", "--key", "not-the-key", expect=1)
    assert len(err.splitlines()) == 1
    assert "not-the-key" not in out + err


def test_a_real_endpoint_is_used_and_bootstrapped_twice(tmp_path: Path) -> None:
    """With an endpoint it makes its tables there, and a second run finds them."""
    with AppwriteServer(project="clinic", key="secret-key") as server:
        for _ in range(2):
            arguments = ["--endpoint", server.endpoint, "--project", "clinic", "--key", "secret-key", "--bookings", "5"]
            run(*arguments, "--json", str(tmp_path / "out.json"))
            assert json.loads((tmp_path / "out.json").read_text())["succeeded"] == 5


@pytest.mark.parametrize("rate", [0.05, 0.15])
def test_faults_of_the_endpoint_itself_do_not_keep_it_from_its_work(tmp_path: Path, rate: float) -> None:
    """An Appwrite that fails now and then also while tables are made and read is set up and counted all the same."""
    with AppwriteServer() as server:
        server.faults.rate(rate, seed=1, kinds=["status", "reset", "close", "cut_body", "lost"])
        arguments = ["--endpoint", server.endpoint, "--project", "demo", "--key", "demo-key", "--bookings", "8"]
        process = start(*arguments, "--json", str(tmp_path / "out.json"))
        _, err = process.communicate(timeout=120)
        server.faults.clear()
        rows = TablesDB(server.client()).list_rows("booking_resilience", "bookings", [Query.limit(100)]).rows
    facts = json.loads((tmp_path / "out.json").read_text())
    assert err == ""
    assert facts["lost"] == facts["duplicates"] == 0
    first_run = Counter(row.data["run"] for row in rows)[rows[0].data["run"]]
    assert facts["succeeded"] == first_run
    assert process.returncode == (0 if first_run == 8 else 1)


@pytest.mark.parametrize("where", ["embedded", "endpoint"])
def test_ctrl_c_ends_with_one_line(where: str) -> None:
    """Ctrl-C while bookings are under way ends with exit code 130 and one line."""
    with AppwriteServer(project="p", key="k") as server:
        address = ["--endpoint", server.endpoint, "--project", "p", "--key", "k"] if where == "endpoint" else []
        process = start("--bookings", "100000", *address)
        try:
            if address:
                until(lambda: any(request.path.endswith("/bookings/rows") for request in server.requests), "a booking")
            else:  # the threads of the server, and of the connections of several workers
                tasks = Path(f"/proc/{process.pid}/task")
                until(lambda: len(list(tasks.iterdir())) > 5, "the workers")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
    assert (process.returncode, err.splitlines()) == (130, ["create_booking.py: interrupted"])


def facts_of(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the example with `--json -`; return its exit code and the result."""
    process = start(*arguments, "--json", "-")
    out, err = process.communicate(timeout=120)
    assert "bookings were stored" in err  # the table is for people and stays out of the way
    return process.returncode, json.loads(out)


def test_the_same_seed_gives_the_same_counts_and_exit_code() -> None:
    """Two runs with the same seed meet the same faults, however the workers' requests come in; another seed others."""
    arguments = ["--bookings", "15", "--fault-rate", "0.2", "--steps"]
    (code, first), (other_code, second), (_, third) = (facts_of(*arguments, "--seed", seed) for seed in ("1", "1", "2"))

    def counted(facts: dict[str, Any]) -> list[Any]:
        names = ("succeeded", "failed", "degraded", "unconfirmed", "attempts", "messages")
        return [[one[name] for name in names] for one in (facts, facts["baseline"])]

    assert (code, counted(first)) == (other_code, counted(second))
    assert counted(third) != counted(first)


def test_both_runs_take_the_same_steps() -> None:
    """Without faults both runs make four calls for each booking, and say the same of them."""
    code, facts = facts_of("--bookings", "10", "--fault-rate", "0")
    baseline = facts["baseline"]
    assert (code, facts["attempts"], baseline["attempts"]) == (0, 40, 40)
    for name in ("succeeded", "failed", "degraded", "duplicates", "lost", "unconfirmed", "messages"):
        assert facts[name] == baseline[name]
    for one in (facts, baseline):
        assert 0 < one["call_latency_ms"]["p50"] <= one["latency_ms"]["p50"] <= one["latency_ms"]["p99"]


def test_a_share_reads_as_all_or_nothing_only_where_it_is() -> None:
    """1999 of 2000 is not 100.0%, and 1 of 9999 is not 0.0%."""
    import command

    shown = [command.percent(*pair) for pair in ((1999, 2000), (1, 9999), (2000, 2000), (0, 5), (19, 20), (0, 0))]
    assert shown == ["99.9%", "0.1%", "100.0%", "0.0%", "95.0%", "0.0%"]


def test_the_conclusion_says_what_happened() -> None:
    """One sentence compares both runs, and names what the callers of stored bookings were told wrongly."""
    import booking_runs
    import create_booking

    options = create_booking.parse(["--bookings", "20"])
    good = booking_runs.Run(succeeded=20)
    poor = booking_runs.Run(succeeded=18, failed=2, degraded=3, unconfirmed=1)
    assert create_booking.conclusion(options, good, poor) == (
        "With resilience all 20 bookings were stored; without it 18 of 20 were stored, 1 of them reported as failed "
        "and 3 of them with an incomplete chat."
    )
    assert create_booking.conclusion(options, good, good) == (
        "With resilience and without it all 20 bookings were stored."
    )
    readme = Path(__file__).resolve().parent.parent / "README.md"
    if readme.exists():
        default = create_booking.parse([])
        runs = booking_runs.Run(succeeded=200), booking_runs.Run(succeeded=194, failed=6, degraded=25)
        assert create_booking.conclusion(default, *runs) in " ".join(readme.read_text(encoding="utf-8").split())


def test_the_kinds_of_faults_are_listed_with_their_meanings() -> None:
    """`--kinds` alone lists every kind that the embedded server knows, with what it means."""
    from booking_resilience.testing.faults import KINDS

    out, err = run("--kinds")
    assert [line.split(maxsplit=1)[0] for line in out.splitlines()] == list(KINDS)
    assert all(len(line.split()) > 2 for line in out.splitlines())
    assert err == ""


class Flow:
    """A booking flow against an embedded server, with what it needs."""

    def __init__(self, server: AppwriteServer) -> None:
        import booking_flow

        self.module = booking_flow
        self.client = server.client()
        booking_flow.bootstrap(self.client)
        self.monitor, self.chat = ErrorMonitor(), RecordingChatProvider()
        self.flow = booking_flow.BookingFlow(self.client, monitor=self.monitor, chat_provider=self.chat, steps=True)

    def request(self, **changes: Any) -> Any:
        facts: dict[str, Any] = {"therapist_id": "t1", "therapist_name": "Ada", "user_id": "u1", **changes}
        return self.module.BookingRequest(**facts)

    def rows(self) -> list[dict[str, Any]]:
        listed = TablesDB(self.client).list_rows(database_id=self.module.DATABASE_ID, table_id=self.module.BOOKINGS)
        return [row.data for row in listed.rows]


@pytest.fixture
def flow(appwrite_server: AppwriteServer) -> Flow:
    """A booking flow against an embedded server of its own."""
    return Flow(appwrite_server)


def test_booking_is_stored_with_its_attribution(flow: Flow) -> None:
    """A booking made inside the chat is stored with its attribution, and the chat opens."""
    result = flow.flow.create_booking(flow.request(chat_window_open=True))
    assert result.missing == ()
    stored = flow.rows()[0]
    assert {key: stored[key] for key in ("source", "chatWindowOpen", "mode", "bookingType")} == {
        "source": "chatWindow", "chatWindowOpen": True, "mode": "immediate", "bookingType": "immediate",
    }  # fmt: skip
    event = flow.chat.events[0]
    assert (event.booking_id, event.chat_room_id, event.provider_name) == (
        result.request.booking_id,
        result.chat_room_id,
        "Ada",
    )
    assert event.source == "booking_flow"
    assert flow.monitor.stats().total == 0


def test_lost_answer_is_no_second_booking(flow: Flow, appwrite_server: AppwriteServer) -> None:
    """A booking whose answer was lost after the write is stored once, and the caller learns that it is stored."""
    appwrite_server.faults.script([Fault.reset(after_commit=True)], method="POST", path="/rows")
    result = flow.flow.create_booking(flow.request())
    assert result.missing == ()
    assert len(flow.rows()) == 1


@pytest.mark.parametrize(
    ("creates", "reads", "retries", "recovered"),
    [
        ([None], [], 0, 0),
        ([Fault.status(503)], [], 1, 1),
        ([Fault.reset(after_commit=True), Fault.status(503), Fault.status(503)], [], 2, 1),
        ([Fault.reset(after_commit=True)], [Fault.status(503)], 1, 1),
        ([Fault.status(503)] * 3, [Fault.status(503)], 2, 0),
    ],
)
def test_recoveries_are_counted_as_the_monitor_has_them(
    flow: Flow,
    appwrite_server: AppwriteServer,
    creates: list[Fault | None],
    reads: list[Fault],
    retries: int,
    recovered: int,
) -> None:
    """An operation counts as recovered once, also if it was the reading that found its row; its time is the whole."""
    import booking_runs

    appwrite_server.faults.script(creates, method="POST", path="/rows")
    appwrite_server.faults.script(reads, method="GET", path="/rows")
    watch = booking_runs.RetryWatch()
    with watch.listening():
        started = time.perf_counter()
        with contextlib.suppress(flow.module.BookingError):
            flow.flow.create_booking(flow.request())
        elapsed_ms = (time.perf_counter() - started) * 1000
    outcomes = [record.outcome for record in flow.monitor.recent()]
    assert (watch.retries, len(watch.recovery_ms), outcomes.count("recovered")) == (retries, recovered, recovered)
    assert all(255 * (retries + len(reads)) <= taken < elapsed_ms for taken in watch.recovery_ms)


def test_one_hang_is_survived(flow: Flow, appwrite_server: AppwriteServer) -> None:
    """One hang of the backend is cut off by the attempt's timeout, and the next attempt stores the booking."""
    appwrite_server.faults.script([Fault.hang(30)], method="POST", path="/rows")
    result = flow.flow.create_booking(flow.request())
    assert result.missing == ()
    record = flow.monitor.recent()[0]
    assert (record.outcome, record.attempts, record.severity.value) == ("recovered", 2, "warning")


def test_backend_that_only_hangs_ends_within_the_deadline(flow: Flow, appwrite_server: AppwriteServer) -> None:
    """A backend that only hangs ends with the network message within the deadline, and is recorded once, in context."""
    appwrite_server.faults.script([Fault.hang(30)] * 20)
    started = time.monotonic()
    with pytest.raises(flow.module.BookingError) as caught:
        flow.flow.create_booking(flow.request())
    elapsed = time.monotonic() - started
    assert caught.value.message == "Network error. Please check your connection and try again."
    assert elapsed < 25  # each hang is longer than that, and the deadline is 4 s
    records = flow.monitor.recent()
    assert len(records) == 1
    assert records[0].context["therapist_id"] == "t1"
    assert records[0].attempts == 3


def test_refused_data_is_not_tried_again(flow: Flow, appwrite_server: AppwriteServer) -> None:
    """A booking that the backend refuses fails at its first attempt, with the message about the data."""
    before = len(appwrite_server.requests)
    with pytest.raises(flow.module.BookingError, match="Booking data error"):
        flow.flow.create_booking(flow.request(duration=100_000))
    assert len(appwrite_server.requests) == before + 1


def test_degraded_booking_can_be_completed(flow: Flow, appwrite_server: AppwriteServer) -> None:
    """When the chat cannot be opened the booking stands, says what is missing, and can be completed later."""
    appwrite_server.faults.script([None] + [Fault.status(503)] * 3, method="POST", path="/rows")
    result = flow.flow.create_booking(flow.request())
    assert "createChatRoom" in result.missing
    assert len(flow.rows()) == 1
    assert flow.flow.complete(result).missing == ()
    assert len(flow.chat.events) == 1
    assert len(flow.rows()) == 1
    assert flow.monitor.stats().by_category["chat"] == 1


def test_open_breaker_refuses_with_the_service_message(flow: Flow) -> None:
    """While the breaker is open a booking fails at once with the message that the service is unavailable."""
    flow.flow.breaker.isolate("maintenance")
    with pytest.raises(flow.module.BookingError, match="Service temporarily unavailable"):
        flow.flow.create_booking(flow.request())


def test_unknown_source_is_refused_before_anything_is_sent(flow: Flow, appwrite_server: AppwriteServer) -> None:
    """An unknown source is refused with an error that lists the six, and nothing is sent."""
    before = len(appwrite_server.requests)
    with pytest.raises(ValueError, match=r"bookingButton.*direct"):
        flow.flow.create_booking(flow.request(source="billboard"))
    assert len(appwrite_server.requests) == before
