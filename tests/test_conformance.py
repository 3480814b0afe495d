"""The embedded Appwrite server answers as a real Appwrite 1.9.6 did: its recordings, replayed in order.

Compared are status, error type, message, the rest of the body, and the headers that matter. Dates, sequence numbers,
generated IDs, the moment of a rate limit's reset and versions are normalised. What is out of scope is left out by the
rules of `out_of_scope`; what is in scope and differs stands in `EXCEPTIONS`, each with its reason.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from booking_resilience.testing import AppwriteServer, virtual_time

RECORDINGS = Path(__file__).parent / "data" / "appwrite_recordings.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "embedded-appwrite.md"
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00")
KEYS = {"wrong key": "wrong", "malformed key": "malformed", "read-only key": "read-only", "expired key": "expired"}
LAST_QUIET = 513
"""The recordings after this one show a server whose database, cache or processes are being stopped."""

EXCEPTIONS: dict[int, str] = {}


def load() -> list[dict[str, Any]]:
    """Return the recordings in their order."""
    return [json.loads(line) for line in RECORDINGS.read_text(encoding="utf-8").splitlines()]


def out_of_scope(recording: dict[str, Any]) -> str | None:
    """Return why a recording is not replayed; None if it is."""
    request, response, label = recording.get("request"), recording.get("response"), recording.get("label", "")
    if not request or not response or recording["api"] == "event":
        return "an event, not an exchange"
    path, method, body = request["path"].split("?")[0], request["method"], request.get("body")
    if recording["n"] > LAST_QUIET:
        return "a server in trouble: that is what faults are for"
    if response.get("status") is None or "concurrent" in label:
        return "several requests at once, or none that was answered"
    if recording["api"] == "account" or "/account" in path:
        return "accounts are not emulated"
    if "/transactions" in path or "transactionId" in json.dumps(request) or label.startswith("tx"):
        return "transactions are not emulated"
    if method == "PUT" or "upsert" in label:
        return "upserts are not emulated"
    if "increment" in path or "decrement" in path:
        return "increments are not emulated"
    many = isinstance(body, dict) and ("documents" in body or "rows" in body or "__clipped__" in body)
    if many or "bulk" in label or (method in ("PATCH", "DELETE") and path.endswith(("/documents", "/rows"))):
        return "bulk routes are not emulated"
    answered = response.get("body")
    if any(isinstance(item, dict) and "truncated" in item for item in (body, answered)):
        return "the recording does not hold the whole exchange"
    return None


def books(first: int, last: int) -> list[dict[str, Any]]:
    """Return the books that the bulk creates of the recordings made."""
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


def instead(recording: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield single requests that leave the tables as one did that is not replayed."""
    request, status = recording.get("request"), (recording.get("response") or {}).get("status")
    if recording["label"] == "tx2 commit":
        yield "POST", "/v1/tablesdb/tmain/tables/books/rows", {"rowId": "txrow", "data": {"title": "TX", "pages": 1}}
        yield "PATCH", "/v1/tablesdb/tmain/tables/books/rows/dune", {"data": {"pages": 77}}
    if not request or recording["n"] > LAST_QUIET or "/transactions" in request["path"]:
        return
    path, body = request["path"].split("?")[0], request.get("body")
    id_name, listed = ("documentId", "documents") if "/documents" in path else ("rowId", "rows")
    if recording["label"].startswith("bulk create 100 OK"):
        rows: list[dict[str, Any]] = books(0, 100)
    elif recording["label"].startswith("bulk create 20 OK"):
        rows = books(100, 120)
    elif recording["label"] == "bulk create without ids":
        rows = [{"$id": f"noid{number}", **row} for number, row in enumerate(body[listed])]
    elif recording["label"] == "8 concurrent creates same ID":
        rows, path = [{"$id": "raced", "title": "Raced", "pages": 1}], path[path.index("/v1/") :]
    elif isinstance(body, dict) and "truncated" in body and status == 201:
        name = re.search(r'"title": "(\w+)"', body["head"])
        rows = [{"$id": f"large{recording['n']}", "title": name[1] if name else "", "pages": 1}]
    elif recording["label"].startswith("bulk upsert"):
        yield "PATCH", f"{path}/b001", {"data": {"pages": 11}}
        rows = [body[listed][1]]
    elif recording["label"] == "bulk update":
        for row_id in ("b001", "ups1"):
            yield "PATCH", f"{path}/{row_id}", {"data": {"rating": 2.5}}
        return
    elif recording["label"] == "bulk delete by query":
        for row_id in ("b118", "bulkups"):
            yield "DELETE", f"{path}/{row_id}", {}
        return
    elif recording["label"] == "upsert new":
        rows = [{"$id": path.rsplit("/", 1)[1], **body["data"]}]
        path = path.rsplit("/", 1)[0]
    elif recording["label"] == "upsert existing change":
        yield "PATCH", path, body
        return
    elif "unique value belongs to" in recording["label"] or recording["label"].startswith("upsert unique violation"):
        other = f"b{body['data']['title'].split()[1]}"  # an upsert overwrites the row that has the unique value
        yield (
            "PATCH",
            f"{path.rsplit('/', 1)[0]}/{other}",
            {"data": {**body["data"], "rating": None, "genre": None, "tags": None}},
        )
        return
    else:
        return
    for row in rows:
        data = {key: value for key, value in row.items() if key != "$id"}
        yield "POST", path, {id_name: row["$id"], "data": data}


