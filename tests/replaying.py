"""Replaying recorded exchanges against an Appwrite server, embedded or real, and telling the differences.

Two files of recordings of a real Appwrite 1.9.6: `appwrite_recordings.jsonl`, 484 lines, and
`appwrite_exchanges.jsonl`, 236 exchanges and the 30 requests that set their table up. Compared are status, body and the
headers that matter. Moments, sequence numbers, versions and IDs made by the server are normalised.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from booking_resilience.testing import AppwriteServer, Fault, VirtualClock

DATA = Path(__file__).parent / "data"
RECORDINGS, EXCHANGES = DATA / "appwrite_recordings.jsonl", DATA / "appwrite_exchanges.jsonl"
LAST_QUIET = 513
"""The recordings after this one show a server whose database, cache or processes are being stopped."""

_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
_KEYS = {"wrong key": "wrong", "malformed key": "malformed", "read-only key": "read-only", "expired key": "expired"}
_TOLD = ("Content-Type", "X-Ratelimit-Limit", "X-Debug-Operations")
_MOMENTARY = ("datetime 'now'", "datetime ''", "datetime 'tomorrow'", "create bad datetime")
_LATE_WORKER = range(424, 429)
"""The columns of these exchanges weren't available yet when the next ones came."""


def load(path: Path) -> list[dict[str, Any]]:
    """Return recordings in their order."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def plain(value: Any, *, keeps_dates: bool = False, key: str = "") -> Any:
    """Return a body without what differs from run to run."""
    if isinstance(value, dict):
        kept = {
            name: plain(item, keeps_dates=keeps_dates, key=name)
            for name, item in value.items()
            if name not in ("$sequence", "version")
        }
        if re.fullmatch(r"[0-9a-f]{20}|<gen>|\d+_\d+_\w+", str(kept.get("$id"))):
            kept["$id"] = "*"
        return kept
    if isinstance(value, list):
        return [plain(item, keeps_dates=keeps_dates) for item in value]
    is_date = isinstance(value, str) and (value == "<now>" or _DATE.fullmatch(value) is not None)
    return "date" if is_date and (not keeps_dates or key.startswith(("$", "expires"))) else value


@dataclass
class Player:
    """Sends recorded requests to a server and compares what comes back.

    Attributes:
        server: The embedded server; None for a real one.
        clock: Its clock, where the recordings wait.
    """

    endpoint: str
    project: str
    key: str
    server: AppwriteServer | None = None
    clock: VirtualClock | None = None
    ids: dict[str, str] = field(default_factory=dict)

    def send(self, method: str, path: str, headers: dict[str, str], raw: bytes | None) -> tuple[int, Any, Any]:
        """Send a request; return status, headers and body: what JSON holds, or text."""
        url = urlsplit(self.endpoint)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = kind(url.hostname or "", url.port, timeout=60)
        connection.request(method, path, raw, headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        is_json = answer.headers.get("Content-Type", "").startswith("application/json") or body.startswith(b"{")
        return answer.status, answer.headers, json.loads(body) if is_json and body else body.decode()

    def quietly(self, method: str, path: str, body: Any, *, as_guest: bool = False) -> None:
        """Send a request that must succeed."""
        headers = {"content-type": "application/json", "x-appwrite-project": self.project}
        if not as_guest:
            headers["x-appwrite-key"] = self.key
        status, _, answer = self.send(method, path, headers, None if body is None else json.dumps(body).encode())
        assert status < 300, (method, path, body, answer)

    def recorded(self, recording: dict[str, Any]) -> list[str]:
        """Replay one of the older recordings; return in what the answer differs."""
        request, response, label = recording["request"], recording.get("response"), str(recording["label"])
        headers = {name: value for name, value in request["headers"].items() if value != ""}
        if "x-appwrite-project" in headers and headers["x-appwrite-project"] == "proj1":
            headers["x-appwrite-project"] = self.project
        if "x-appwrite-key" in headers:
            names = [name for name in _KEYS if name in label]
            headers["x-appwrite-key"] = _KEYS[names[0]] if names else self.key
        if label.startswith("Origin not allowed"):
            headers["origin"] = "https://evil.example"  # the recordings keep no such header
        path, raw = request["path"], _raw(request.get("body"), label)
        for old, new in self.ids.items():
            path, raw = path.replace(old, new), raw and raw.replace(old.encode(), new.encode())
        if self.server is not None and recording["n"] > LAST_QUIET and (response is None or _is_trouble(response)):
            self.server.faults.script([_fault(recording)])
        if self.clock is not None and "accepted again" in label:
            self.clock.advance(60)
        try:
            status, got, body = self.send(request["method"], path, headers, raw)
        except http.client.RemoteDisconnected:
            return [] if response is None else ["no answer"]
        if response is None:
            return [f"status {status} where there was no answer"]
        if path.endswith("/transactions") and status == 201:
            self.ids[response["body"]["$id"]] = body["$id"]
        found = [] if status == response["status"] else [f"status {status} for {response['status']}"]
        for name in _TOLD:
            wanted, told = response["headers"].get(name) or "", got.get(name) or ""
            if wanted.lower() != told.lower() and (recording["n"] <= LAST_QUIET or name == "Content-Type"):
                found.append(f"{name} {told} for {wanted}")
        mine, its = plain(body), plain(response["body"])
        if isinstance(its, dict) and its.keys() & {"truncated", "__clipped__"}:
            mine, its = _clipped(mine), _clipped(its)
        if recording["n"] > LAST_QUIET and isinstance(its, dict) and isinstance(mine, dict):
            for one in (mine, its):
                one.pop("total", None)  # rows of probes that are left out
        if mine != its:
            found.append(f"body {json.dumps(mine)[:600]} for {json.dumps(its)[:600]}")
        return found

    def exchanged(self, exchange: dict[str, Any]) -> list[str]:
        """Replay one of the further exchanges; return in what the answer differs."""
        request, label = exchange["request"], exchange["label"]
        headers = {"x-appwrite-project": self.project, "x-appwrite-key": self.key, "content-type": "application/json"}
        if self.server is not None:
            headers["host"] = "localhost"
            self.server.api.tables.worker_runs = exchange["n"] not in _LATE_WORKER
        headers.update({name.lower(): value for name, value in request.get("headers", {}).items()})
        for name in request.get("without", ()):
            del headers[name]
        raw = request["raw_body"].encode() if "raw_body" in request else None
        raw = json.dumps(request["body"]).encode() if "body" in request else raw
        status, got, body = self.send(request["method"], request["path"], headers, raw)
        if exchange.get("setup"):
            is_first = exchange["n"] == 1  # it removes what an earlier run has left
            return [] if status < 300 or is_first else [f"setup answered {status}: {body}"]
        response = exchange["response"]
        found = [] if status == response["status"] else [f"status {status} for {response['status']}"]
        for name, wanted in response["headers"].items():
            if got.get(name) != wanted:
                found.append(f"{name} {got.get(name)} for {wanted}")
        mine, its = (plain(one, keeps_dates=label not in _MOMENTARY) for one in (body, response["body"]))
        if label == "query orderRandom":
            mine, its = (sorted(one["rows"], key=lambda row: row["$id"]) for one in (mine, its))
        if isinstance(mine, str):
            mine = mine[:200]
        if isinstance(mine, dict) and "message" in mine:
            mine["message"] = mine["message"].replace(f"app.{self.project}@", "app.booking@")
        if mine != its:
            found.append(f"body {json.dumps(mine)[:600]} for {json.dumps(its)[:600]}")
        return found


def _is_trouble(response: dict[str, Any]) -> bool:
    return response["status"] == 408 or response["status"] >= 500


def _fault(recording: dict[str, Any]) -> Fault:
    """Return the fault that stands for a server in trouble; without an answer a write may have been applied."""
    response = recording.get("response")
    if response is None:
        return Fault.close(after_commit=recording["n"] in APPLIED)
    body = response["body"] if isinstance(response["body"], dict) else {}
    kind = response["headers"].get("Content-Type", "")
    return Fault.status(response["status"], type=body.get("type"), content_type=kind)


def _raw(body: Any, label: str) -> bytes | None:
    """Return a recorded body as it was sent; long ones are recorded by their ends."""
    if isinstance(body, dict) and "truncated" in body:
        middle = body["bytes"] - len(body["head"]) - len(body["tail"])
        return (body["head"] + "z" * middle + body["tail"]).encode()
    if isinstance(body, dict) and "__clipped__" in body:
        name = "documents" if '"documents"' in body["head"] else "rows"
        count = 101 if '"z0"' in body["head"] else 100
        rows = [{"$id": f"z{n}", "title": f"Z{n}", "pages": 1} for n in range(count)] if count == 101 else books(0, 100)
        return json.dumps({name: rows}).encode()
    if isinstance(body, dict) and "base64len" in body:
        return b'{"rowId":"u8","data":{"title":"\xff\xfe","pages":1}}'
    if body is None or (isinstance(body, str) and label != "body is JSON string"):
        return None if body is None else body.encode()
    return json.dumps(body).encode()


def _clipped(body: Any) -> Any:
    """Return what can be compared of a body that is recorded by its ends: whether it is JSON or a page."""
    head = body.get("head", "{") if isinstance(body, dict) else body
    return "page" if head.lstrip(' "').startswith("<") else "JSON"


def books(first: int, last: int) -> list[dict[str, Any]]:
    """Return the books of the recorded bulk creates."""
    return [
        {
            "$id": f"b{number:03}",
            "title": f"Book {number:03}",
            "pages": number * 10,
            "rating": float(number % 5),
            "genre": ("novel", "essay", "poem")[number % 3],
            "tags": [f"t{number % 4}"],
        }
        for number in range(first, last)
    ]


def _at_once(player: Player, recording: dict[str, Any]) -> list[str]:
    """Send eight creates of one ID at once, as recorded: one of them wins."""
    path = recording["request"]["path"][recording["request"]["path"].index("/v1/") :]
    name = "documentId" if path.endswith("documents") else "rowId"
    headers = {"content-type": "application/json", "x-appwrite-project": player.project, "x-appwrite-key": player.key}
    answers: list[list[Any]] = []

    def create(number: int) -> None:
        body = {name: "raced", "data": {"title": f"Raced {number}", "pages": number}}
        status, _, answer = player.send("POST", path, headers, json.dumps(body).encode())
        answers.append([status, answer.get("type")])

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answers.sort(key=str)
    return [] if answers == recording["response"]["body"] else [f"answers {answers}"]


APPLIED = (552, 565, 572, 603)
"""The writes that were applied though they were never answered, as later recordings show."""

BEFORE: dict[int, list[tuple[str, str, Any]]] = {
    476: [
        ("POST", "/v1/tablesdb/tmain/tables/guest/rows", {"rowId": f"g{number}", "data": {"t": "x"}})
        for number in range(2, 118)
    ],
}
"""What guests did between two recordings that the recordings leave out."""


def is_exchange(recording: dict[str, Any]) -> bool:
    """Tell whether a line of the older recordings is a request, and no event."""
    return recording["api"] != "event" and bool(recording.get("request"))


def replay_recordings(player: Player, *, until: int | None = None) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Replay the older recordings in order, up to a number if there is one; yield each with its differences."""
    for recording in load(RECORDINGS):
        if until is not None and recording["n"] > until:
            return
        for method, path, body in BEFORE.get(recording["n"], ()):
            player.quietly(method, path, body, as_guest=True)
        label = str(recording["label"])
        if player.server is not None:
            player.server.api.tables.worker_runs = not label.startswith("worker frozen")
        if label == "worker thawed: create row using column" and player.server is not None:
            player.quietly("DELETE", "/v1/tablesdb/tmain/tables/books/columns/late", None)
            column = {"key": "late", "size": 20, "required": False}
            player.quietly("POST", "/v1/tablesdb/tmain/tables/books/columns/varchar", column)
        if not is_exchange(recording):
            continue
        if label.startswith("8 concurrent"):
            yield recording, _at_once(player, recording)
        else:
            yield recording, player.recorded(recording)


def replay_exchanges(player: Player) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Replay the further exchanges in order; yield each but the setup's with its differences.

    Raises:
        RuntimeError: If the setup fails.
    """
    for exchange in load(EXCHANGES):
        found = player.exchanged(exchange)
        if exchange.get("setup"):
            if found:
                raise RuntimeError(f"{exchange['label']}: {found[0]}")
        else:
            yield exchange, found
