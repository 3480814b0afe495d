"""The dashboard as an application: who may see it, what it tells, and what changes a breaker."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import datetime
import io
import json
import logging
import multiprocessing
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests

from booking_resilience import BreakerState, CircuitBreaker, ErrorMonitor, SharedSnapshot, load_json

pytest.importorskip("starlette", reason="the extra `dashboard` is not installed")

from asking import LOCAL, Answer, ask, ask_wsgi
from booking_resilience.dashboard import __main__, dashboard, dashboard_wsgi, tokens
from booking_resilience.journal import FleetMonitor, SQLiteJournal
from booking_resilience.load import AdaptiveLimit, ConcurrencyLimit, RateLimit
from dashboardhost import fail_all
from demohost import until

STRANGER = ("203.0.113.9", 40001)
HOSTILE = "</script><img src=x onerror=alert(1)>{{token}}\"'"


@pytest.fixture
def monitor() -> ErrorMonitor:
    """A monitor with errors of all severities."""
    made = ErrorMonitor()
    fail_all(made)
    return made


@pytest.fixture
def breaker() -> CircuitBreaker:
    """A closed breaker."""
    return CircuitBreaker("appwrite", cooldown=30.0)


def token_of(page: Answer) -> str:
    """Return the token in a page."""
    found = re.search(r'name="dashboard-token" content="(\w+)"', page.text)
    assert found is not None
    return found[1]


def act(app: Any, token: str | None = None, *, asked: Any = None, **more: Any) -> Answer:
    """Ask for a change, with the page's own token unless another is given."""
    given = token_of(ask(app, **more)) if token is None else token
    asked = {"action": "isolate", "name": "appwrite", "nth": 0, "reason": "maintenance"} if asked is None else asked
    headers = {"Content-Type": "application/json", "X-Dashboard-Token": given, **more.pop("headers", {})}
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return ask(app, "/api/breakers", method="POST", body=body, headers=headers, **more)


