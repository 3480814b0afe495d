"""`AsyncAppwriteClient`: methods of the SDK awaited, wrong use, cancellation, event loops; the twins of the helpers.

That it connects, waits, sends and reads as the synchronous client does, the tests of that one try on both.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
import sys
import threading
import warnings
import weakref
from pathlib import Path

import anyio
import pytest
from appwrite.exception import AppwriteException
from appwrite.input_file import InputFile
from appwrite.query import Query
from appwrite.service import Service
from appwrite.services.databases import Databases
from appwrite.services.storage import Storage
from appwrite.services.tables_db import TablesDB

from booking_resilience import ErrorMonitor, Pipeline, attempts_of, deadline, iter_messages_async, message_for
from booking_resilience.appwrite import (
    CHAT_TABLES,
    AppwriteClient,
    AppwriteTimeoutError,
    AsyncAppwriteChatService,
    AsyncAppwriteClient,
    appwrite_breaker,
    appwrite_retry,
    classify,
    create_row_once,
    create_row_once_async,
)
from booking_resilience.testing import AppwriteServer, AsyncRecordingChatProvider, Fault
from demohost import until
from halves import HANGING, QUICK
from rawserver import CREATED, RawServer, answer, failure, hang

BACKENDS = ["asyncio", "trio"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Which event loop runs a test."""
    return request.param


def run(backend, fn, *args):
    """Run a coroutine function to its end; what hangs fails."""

    async def bounded():
        with anyio.fail_after(60):
            return await fn(*args)

    return anyio.run(bounded, backend=backend)


def led_to(server, kind=AsyncAppwriteClient, **settings):
    """Return a client of a raw server."""
    return kind(**settings).set_endpoint(server.endpoint).set_project("p").set_key("top-secret")


@pytest.fixture(scope="module")
def server():
    """An embedded server with a table of bookings and the chat's tables."""
    with AppwriteServer() as made:
        client = made.client()
        headers = {"content-type": "application/json", "x-appwrite-project": "demo"}  # older SDKs' models want more

        def make(path, **body):
            client.call("post", f"/tablesdb{path}", headers, body)

        make("", databaseId="d", name="D")
        slots = {"columns": {"slot": {"type": "varchar", "size": 64, "required": True}}}
        for table_id, table in {"slots": slots, **CHAT_TABLES}.items():
            make("/d/tables", tableId=table_id, name=table_id)
            for key, column in table["columns"].items():
                make(f"/d/tables/{table_id}/columns/{column['type']}", key=key, **column)
        yield made


class Odd(Service):
    """What whoever derives from the SDK's services may write."""

    def nothing(self):
        return 1

    def two(self):
        self.client.call("get", "/one", {}, {})
        return self.client.call("get", "/two", {}, {})

    def two_and_swallow(self):
        self.client.call("get", "/one", {}, {})
        try:
            self.client.call("get", "/two", {}, {})
        except Exception:
            return "swallowed"

    def or_else(self):
        try:
            return self.client.call("get", "/one", {}, {})
        except AppwriteException as error:
            return error.code

    async def coroutine(self):
        return 1


# Wrong use