BEFORE: dict[int, list[tuple[str, str, Any]]] = {
    476: [
        ("POST", "/v1/tablesdb/tmain/tables/guest/rows", {"rowId": f"g{number}", "data": {"t": "x"}})
        for number in range(2, 118)
    ],
}
"""What guests did between two recordings that the recordings leave out."""


class Replay:
    """Sends recorded requests to a server and compares what comes back."""

    def __init__(self, server: AppwriteServer) -> None:
        self.server = server
        self.port = int(server.endpoint.split(":")[2].split("/")[0])

    def send(self, method: str, path: str, headers: dict[str, str], body: Any) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = None if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        raw = answer.read()
        connection.close()
        kind = answer.headers.get("Content-Type", "")
        is_json = kind.startswith("application/json") or raw.startswith(b"{")  # some 500s are JSON that says it is HTML
        parsed = json.loads(raw) if is_json and raw else raw.decode()
        return answer.status, dict(answer.headers), parsed

    def quietly(self, method: str, path: str, body: Any, *, as_guest: bool = False) -> None:
        headers = {"content-type": "application/json", "x-appwrite-project": "proj1"}
        if not as_guest:
            headers["x-appwrite-key"] = "right"
        status, _, answer = self.send(method, path, headers, body)
        assert status < 300, (method, path, body, answer)

    def differences(self, recording: dict[str, Any]) -> list[str]:
        """Return in what the server's answer differs from the recorded one."""
        request, response = recording["request"], recording["response"]
        headers = {name: value for name, value in request["headers"].items() if value != ""}
        if "x-appwrite-key" in headers:
            label = recording["label"].split(":")[0]
            headers["x-appwrite-key"] = KEYS.get(label, "right")
        if recording["label"].startswith("Origin not allowed"):
            headers["origin"] = "https://evil.example"  # the recordings keep no such header
        sent = request.get("body")
        if recording["label"] == "body is JSON string":
            sent = json.dumps(sent)
        status, got_headers, body = self.send(request["method"], request["path"], headers, sent)
        found = []
        if status != response["status"]:
            found.append(f"status {status} for {response['status']}")
        for name in ("Content-Type", "X-Ratelimit-Limit", "X-Debug-Operations"):
            wanted, got = response["headers"].get(name), got_headers.get(name)
            if (wanted or "").lower() != (got or "").lower():
                found.append(f"{name} {got} for {wanted}")
        wanted_body = response["body"]
        if isinstance(wanted_body, dict) and "__clipped__" in wanted_body:
            return found
        if plain(body) != plain(wanted_body):
            found.append(f"body {json.dumps(plain(body))[:600]} for {json.dumps(plain(wanted_body))[:600]}")
        return found


def plain(value: Any) -> Any:
    """Return a body without what differs from run to run."""
    if isinstance(value, dict):
        if value.keys() >= {"$createdAt", "key", "lengths"}:
            value = {**value, "$id": "*"}
        special = {"$sequence": "*", "version": "*"}
        kept = {key: special.get(key, plain(item)) for key, item in value.items()}
        if re.fullmatch(r"[0-9a-f]{20}", str(kept.get("$id"))):
            kept["$id"] = "generated"
        return kept
    if isinstance(value, list):
        return [plain(item) for item in value]
    return "date" if isinstance(value, str) and DATE.fullmatch(value) else value


def replay(server: AppwriteServer) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Replay everything in scope, in order; yield each recording with its differences."""
    server.api.access.keys.update({"read-only": frozenset({"documents.read", "rows.read"}), "expired": "expired"})
    player = Replay(server)
    for recording in load():
        for step in BEFORE.get(recording["n"], ()):
            player.quietly(*step, as_guest=True)
        server.api.fields.worker_runs = recording["label"] is None or not str(recording["label"]).startswith(
            "worker frozen"
        )
        if recording["label"] == "worker thawed: create row using column":
            player.quietly("DELETE", "/v1/tablesdb/tmain/tables/books/columns/late", None)
            column = {"key": "late", "size": 20, "required": False}
            player.quietly("POST", "/v1/tablesdb/tmain/tables/books/columns/varchar", column)
        if out_of_scope(recording) is None:
            yield recording, player.differences(recording)
        else:
            for step in instead(recording):
                player.quietly(*step)


def test_recordings_in_scope_are_answered_alike() -> None:
    """Every recording in scope gets the recorded answer, but for the exceptions, which all differ; the docs say so."""
    different: dict[int, list[str]] = {}
    count = 0
    with virtual_time(), AppwriteServer(project="proj1", key="right") as server:  # limits are by the minute
        for recording, found in replay(server):
            count += 1
            if found:
                different[recording["n"]] = found
    unexpected = {n: found for n, found in different.items() if n not in EXCEPTIONS}
    assert unexpected == {}
    assert set(EXCEPTIONS) - set(different) == set()
    print(f"{count - len(different)} of {count} recordings in scope equal, {len(EXCEPTIONS)} exceptions")
    if PAGE.exists():
        said = dict(re.findall(r"^\| ([\w ]+) \| (\d+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
        alike = count - len(different)
        found = {"all": len(load()), "in scope": count, "answered alike": alike, "exceptions": len(EXCEPTIONS)}
        assert said == {name: str(number) for name, number in found.items()}


def test_scope_is_most_of_the_quiet_recordings() -> None:
    """The rules of the scope leave out no more than they say."""
    quiet = [recording for recording in load() if recording["n"] <= LAST_QUIET and recording.get("response")]
    assert sum(out_of_scope(recording) is None for recording in quiet) > 0.7 * len(quiet)
