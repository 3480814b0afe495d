"""The wrong colour is refused before anything is called or sent."""

from __future__ import annotations

import asyncio
import functools

import anyio
import pytest
from appwrite.service import Service
from appwrite.services.databases import Databases
from appwrite.services.tables_db import TablesDB

from booking_resilience import CircuitBreaker, Pipeline, run_batch, with_retry, with_retry_async
from booking_resilience.appwrite import (
    AppwriteChatService,
    AppwriteClient,
    AsyncAppwriteChatService,
    AsyncAppwriteClient,
    create_row_once,
    create_row_once_async,
)
from rawserver import RawServer

PIPELINE = Pipeline()


class Derived(Service):
    """A service of an application."""

    def ask(self):
        """Make a request."""
        return self.client.call("get", "/x", {}, {})


def led_to(server, kind):
    """Return a client of the server."""
    return kind().set_endpoint(server.endpoint).set_project("p").set_key("k")


def synchronous(client):
    """Return functions that block, and the form that an error has to name."""
    tables = TablesDB(client)
    chat = AppwriteChatService(tables, database_id="d", pipeline=PIPELINE)
    return {
        "create_row_once": (create_row_once, "create_row_once_async"),
        "a partial": (functools.partial(functools.partial(create_row_once, tables), data={}), "create_row_once_async"),
        "a service's method": (tables.create_row, "client.run"),
        "a deprecated one": (Databases(client).list_documents, "client.run"),
        "one of a derived service": (Derived(client).ask, "client.run"),
        "the client's call": (client.call, "client.run"),
        "the chat's room": (chat.create_chat_room, "AsyncAppwriteChatService"),
        "the chat's list": (chat.list_messages, "AsyncAppwriteChatService"),
        "a pipeline's call": (PIPELINE.call, "call_async"),
        "a breaker's call": (CircuitBreaker("x").call, "call_async"),
        "with_retry": (with_retry, "with_retry_async"),
        "run_batch": (run_batch, "run_batch_async"),
    }


@pytest.mark.parametrize("case", synchronous(AppwriteClient()))
def test_what_is_known_to_block_is_refused_before_it_is_called(case):
    """`call_async` names the asynchronous form and the thread; nothing is sent."""
    with RawServer() as server:
        fn, instead = synchronous(led_to(server, AppwriteClient))[case]
        with pytest.raises(TypeError, match="was not called") as caught:
            asyncio.run(PIPELINE.call_async("x", fn, "d", "t"))
        assert instead in str(caught.value)
        assert "asyncio.to_thread(pipeline.call" in str(caught.value)
        assert (server.connections, server.requests) == (0, [])


def test_what_gives_an_awaitable_passes():
    """Lambdas, coroutine functions and the library's own asynchronous functions are no business of this rule."""

    async def seven():
        return 7

    async def main():
        assert await PIPELINE.call_async("x", lambda: seven()) == 7
        assert await PIPELINE.call_async("x", seven) == 7
        assert await PIPELINE.call_async("x", CircuitBreaker("x").call_async, seven) == 7
        assert await PIPELINE.call_async("x", PIPELINE.call_async, "y", seven) == 7
        assert await PIPELINE.call_async("x", with_retry_async, seven) == 7
        assert await PIPELINE.call_async("x", PIPELINE.protect("z")(seven)) == 7

    asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_service_of_the_other_colour_is_refused(backend):
    """Creations and chat services of each colour name the other one, and send nothing."""
    with RawServer() as server:
        place = {"database_id": "d", "table_id": "t", "row_id": "r", "data": {}, "pipeline": PIPELINE, "operation": "x"}
        sync, twin = TablesDB(led_to(server, AppwriteClient)), TablesDB(led_to(server, AsyncAppwriteClient))
        with pytest.raises(TypeError, match="use create_row_once_async"):
            create_row_once(twin, **place)
        with pytest.raises(TypeError, match="use AsyncAppwriteChatService"):
            AppwriteChatService(twin, database_id="d", pipeline=PIPELINE)
        with pytest.raises(TypeError, match="use AppwriteChatService"):
            AsyncAppwriteChatService(sync, database_id="d", pipeline=PIPELINE)

        async def main():
            with pytest.raises(TypeError, match="use create_row_once"):
                await create_row_once_async(sync, **place)

        anyio.run(main, backend=backend)
        assert (server.connections, server.requests) == (0, [])