WRONG = {
    "no function": lambda client, _: ("get_row", "d"),
    "a plain function": lambda client, _: (len, "abc"),
    "a lambda": lambda client, _: (lambda: TablesDB(client).get_row("d", "t", "r"),),
    "another client's service": lambda client, other: (TablesDB(other).get_row, "d", "t", "r"),
    "a synchronous client's service": lambda client, _: (TablesDB(AppwriteClient()).get_row, "d", "t", "r"),
    "no request": lambda client, _: (Odd(client).nothing,),
    "a coroutine function": lambda client, _: (Odd(client).coroutine,),
    "too few arguments": lambda client, _: (TablesDB(client).get_row, "d"),
    "data that is no JSON": lambda client, _: (TablesDB(client).create_row, "d", "t", "r", {"x": object()}),
    "an upload": lambda client, _: (
        Storage(client).create_file, "b", "f", InputFile.from_bytes(b"x" * 10, "a.txt")
    ),
    "an upload in chunks": lambda client, _: (
        Storage(client).create_file, "b", "f", InputFile.from_bytes(b"x" * 6_000_000, "a.txt")
    ),
    "an upload by hand": lambda client, _: (
        client.call, "post", "/x", {"content-type": "multipart/form-data"}, {"file": "x"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_awaited_is_refused_before_anything_is_sent(backend, case):
    """A TypeError, and no connection."""

    async def main(server):
        async with led_to(server) as client, led_to(server) as other:
            with pytest.raises(TypeError):
                await client.run(*WRONG[case](client, other))

    with RawServer() as server:
        run(backend, main, server)
        assert (server.connections, server.requests) == (0, [])


def test_a_direct_call_is_refused_and_shows_the_form(backend):
    """In and out of an event loop."""

    async def main(server):
        async with led_to(server) as client:
            with pytest.raises(TypeError, match=r"client\.run\("):
                TablesDB(client).get_row("d", "t", "r")

    with RawServer() as server:
        run(backend, main, server)
        with pytest.raises(TypeError, match=r"client\.run\("):
            led_to(server).call("get", "/x")
        assert server.connections == 0


@pytest.mark.parametrize("method", ["two", "two_and_swallow"])
def test_a_second_request_is_refused_and_the_first_was_carried_out(backend, method):
    """Also where the method swallows the refusal."""

    async def main(server):
        async with led_to(server) as client:
            with pytest.raises(TypeError, match="the first was carried out"):
                await client.run(getattr(Odd(client), method))

    with RawServer(answer(200, {})) as server:
        run(backend, main, server)
        assert [request.split(b" ")[1] for request in server.requests] == [b"/v1/one"]


def test_a_method_sees_the_error_of_its_request(backend):
    """It may handle it, as it would with the synchronous client."""

    async def main(server):
        async with led_to(server) as client:
            return await client.run(Odd(client).or_else)

    with RawServer(failure(404, "row_not_found")) as server:
        assert run(backend, main, server) == 404


def test_the_clients_own_call_can_be_awaited(backend):
    """For what the services do not offer: a header, say."""

    async def main(server):
        async with led_to(server) as client:
            return await client.run(client.call, "patch", "/x", {"x-appwrite-timestamp": "now"}, {"a": 1})

    with RawServer(answer(200, {"ok": True})) as server:
        assert run(backend, main, server) == {"ok": True}
        assert b"x-appwrite-timestamp: now" in server.requests[0]


def test_the_older_service_changes_no_warning_filters(backend, server):
    """The SDK's decorator of its deprecated methods would change those of the process."""

    async def main():
        async with server.async_client() as client:
            return await client.run(Databases(client).list_documents, "d", "slots")

    before = list(warnings.filters)
    assert run(backend, main).total == 0
    assert warnings.filters == before


# Time and cancellation


def test_a_deadline_ends_the_call_with_what_it_proves(backend):
    """Before the connection nothing was sent; later it is open; within the answer it was sent."""

    async def main(server, sent):
        async with led_to(server) as client:
            with deadline(0.3), pytest.raises(AppwriteTimeoutError) as caught:
                await client.run(TablesDB(client).get_row, "d", "t", "r")
        assert classify(caught.value).sent == sent
        assert message_for(caught.value).startswith("Network error")

    beginning = b"HTTP/1.1 200 X\r\nContent-Length: 90\r\nContent-Type: application/json\r\n\r\n{"
    for step, sent in ((hang, "maybe"), (lambda sock, server: (sock.sendall(beginning), hang(sock, server)), "yes")):
        with RawServer(step) as server:
            run(backend, main, server, sent)
    with RawServer() as server:
        server.endpoint = server.endpoint.replace("http:", "https:")
        server._wrap = lambda sock: (server.released.wait(5), sock)[1]
        run(backend, main, server, "no")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_cancelled_call_closes_its_connection(backend, scheme):
    """Also within the handshake of TLS; and the client goes on."""
    begun, gone = threading.Event(), threading.Event()

    def watch(sock):
        try:
            while sock.recv(65_536):
                begun.set()
        finally:  # it may be a reset
            gone.set()
        return sock

    async def main(server, well):
        async with led_to(server, read_timeout=30, connect_timeout=30) as client:
            client.set_endpoint(server.endpoint.replace("http", scheme))
            async with anyio.create_task_group() as group:
                group.start_soon(client.run, TablesDB(client).get_row, "d", "t", "r")
                assert await anyio.to_thread.run_sync(begun.wait, 20)
                group.cancel_scope.cancel()
            assert await anyio.to_thread.run_sync(gone.wait, 20)
            assert (await client.run(TablesDB(led_over(client, well)).create_row, "d", "t", "r", {"a": 1})).id == "r1"

    def led_over(client, well):
        return client.set_endpoint(well.endpoint)

    with RawServer(wrap=watch) as server, RawServer() as well:
        run(backend, main, server, well)


def test_nothing_is_left_after_the_client_is_closed(backend):
    """No descriptor and no warning, also after calls that were cancelled, and closing twice is fine."""

    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    async def main(server):
        before = descriptors()
        async with led_to(server) as client:
            tables = TablesDB(client)
            for pause in (0.0, 0.001, 0.003, 1.0, 1.0):
                with anyio.move_on_after(pause):
                    await client.run(tables.create_row, "d", "t", "r", {"a": 1})
        await client.aclose()
        for _ in range(1000):  # the server's ends are this process's, too
            if descriptors() <= before + server.connections:
                return
            await anyio.sleep(0.01)
        raise AssertionError("descriptors are left")

    with RawServer() as server:
        run(backend, main, server)
    gc.collect()


def test_one_event_loop_at_a_time(backend):
    """Another loop is refused as long as connections are open, and may use the client after `aclose`."""
    with RawServer() as server:
        client = led_to(server)

        async def ask():
            return (await client.run(TablesDB(client).create_row, "d", "t", "r", {"a": 1})).id

        async def refused():
            with pytest.raises(RuntimeError, match="another event loop"):
                await ask()

        async def main():
            assert await ask() == "r1"
            other = "trio" if backend == "asyncio" else "asyncio"
            await anyio.to_thread.run_sync(lambda: anyio.run(refused, backend=other))
            await client.aclose()
            await anyio.to_thread.run_sync(lambda: anyio.run(closing, backend=other))

        async def closing():
            assert await ask() == "r1"
            await client.aclose()

        run(backend, main)


@pytest.mark.parametrize("after", ["asyncio", "trio"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # what the first loop left open is closed by the collector
def test_a_client_whose_event_loop_has_ended_can_be_closed_in_another(backend, after):
    """Who forgot to close it there is not stuck with it."""
    with RawServer() as server:
        client = led_to(server)

        async def ask():
            return (await client.run(TablesDB(client).create_row, "d", "t", "r", {"a": 1})).id

        async def close_and_ask():
            await client.aclose()
            async with client:
                return await ask()

        assert run(backend, ask) == "r1"
        assert run(after, close_and_ask) == "r1"
        gc.collect()


def test_no_more_connections_stay_idle_than_the_pool_holds(backend, server):
    """More calls at once open more; what is given back beyond the size is closed."""
    before = len(server._open)

    async def main():
        async with AsyncAppwriteClient(pool_size=2).set_endpoint(server.endpoint) as client:
            client.set_project("demo").set_key("demo-key")
            tables = TablesDB(client)
            async with anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(client.run, tables.list_rows, "d", "slots")
            for _ in range(1000):
                if len(server._open) <= before + 2:
                    return
                await anyio.sleep(0.01)
            raise AssertionError("more connections are left")

    run(backend, main)


def test_a_call_under_way_when_the_client_is_closed_leaves_no_connection(backend, server):
    """It ends, and its connection with it: the client has let go of all."""
    server.faults.script([Fault.slow_body(0.3)], method="GET")
    open_before = len(server._open)

    async def main():
        client = server.async_client()
        tables = TablesDB(client)

        async def one():
            assert (await client.run(tables.list_rows, "d", "slots")).total >= 0

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            await anyio.sleep(0.1)
            await client.aclose()
        for _ in range(1000):
            if len(server._open) <= open_before:
                return
            await anyio.sleep(0.01)
        raise AssertionError("the connection is left")

    run(backend, main)


def test_many_calls_at_once_get_their_own_answers(backend, server):
    """On connections of their own, or one after the other on kept ones."""
    names = [f"many-{backend}-{number}" for number in range(40)]
    found = {}

    async def main():
        async with server.async_client() as client:
            tables = TablesDB(client)

            async def one(name):
                row = await client.run(tables.create_row, "d", "slots", name, {"slot": name})
                found[name] = (row.id, row.data["slot"])

            async with anyio.create_task_group() as group:
                for name in names:
                    group.start_soon(one, name)

    run(backend, main)
    assert found == {name: (name, name) for name in names}


def test_an_error_leaves_no_circle_behind(backend):
    """It can be pickled, and is gone as soon as it is dropped."""

    async def main(server):
        async with led_to(server) as client:
            gc.disable()
            try:
                await client.run(TablesDB(client).get_row, "d", "t", "r")
            except AppwriteException as error:
                copy = pickle.loads(pickle.dumps(error))
                assert (copy.code, copy.type, str(copy)) == (404, "row_not_found", "Server Error")
                return weakref.ref(error)
            finally:
                gc.enable()

    with RawServer(failure(404, "row_not_found")) as server:
        assert run(backend, main, server)() is None


# Creating a row


FAULTS = {
    "none": None,
    "reset before": Fault.reset(),
    "reset after": Fault.reset(after_commit=True),
    "close after": Fault.close(after_commit=True),
    "hang before": Fault.hang(20),
    "hang after": Fault.hang(20, after_commit=True),
    "500 after": Fault.status(500, after_commit=True),
    "503 before": Fault.status(503),
    "cut after": Fault.cut_body(after_commit=True),
    "no JSON after": Fault.invalid_json(after_commit=True),
    "conflict after": Fault.status(409, type="row_already_exists", after_commit=True),
    "refused": Fault.status(401),
    "busy": Fault.rate_limited(0.0),
}


def facts_of(outcome):
    """What an application can tell an outcome by."""
    if isinstance(outcome, Exception):
        verdict = classify(outcome)
        return verdict.transient, verdict.sent, verdict.status, verdict.type, len(attempts_of(outcome))
    return outcome.data


@pytest.mark.parametrize("times", [1, 9])
@pytest.mark.parametrize("case", FAULTS)
def test_both_colours_of_a_creation_come_to_the_same(backend, server, case, times):
    """The same row or the same error, with the same attempts and records, and the row stored or not."""
    told = []
    for kind, name in (("sync", f"s-{backend}-{case}-{times}"), ("async", f"a-{backend}-{case}-{times}")):
        row_id = name.replace(" ", "-")[:36]
        monitor = ErrorMonitor()
        retry = appwrite_retry(**(HANGING if "hang" in case else QUICK))
        pipeline = Pipeline(retry=retry, breaker=appwrite_breaker(), monitor=monitor)
        place = {"database_id": "d", "table_id": "slots", "row_id": row_id, "data": {"slot": "S"}}
        server.faults.script([FAULTS[case]] * times, method="POST")
        try:
            if kind == "sync":
                with server.client() as client:
                    outcome = create_row_once(TablesDB(client), **place, pipeline=pipeline, operation="create")
            else:

                async def main(place=place, pipeline=pipeline):
                    async with server.async_client() as client:
                        return await create_row_once_async(
                            TablesDB(client), **place, pipeline=pipeline, operation="create"
                        )

                outcome = run(backend, main)
        except Exception as error:
            outcome = error
        server.faults.clear()
        with server.client() as client:
            stored = TablesDB(client).list_rows("d", "slots", [Query.equal("$id", [row_id])]).total
        records = [(record.outcome, record.attempts, record.operation) for record in monitor.recent()]
        told.append((facts_of(outcome), stored, records, pipeline.breaker.snapshot().state))
    assert told[0] == told[1]


def test_a_creation_that_is_cancelled_is_found_out_by_the_same_call(backend, server):
    """Whether it was carried out or not: one row in the end."""

    async def main():
        pipeline = Pipeline(retry=appwrite_retry(base_delay=0.01))
        async with server.async_client() as client:
            for number, fault in enumerate((Fault.hang(2), Fault.hang(2, after_commit=True))):
                place = {"database_id": "d", "table_id": "slots", "row_id": f"c-{backend}-{number}"}
                call = {**place, "data": {"slot": "S"}, "pipeline": pipeline, "operation": "create"}
                server.faults.script([fault], method="POST")
                with anyio.move_on_after(0.2) as scope:
                    await create_row_once_async(TablesDB(client), **call)
                assert scope.cancelled_caught
                server.faults.clear()
                assert (await create_row_once_async(TablesDB(client), **call)).id == place["row_id"]

    run(backend, main)


# The chat and the test kit


def test_the_asynchronous_chat_is_the_same_chat(backend, server):
    """Rooms and messages once, whatever is repeated; all messages page by page."""

    async def main():
        async with server.async_client() as client:
            pipeline = Pipeline(retry=appwrite_retry(**QUICK))
            chat = AsyncAppwriteChatService(TablesDB(client), database_id="d", pipeline=pipeline)
            for _ in range(2):
                room = await chat.create_chat_room(booking_id=f"b-{backend}", participants=["u", "t"])
                await chat.send_welcome_message(room.id)
                await chat.send_booking_received_message(room.id, room.booking_id)
            messages = [item async for item in iter_messages_async(chat, room.id, page_size=1, newest_first=False)]
            assert [message.text.split()[0] for message in messages] == ["Welcome!", "We"]
            page = await chat.list_messages(room.id, limit=1)
            await client.run(TablesDB(client).delete_row, "d", "chat_messages", page.items[0].id)
            rest = await chat.list_messages(room.id, cursor=page.next_cursor)
            assert [message.id for message in rest.items] == [messages[0].id]

    run(backend, main)


def test_the_recording_provider_keeps_or_raises(backend):
    """As the synchronous one."""

    async def main():
        provider = AsyncRecordingChatProvider()
        await provider.handle_booking_success("event")
        assert provider.events == ["event"]
        with pytest.raises(ValueError, match="no"):
            await AsyncRecordingChatProvider(error=ValueError("no")).handle_booking_success("event")

    run(backend, main)


def test_the_fixture_gives_a_client_that_is_closed(tmp_path):
    """Under anyio's plugin, which comes with httpx2."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        f"@pytest.fixture(params={BACKENDS!r})\n"
        "def anyio_backend(request): return request.param\n"
        "@pytest.mark.anyio\n"
        "async def test_it(async_appwrite_client, appwrite_server):\n"
        "    await async_appwrite_client.run(async_appwrite_client.call, 'get', '/health/version')\n"
        "    assert len(appwrite_server.requests) == 1\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_it.py"]
    if not any(line.startswith("booking_resilience") for line in _plugins()):
        command += ["-p", "booking_resilience.testing.plugin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(BACKENDS)} passed" in done.stdout


def _plugins():
    from importlib.metadata import entry_points

    return [point.value for point in entry_points(group="pytest11") if "booking_resilience" in point.value]


def test_the_synchronous_half_loads_nothing_of_it():
    """httpx2, anyio and trio are loaded when an asynchronous client is made."""
    code = (
        "import sys, booking_resilience.appwrite as a; a.AppwriteClient(); a.AsyncAppwriteChatService\n"
        "print([name for name in ('httpx2', 'anyio', 'trio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_task_that_is_cancelled_is_told_so(backend):
    """`CancelledError`, not an error of the client."""
    if backend == "trio":
        return

    async def main(server):
        async with led_to(server) as client:
            task = asyncio.ensure_future(client.run(TablesDB(client).get_row, "d", "t", "r"))
            await asyncio.to_thread(until, lambda: server.requests, "a request")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    with RawServer(hang, CREATED) as server:
        run(backend, main, server)