class TestAccess:
    """Who may see it."""

    @pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
    def test_the_loopback_is_let_in(self, monitor: ErrorMonitor, peer: str) -> None:
        """Every loopback address is, however it is written."""
        assert ask(dashboard(monitor), client=(peer, 1)).status == 200

    @pytest.mark.parametrize("host", ["localhost", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.1.2.3"])
    def test_the_loopbacks_names_are_served(self, monitor: ErrorMonitor, host: str) -> None:
        """The Host may name the loopback in any way."""
        assert ask(dashboard(monitor), headers={"Host": host}).status == 200

    @pytest.mark.parametrize(
        "peer", [STRANGER, ("10.0.0.1", 1), ("::ffff:10.0.0.1", 1), ("0.0.0.0", 1), ("unix", 1), None]
    )
    @pytest.mark.parametrize("path", ["/", "/api/state", "/static/page.js", "/nowhere"])
    def test_all_else_is_not(self, monitor: ErrorMonitor, peer: Any, path: str) -> None:
        """A stranger, or a peer that nobody knows, gets 403 for whatever there is or isn't."""
        answer = ask(dashboard(monitor), path, client=peer)
        assert answer.status == 403
        assert answer.json() == {"message": "without authorize the dashboard answers only its own machine"}

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", None])
    def test_foreign_host_names_are_not_served(self, monitor: ErrorMonitor, host: str | None) -> None:
        """A page elsewhere whose name was made to resolve to the loopback reads nothing."""
        assert ask(dashboard(monitor), headers={"Host": host}).status == 403

    @pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Forwarded-A", "X_Forwarded_For", "X-Real-IP"])
    def test_what_came_through_a_proxy_is_not_local(self, monitor: ErrorMonitor, name: str) -> None:
        """A proxy on this machine opens it to nobody."""
        assert ask(dashboard(monitor), headers={name: "127.0.0.1"}).status == 403

    def test_authorize_decides_alone(self, monitor: ErrorMonitor) -> None:
        """With `authorize` neither peer, Host nor proxy matter, and its answer is asked for each time."""
        let_in = [True, False, "", None, "Ada"]
        app = dashboard(monitor, authorize=lambda scope: let_in.pop(0))
        facts = {"client": STRANGER, "headers": {"Host": "ops.example", "X-Forwarded-For": "10.0.0.1"}}
        assert [ask(app, **facts).status for _ in range(5)] == [200, 403, 403, 403, 200]

    def test_authorize_may_be_asynchronous(self, monitor: ErrorMonitor) -> None:
        """What it gives is awaited, whether it is a coroutine function or returns an awaitable."""

        async def later(scope: Any) -> bool:
            await asyncio.sleep(0)
            return bool(scope["client"] == STRANGER)

        for authorize in (later, lambda scope: later(scope)):
            app = dashboard(monitor, authorize=authorize)
            assert [ask(app, client=peer).status for peer in (STRANGER, LOCAL)] == [200, 403]

    def test_an_authorize_that_raises_is_403_and_logged(
        self, monitor: ErrorMonitor, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its error reaches the log, not the visitor."""

        def broken(scope: Any) -> bool:
            raise RuntimeError("no directory server")

        with caplog.at_level(logging.ERROR):
            answer = ask(dashboard(monitor, authorize=broken))
        assert answer.status == 403
        assert "directory" not in answer.text
        assert "authorize raised" in caplog.text

    def test_websockets_are_declined_and_lifespans_accepted(self, monitor: ErrorMonitor) -> None:
        """It needs no lifespan, and answers one that is offered."""
        app = dashboard(monitor)

        def run(kind: str, *incoming: str) -> list[str]:
            messages, sent = list(incoming), []

            async def receive() -> Any:
                return {"type": messages.pop(0)}

            async def send(message: Any) -> None:
                sent.append(message["type"])

            asyncio.run(app({"type": kind}, receive, send))  # type: ignore[arg-type] - a scope of just what is asked for
            return sent

        assert run("websocket", "websocket.connect") == ["websocket.close"]
        said = run("lifespan", "lifespan.startup", "lifespan.shutdown")
        assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


class TestPage:
    """The page and its files."""

    def test_every_answer_is_strict(self, monitor: ErrorMonitor) -> None:
        """Page, files, data, errors and refusals are not sniffed, not kept and not framed, and load nothing inline."""
        app = dashboard(monitor)
        for path in ("/", "/static/page.css", "/api/state", "/api/errors.csv", "/nowhere", "/api/state?span=7"):
            for client in (LOCAL, STRANGER):
                headers = ask(app, path, client=client).headers
                assert headers["x-content-type-options"] == "nosniff"
                assert headers["cache-control"] == "no-store"
                assert "unsafe" not in headers["content-security-policy"]
                assert "default-src 'none'" in headers["content-security-policy"]
                assert "frame-ancestors 'none'" in headers["content-security-policy"]
                assert "access-control-allow-origin" not in headers

    def test_what_the_page_loads_is_there(self, monitor: ErrorMonitor) -> None:
        """All files that the page, and its modules, name are served, and with the right type."""
        app = dashboard(monitor)
        page = ask(app).text
        assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page)
        names = set(re.findall(r'(?:src|href)="(static/[\w.]+)"', page))
        names |= {f"static/{name}" for name in re.findall(r'from "\./(\w+\.js)"', ask(app, "/static/page.js").text)}
        assert len(names) == 9
        kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
        for name in names:
            answer = ask(app, f"/{name}")
            assert answer.status == 200, name
            assert answer.headers["content-type"].startswith(kinds[name.rpartition(".")[2]])

    def test_a_wheel_has_the_pages_files(self) -> None:
        """They lie in the package that is built, and git ignores none of them: a build leaves out what it does."""
        root = Path(__file__).parent.parent
        if shutil.which("git") is None or not (root / ".git").exists() or not (root / "pyproject.toml").exists():
            pytest.skip("the tests are not in the source tree")
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        (package,) = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        files = [path for path in (root / package / "dashboard" / "static").iterdir() if path.is_file()]
        assert {path.suffix for path in files} == {".css", ".html", ".js", ".svg"}
        command = ["git", "check-ignore", "--no-index", *map(str, files)]
        assert subprocess.run(command, cwd=root, capture_output=True, check=False).stdout == b""

    def test_titles_and_names_are_text(self, monitor: ErrorMonitor) -> None:
        """Markup, and what looks like the page's own holes, stands in the title as it is."""
        page = ask(dashboard(monitor, title=HOSTILE, authorize=lambda scope: HOSTILE)).text
        assert "<img" not in page
        assert page.count("&lt;img") == 3
        assert "{{token}}" in page

    @pytest.mark.parametrize("root", ["", "/ops/errors"])
    def test_a_missing_slash_is_added(self, monitor: ErrorMonitor, root: str) -> None:
        """Without the slash at the end, the page's relative addresses would lead elsewhere."""
        app = dashboard(monitor)
        assert ask(app, f"{root}/", root_path=root).status == 200
        if root:
            answer = ask(app, root, root_path=root)
            assert (answer.status, answer.headers["location"]) == (307, "./errors/")

    @pytest.mark.parametrize("query", ["severity=critical", "text=a%2Fb%3Fc&span=360", "x"])
    def test_the_slash_costs_no_query(self, monitor: ErrorMonitor, query: str) -> None:
        """What was asked for stands behind the slash, under ASGI and WSGI, whatever the name that it is mounted at."""
        asked = ask(dashboard(monitor), f"/ops:errors?{query}", root_path="/ops:errors")
        assert asked.headers["location"] == f"./ops:errors/?{query}"
        asked = ask_wsgi(dashboard_wsgi(monitor), f"?{query}", script="/errors")
        assert asked.headers["location"] == f"./errors/?{query}"

    def test_a_prefix_that_a_proxy_took_off_changes_nothing(self, monitor: ErrorMonitor) -> None:
        """A `root_path` that the path doesn't have is none of the page's business."""
        app = dashboard(monitor)
        assert ask(app, "/", root_path="/behind").status == 200
        assert ask(app, "/api/state", root_path="/behind").status == 200

    def test_other_methods_and_paths_are_errors(self, monitor: ErrorMonitor) -> None:
        """Unknown paths are 404, other methods 405."""
        app = dashboard(monitor)
        assert ask(app, "/nowhere").status == 404
        assert ask(app, "/static/page.html").status == 404
        assert ask(app, "/static/../app.py").status == 404
        assert ask(app, "/", method="DELETE").status == 405
        assert ask(app, "/api/breakers").status == 405

    def test_a_broken_monitor_is_told_without_its_words(self, caplog: pytest.LogCaptureFixture) -> None:
        """What the monitor raises goes into the log; the page says that it failed."""

        class Broken(ErrorMonitor):
            def stats(self) -> Any:
                raise RuntimeError("inner words")

        with caplog.at_level(logging.ERROR):
            answer = ask(dashboard(Broken()), "/api/state")
        assert answer.status == 500
        assert "inner" not in answer.text
        assert "could not answer" in caplog.text


class TestState:
    """What it tells."""

    def test_the_state_has_everything_on_the_page(self, monitor: ErrorMonitor, breaker: CircuitBreaker) -> None:
        """Numbers, groups with first and last seen and spark line, breakers, and the chart."""
        state = ask(dashboard(monitor, breakers=[breaker]), "/api/state").json()
        assert state["stats"]["total"] == state["kept"] == 7
        assert [group["operation"] for group in state["groups"]] == [group.operation for group in monitor.groups()]
        slots = next(group for group in state["groups"] if group["operation"] == "lookUpSlots")
        assert (slots["count"], slots["severity"], slots["message"]) == (4, "error", "no answer from slot server 3")
        assert sum(slots["spark"]) == 4
        assert len(slots["spark"]) == 60
        assert sum(state["chart"]["series"]["critical"]) == 1
        assert state["breakers"][0]["state"] == "closed"
        assert state["processes"] is None
        assert state["operations"] == ["chargeCard", "formatPrice", "lookUpSlots", "sendWelcomeMessage"]

    def test_a_state_that_was_seen_is_not_sent_again(self, monitor: ErrorMonitor) -> None:
        """With the version that the page has the answer is 204, until something happens."""
        app = dashboard(monitor)
        version = ask(app, "/api/state").json()["version"]
        assert ask(app, f"/api/state?seen={version}").status == 204
        monitor.log_chat_error("another", ValueError())
        assert ask(app, f"/api/state?seen={version}").json()["kept"] == 8

    @pytest.mark.parametrize(
        ("query", "operations"),
        [
            ("category=payment", ["chargeCard"]),
            ("severity=warning", ["sendWelcomeMessage"]),
            ("outcome=recovered", ["sendWelcomeMessage"]),
            ("operation=lookUpSlots", ["lookUpSlots"]),
            ("operation=lookUp", []),
            ("text=SLOT+server+2", ["lookUpSlots"]),
            ("text=b-17", ["chargeCard"]),
            ("text=7", ["chargeCard"]),
            ("text=seen+twice", ["chargeCard"]),
            ("text=nothing+such", []),
            ("severity=critical&category=network", []),
            ("last=60", ["formatPrice", "sendWelcomeMessage", "lookUpSlots", "chargeCard"]),
            ("last=0", []),
            ("since=2100-01-01T00:00:00Z", []),
            ("until=2100-01-01T00:00:00%2B01:00&category=chat", ["sendWelcomeMessage"]),
        ],
    )
    def test_filters_leave_out_groups(self, monitor: ErrorMonitor, query: str, operations: list[str]) -> None:
        """A group is shown if one of its kept records passes all filters."""
        state = ask(dashboard(monitor), f"/api/state?{query}").json()
        assert [group["operation"] for group in state["groups"]] == operations
        assert state["filtered"] is True

    def test_a_filter_counts_what_passes(self, monitor: ErrorMonitor) -> None:
        """Of a group it tells how many kept records pass, and how many there were."""
        (group,) = ask(dashboard(monitor), "/api/state?text=server+2").json()["groups"]
        assert (group["matching"], group["count"]) == (1, 4)

    @pytest.mark.parametrize(
        "query", ["category=x", "severity=x", "outcome=x", "last=x", "last=-1", "last=nan", "last=1e99", "since=x",
                  "since=2026-01-01T00:00:00", "until=soon", "span=61", "span=x"],
    )  # fmt: skip
    def test_a_filter_that_makes_no_sense_is_rejected(self, monitor: ErrorMonitor, query: str) -> None:
        """An unknown value is a 400 that names the filter."""
        answer = ask(dashboard(monitor), f"/api/state?{query}")
        assert answer.status == 400
        assert query.partition("=")[0] in answer.json()["message"]

    def test_records_of_processes_can_be_told_apart(self, monitor: ErrorMonitor) -> None:
        """The filter by process takes host and process ID as the state lists them."""
        app = dashboard(monitor)
        (process,) = ask(app, "/api/state").json()["record_processes"]
        assert len(ask(app, f"/api/state?process={process.replace(' ', '+')}").json()["groups"]) == 4
        assert ask(app, "/api/state?process=elsewhere+1").json()["groups"] == []

    def test_longer_spans_have_as_many_bars(self, monitor: ErrorMonitor) -> None:
        """Six hours and a day are shown as means of several minutes."""
        for span in (60, 360, 1440):
            chart = ask(dashboard(monitor), f"/api/state?span={span}").json()["chart"]
            bars = chart["series"]["critical"]
            assert len(bars) == 60
            assert sum(bars) * chart["minutes_per_bar"] == pytest.approx(1, abs=0.02)

    def test_transitions_of_alert_and_breakers_are_marked(self, breaker: CircuitBreaker) -> None:
        """The chart has when the alert fired and when breakers opened, with their redacted reasons."""
        monitor = ErrorMonitor()
        app = dashboard(monitor, breakers=[breaker])
        breaker.isolate("password=hunter2")
        for number in range(11):
            monitor.log_network_error("lookUp", ConnectionError(str(number)))
        state = ask(app, "/api/state").json()
        marks = [(mark["kind"], mark["text"].partition(" (")[0]) for mark in state["chart"]["marks"]]
        assert sorted(marks) == [
            ("alert", "alert firing: 11 errors per minute"),
            ("breaker", "appwrite: closed → isolated"),
        ]
        assert state["alert"]["peak"] == 11
        assert "hunter2" not in json.dumps(state)

    def test_a_group_unfolds_record_by_record(self, monitor: ErrorMonitor) -> None:
        """Newest first, each with causes, notes, context and stack; beyond the last there is the last."""
        app = dashboard(monitor)
        groups = {group.operation: group.fingerprint for group in monitor.groups()}
        facts = ask(app, f"/api/groups/{groups['chargeCard']}").json()
        assert (facts["index"], facts["count"]) == (0, 1)
        assert facts["record"]["notes"] == ["seen twice today"]
        assert facts["record"]["context"] == {"booking_id": "b-17", "tries": 3}
        assert "JSONDecodeError" in facts["record"]["causes"][0]
        assert facts["record"]["pid"] is not None
        slots = f"/api/groups/{groups['lookUpSlots']}"
        messages = [ask(app, f"{slots}?index={index}").json()["record"]["message"][-1] for index in (0, 1, 3, 99)]
        assert messages == ["3", "2", "0", "0"]
        assert ask(app, f"{slots}?text=server+1&index=0").json()["count"] == 1
        assert ask(app, f"{slots}?category=chat").status == 404
        assert ask(app, "/api/groups/none").status == 404
        assert ask(app, f"{slots}?index=x").status == 400

    def test_own_frames_come_first(self, monitor: ErrorMonitor) -> None:
        """Frames of the application stand before those of Python and installed packages, the innermost first."""
        fingerprint = next(group.fingerprint for group in monitor.groups() if group.operation == "chargeCard")
        frames = ask(dashboard(monitor), f"/api/groups/{fingerprint}").json()["frames"]
        own = [frame["own"] for frame in frames]
        assert own == sorted(own, reverse=True)
        assert (frames[0]["function"], frames[0]["code"]) == ("charge", "raise refused from error")
        assert any(frame["file"].endswith("decoder.py") for frame in frames if not frame["own"])

    def test_downloads_are_complete(self, monitor: ErrorMonitor) -> None:
        """JSON and CSV have every record that is kept, as files."""
        app = dashboard(monitor)
        as_json, as_csv = ask(app, "/api/errors.json"), ask(app, "/api/errors.csv")
        assert len(load_json(as_json.text)) == 7
        assert len(list(csv.DictReader(io.StringIO(as_csv.text, newline=""), strict=True))) == 7
        assert as_json.headers["content-disposition"] == 'attachment; filename="errors.json"'


class TestChanges:
    """Reset and isolate."""

    def test_a_breaker_is_isolated_and_reset(self, monitor: ErrorMonitor, breaker: CircuitBreaker) -> None:
        """With the page's token, POST isolates and resets, and answers with the breakers as they are then."""
        app = dashboard(monitor, breakers=[breaker])
        answer = act(app)
        assert answer.status == 200
        assert answer.json()["breakers"][0]["state"] == "isolated"
        assert breaker.snapshot().reason == "maintenance"
        act(app, asked={"action": "reset", "name": "appwrite"})
        assert breaker.state is BreakerState.CLOSED
        assert breaker.snapshot().reason == "reset on the dashboard"

    def test_the_visitors_name_stands_in_the_reason(self, monitor: ErrorMonitor, breaker: CircuitBreaker) -> None:
        """What `authorize` returned as a string is recorded in the reason, so that events and logs have it."""
        app = dashboard(monitor, breakers=[breaker], authorize=lambda scope: "Ada\nLovelace")
        reasons: list[str] = []
        breaker.subscribe(lambda event: reasons.append(event.reason))
        assert act(app).status == 200
        assert breaker.snapshot().reason == "maintenance (by Ada Lovelace)"
        assert "(by Ada Lovelace)" in reasons[0]

    @pytest.mark.parametrize("token", ["", "x", "0" * 64, "ü"])
    def test_without_the_token_nothing_changes(
        self, monitor: ErrorMonitor, breaker: CircuitBreaker, token: str
    ) -> None:
        """A missing or wrong token is 403."""
        app = dashboard(ErrorMonitor(), breakers=[breaker])
        assert act(app, token).status == 403
        assert breaker.state is BreakerState.CLOSED

    def test_the_token_holds_in_every_worker_with_the_same_secret(self, monitor: ErrorMonitor) -> None:
        """The same secret gives the same token; another secret or another visitor another one."""
        breaker = CircuitBreaker("appwrite")
        first, second = (dashboard(monitor, breakers=[breaker], secret=secret) for secret in ("s", b"s"))
        token = token_of(ask(first))
        assert act(second, token).status == 200
        assert act(dashboard(monitor, breakers=[breaker], secret="t"), token).status == 403
        assert act(dashboard(monitor, breakers=[breaker]), token).status == 403
        named = dashboard(monitor, breakers=[breaker], secret="s", authorize=lambda scope: "Ada")
        assert act(named, token).status == 403

    def test_the_token_holds_in_every_worker_with_the_same_journal(self, tmp_path: Path) -> None:
        """Without a secret given, the first one in the journal counts, for monitors of processes and of the fleet."""
        breaker = CircuitBreaker("appwrite")
        with (
            closing(SQLiteJournal(tmp_path / "errors.db")) as one,
            closing(SQLiteJournal(tmp_path / "errors.db")) as two,
        ):
            worker = ErrorMonitor(journal=one)
            worker.log_chat_error("before", ValueError())
            assert worker.flush()
            with FleetMonitor(two) as fleet:
                apps = [dashboard(monitor, breakers=[breaker]) for monitor in (worker, fleet)]
                until(lambda: len({token_of(ask(app)) for app in apps}) == 1, "the same token")
                assert act(apps[1], token_of(ask(apps[0]))).status == 200
                until(lambda: fleet.stats().total == 1, "the fleet to read on")
                state = ask(apps[1], "/api/state").json()
                assert (state["stale_since"], state["groups"][0]["operation"]) == (None, "before")
                until(lambda: [each.records for each in fleet.processes()] == [1], "the heartbeat")
                assert [each["records"] for each in ask(apps[1], "/api/state").json()["processes"]] == [1]

    def test_without_its_journal_the_page_works_by_itself(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A journal that can't be read costs the page its shared token, not the page."""

        class Gone:
            def append(self, entries: Any) -> None:
                raise OSError("password=hunter2")

            def read(self, after: Any = None, limit: int = 1000) -> Any:
                raise OSError("password=hunter2")

            def close(self) -> None:
                pass

        # Other tests run libraries that disable loggers and exchange the root's handlers.
        monkeypatch.setattr(tokens.logger, "disabled", False)
        monkeypatch.setattr(tokens.logger, "handlers", [caplog.handler])
        caplog.set_level(logging.WARNING, tokens.logger.name)
        told, end = "the page's secret can't be read from the journal (OSError)", time.monotonic() + 60
        with FleetMonitor(Gone()) as fleet:
            app = dashboard(fleet, breakers=[CircuitBreaker("appwrite")])
            assert act(app).status == 200
            assert ask(app, "/api/state").json()["stale_since"] is not None
            while told not in caplog.text and time.monotonic() < end:  # a background thread looks for it
                time.sleep(0.01)
        assert told in caplog.text
        assert "hunter2" not in caplog.text

    @pytest.mark.parametrize(
        ("asked", "status"),
        [
            (b"", 400),
            (b"{", 400),
            (b"[" * 10_000, 400),
            (b"\xff", 400),
            ([], 422),
            ({}, 422),
            ({"action": "open", "name": "appwrite"}, 422),
            ({"action": "reset"}, 422),
            ({"action": "reset", "name": "appwrite", "nth": -1}, 422),
            ({"action": "reset", "name": "appwrite", "nth": True}, 422),
            ({"action": "reset", "name": "appwrite", "nth": 1}, 404),
            ({"action": "reset", "name": "another"}, 404),
            ({"action": "reset", "name": "appwrite", "reason": 5}, 422),
            ({"action": "reset", "name": "appwrite", "reason": "x" * 201}, 422),
            (b"x" * 20_000, 413),
        ],
    )
    def test_a_wrong_request_is_told(
        self, monitor: ErrorMonitor, breaker: CircuitBreaker, asked: Any, status: int
    ) -> None:
        """What can't be read, or names nothing that there is, changes nothing."""
        breaker.isolate("before")
        assert act(dashboard(ErrorMonitor(), breakers=[breaker]), asked=asked).status == status
        assert breaker.snapshot().reason == "before"

    def test_the_body_must_be_json(self, monitor: ErrorMonitor, breaker: CircuitBreaker) -> None:
        """A form of another site is 415, even with the token."""
        app = dashboard(monitor, breakers=[breaker])
        assert act(app, headers={"Content-Type": "text/plain"}).status == 415
        assert breaker.state is BreakerState.CLOSED

    def test_breakers_of_one_name_are_told_apart(self, monitor: ErrorMonitor) -> None:
        """`nth` counts the breakers of a name."""
        pair = [CircuitBreaker("same"), CircuitBreaker("same")]
        app = dashboard(monitor, breakers=(breaker for breaker in pair))
        assert act(app, asked={"action": "isolate", "name": "same", "nth": 1, "reason": "r"}).status == 200
        assert [breaker.state for breaker in pair] == [BreakerState.CLOSED, BreakerState.ISOLATED]

    @pytest.mark.parametrize("is_open", [True, False])
    def test_a_shared_breaker_is_changed_for_its_fleet(self, monitor: ErrorMonitor, is_open: bool) -> None:
        """It acts on all processes; once the sharing has been closed, on this one."""
        asked = []

        class Sharing(CircuitBreaker):
            def snapshot(self) -> Any:
                shared = SharedSnapshot(connected=is_open, state=BreakerState.CLOSED, reporters=0, since=None)
                return dataclasses.replace(super().snapshot(), shared=shared)

            def isolate(self, reason: str, *, fleet: bool = False) -> None:
                if fleet and not is_open:
                    raise ValueError("fleet must be False for a breaker that is not shared, not True")
                asked.append(fleet)
                super().isolate(reason)

        app = dashboard(monitor, breakers=[Sharing("appwrite")])
        assert act(app).json()["breakers"][0]["shared"]["connected"] is is_open
        assert asked == [is_open]

    def test_a_mapping_names_its_breakers(self, monitor: ErrorMonitor, breaker: CircuitBreaker) -> None:
        """The keys of a mapping are the names on the page."""
        app = dashboard(monitor, breakers={"rows": breaker})
        assert ask(app, "/api/state").json()["breakers"][0]["name"] == "rows"
        assert act(app, asked={"action": "isolate", "name": "rows"}).status == 200

    def test_a_collection_that_grows_is_followed(self, monitor: ErrorMonitor, breaker: CircuitBreaker) -> None:
        """Breakers that come later are shown, and their transitions marked."""
        grown: list[CircuitBreaker] = []
        app = dashboard(monitor, breakers=grown)
        assert ask(app, "/api/state").json()["breakers"] == []
        grown.append(breaker)
        assert ask(app, "/api/state").json()["breakers"][0]["name"] == "appwrite"
        breaker.isolate("now")
        assert len(ask(app, "/api/state").json()["chart"]["marks"]) == 1


class TestLimits:
    """The limits and rates of this process."""

    def test_each_limit_is_shown_as_it_is(self, monitor: ErrorMonitor) -> None:
        """A limit tells how full it is, a rate its burst, and both how many calls they rejected."""
        rows, mails = ConcurrencyLimit("rows", limit=1), RateLimit("mails", rate=2, per=3600.0)
        app = dashboard(monitor, limits={"database": rows, "mails": mails})
        assert mails.try_acquire(2)
        assert not mails.try_acquire()
        with rows.guard():
            found = ask(app, "/api/state").json()["limits"]
        facts = {"in_flight": 1, "limit": 1, "queued": 0, "refused": 0, "is_rate": False, "is_full": True}
        assert found[0] == {"name": "database", "nth": 0, **facts}
        facts = {"in_flight": 0, "limit": 2, "queued": 0, "refused": 1, "is_rate": True, "is_full": False}
        assert found[1] == {"name": "mails", "nth": 0, **facts}
        assert ask(app, "/api/state").json()["limits"][0]["is_full"] is False

    def test_limits_of_one_name_are_told_apart(self, monitor: ErrorMonitor) -> None:
        """`nth` counts the limits of a name, and a collection that grows is followed."""
        grown = [AdaptiveLimit("same")]
        app = dashboard(monitor, limits=grown)
        grown.append(AdaptiveLimit("same"))
        assert [row["nth"] for row in ask(app, "/api/state").json()["limits"]] == [0, 1]


class TestArguments:
    """Wrong arguments are rejected when it is made."""

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"monitor": object()}, TypeError),
            ({"monitor": ErrorMonitor}, TypeError),
            ({"title": ""}, ValueError),
            ({"title": 5}, TypeError),
            ({"authorize": "me"}, TypeError),
            ({"secret": ""}, ValueError),
            ({"secret": 5}, TypeError),
            ({"breakers": 5}, TypeError),
            ({"breakers": ["appwrite"]}, TypeError),
            ({"limits": 5}, TypeError),
            ({"limits": [CircuitBreaker("appwrite")]}, TypeError),
        ],
    )
    @pytest.mark.parametrize("make", [dashboard, dashboard_wsgi])
    def test_each_is_named(self, make: Any, arguments: dict[str, Any], error: type[Exception]) -> None:
        """The error names the argument."""
        with pytest.raises(error, match=next(iter(arguments))):
            make(**{"monitor": ErrorMonitor(), **arguments})

    def test_without_the_extra_it_says_what_to_install(self) -> None:
        """Importing the module and asking for health needs no Starlette; the dashboard says what is missing."""
        code = """
import sys
sys.modules["starlette"] = sys.modules["anyio"] = None
from booking_resilience import ErrorMonitor
from booking_resilience.dashboard import dashboard, health
assert health().status == "ok"
try:
    dashboard(ErrorMonitor())
except ImportError as error:
    assert "booking-resilience[dashboard]" in str(error), error
else:
    raise SystemExit("no error")
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class TestWsgi:
    """The same under WSGI."""

    def test_everything_works_below_a_prefix(self, monitor: ErrorMonitor, breaker: CircuitBreaker) -> None:
        """Page, files, state and changes are served to the loopback, whose port the server need not tell."""
        app = dashboard_wsgi(monitor, breakers=[breaker])
        page = ask_wsgi(app, "/", script="/errors")
        assert page.status == 200
        assert ask_wsgi(app, "", script="/errors").headers["location"] == "./errors/"
        assert ask_wsgi(app, "/static/page.js", script="/errors").status == 200
        assert ask_wsgi(app, "/api/state?category=chat", script="/errors").json()["filtered"] is True
        body = json.dumps({"action": "isolate", "name": "appwrite"}).encode()
        headers = {"Content-Type": "application/json", "X-Dashboard-Token": token_of(page)}
        answer = ask_wsgi(app, "/api/breakers", method="POST", script="/errors", headers=headers, body=body)
        assert answer.status == 200
        assert breaker.state is BreakerState.ISOLATED

    @pytest.mark.parametrize(
        "facts",
        [
            {"peer": "203.0.113.9"},
            {"peer": None},
            {"host": "evil.example"},
            {"headers": {"X-Forwarded-For": "127.0.0.1"}},
        ],
    )
    def test_strangers_get_403(self, monitor: ErrorMonitor, facts: dict[str, Any]) -> None:
        """The rules are those of ASGI."""
        assert ask_wsgi(dashboard_wsgi(monitor), **facts).status == 403

    @pytest.mark.parametrize(("peer", "status"), [("127.0.0.1", 404), ("203.0.113.9", 403)])
    def test_bytes_that_no_browser_sends_are_borne(self, monitor: ErrorMonitor, peer: str, status: int) -> None:
        """A path that isn't UTF-8 is none of the page's, and a query may hold any byte."""
        app = dashboard_wsgi(monitor)
        assert ask_wsgi(app, "/\xff", peer=peer).status == status
        assert ask_wsgi(app, "/api/state?text=\xff", peer=peer).status == (200 if status == 404 else 403)

    def test_a_server_without_a_port_is_served(self, monitor: ErrorMonitor) -> None:
        """Behind a Unix socket the ports are empty; the peer is unknown there, so only `authorize` lets in."""
        app = dashboard_wsgi(monitor, authorize=lambda _: True)
        portless = {"SERVER_PORT": "", "REMOTE_PORT": "", "REMOTE_ADDR": ""}
        assert ask_wsgi(lambda environ, start: app({**environ, **portless}, start)).status == 200

    def test_authorize_sees_the_environment(self, monitor: ErrorMonitor) -> None:
        """The scope has the request's WSGI environment."""
        app = dashboard_wsgi(monitor, authorize=lambda scope: scope["wsgi_environ"]["REMOTE_ADDR"] == "203.0.113.9")
        assert ask_wsgi(app, peer="203.0.113.9").status == 200
        assert ask_wsgi(app).status == 403

    def test_it_survives_a_fork(self, monitor: ErrorMonitor) -> None:
        """A worker that was forked after the first answer answers, too."""
        app = dashboard_wsgi(monitor)
        assert ask_wsgi(app).status == 200
        found = multiprocessing.get_context("fork").Queue()

        def child() -> None:
            found.put(ask_wsgi(app).status)

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        assert found.get(timeout=60) == 200
        process.join(60)


def test_a_filter_compares_moments_of_any_zone() -> None:
    """`since` and `until` are inclusive, whatever their offset."""
    from booking_resilience.dashboard.filters import parse_filter

    record = ErrorMonitor().log_chat_error("o", ValueError())
    zone = datetime.timezone(datetime.timedelta(hours=-9))
    exact = record.timestamp.astimezone(zone).isoformat()
    now = record.timestamp
    assert parse_filter({"since": exact, "until": exact}, now).accepts(record)
    later = (record.timestamp + datetime.timedelta(microseconds=1)).astimezone(zone).isoformat()
    assert not parse_filter({"since": later}, now).accepts(record)
    assert parse_filter({"until": later}, now).accepts(record)


class TestCommand:
    """`python -m booking_resilience.dashboard`."""

    def test_it_serves_a_journal_without_the_application(self, tmp_path: Path) -> None:
        """It says where, shows the journal's errors to the loopback, and ends on Ctrl-C with exit code 130."""
        path = tmp_path / "errors.db"
        with closing(SQLiteJournal(path)) as journal:
            monitor = ErrorMonitor(journal=journal)
            fail_all(monitor)
            assert monitor.flush(20.0)
        running = self.run("--journal", str(path), "--port", "0")
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            found = re.match(r"Dashboard: (http://127\.0\.0\.1:\d+/) \(Ctrl-C ends it\)", line)
            assert found is not None, line
            until(lambda: requests.get(found[1] + "api/state", timeout=20).json()["kept"] == 7, "the records")
            answer = requests.get(found[1], timeout=20, headers={"X-Forwarded-For": "127.0.0.1"})
            assert answer.status_code == 403
            assert "server" not in answer.headers
            running.send_signal(signal.SIGINT)
            assert running.wait(60) == 130
        finally:
            running.kill()
            running.communicate()

    @pytest.mark.parametrize(
        ("arguments", "code", "says"),
        [
            ([], 2, "--journal"),
            (["--journal", "nowhere.db"], 2, "no such file"),
            (["--journal", "pyproject.toml"], 1, "pyproject.toml"),
            (["--journal", "redis://127.0.0.1:1", "--port", "70000"], 2, "from 0 to 65535"),
            (["--journal", "redis://127.0.0.1:1", "--host", " "], 2, "--host must not be empty"),
        ],
    )
    def test_what_cannot_start_ends_with_one_line(
        self, arguments: list[str], code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        """Wrong arguments are code 2, what can't be opened is code 1, and both say why."""
        monkeypatch.chdir(Path(__file__).parent.parent)
        try:
            found: Any = __main__.main(arguments)
        except SystemExit as ended:
            found = ended.code
        errors = capsys.readouterr().err
        assert found == code
        assert says in errors
        assert "Traceback" not in errors

    def run(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command."""
        command = [sys.executable, "-m", "booking_resilience.dashboard", *arguments]
        root = Path(__file__).parent.parent
        return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
