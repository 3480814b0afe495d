"""How the names of `booking_resilience.appwrite` look to type checkers: checked by mypy and pyright, never run."""

from __future__ import annotations

import datetime
from typing import assert_type

from appwrite.client import Client
from appwrite.services.tables_db import TablesDB

from booking_resilience import AsyncChatService, ChatService, Pipeline
from booking_resilience.appwrite import (
    AppwriteChatService,
    AppwriteClient,
    AsyncAppwriteChatService,
    AsyncAppwriteClient,
    NewRow,
    Row,
    SlotRow,
    chat_rows,
    create_row_once,
    create_row_once_async,
    create_rows_once,
    create_rows_once_async,
    delete_row_once,
    delete_row_once_async,
    outcome_unknown,
    time_slots,
    update_row_once,
    update_row_once_async,
)
from booking_resilience.testing import AppwriteServer

client = AppwriteClient(read_timeout=5.0).set_endpoint("http://localhost/v1").set_project("p").set_key("k")
assert_type(client, AppwriteClient)
as_the_sdks: Client = client
tables = TablesDB(client)
pipeline = Pipeline()
chat: ChatService = AppwriteChatService(tables, database_id="d", pipeline=pipeline)
row = create_row_once(
    tables, database_id="d", table_id="t", row_id="r", data={"a": 1}, pipeline=pipeline, operation="create"
)
assert_type(row, Row)
new = NewRow("d", "t", "r", {"a": 1})
assert_type(create_rows_once(tables, [new], pipeline=pipeline, operation="x", compare=("a",)), list[Row])
place = {"database_id": "d", "table_id": "t", "row_id": "r"}
assert_type(update_row_once(tables, **place, data={"a": 2}, expected=row, pipeline=pipeline, operation="x"), Row)
assert_type(delete_row_once(tables, **place, expected={"a": 2}, pipeline=pipeline, operation="x"), bool)
now = datetime.datetime.now(datetime.UTC)
slots = time_slots(database_id="d", resource_id="r", holder="h", start=now, end=now)
assert_type(slots, list[SlotRow])
create_rows_once(tables, slots, pipeline=pipeline, operation="x")
assert_type(chat_rows(database_id="d", booking_id="b", participants=["u"]), list[NewRow])
assert_type(outcome_unknown(ValueError()), bool)


async def book() -> None:
    """Do the same without blocking."""
    async with AsyncAppwriteClient(pool_size=5).set_endpoint("http://localhost/v1").add_header("a", "b") as made:
        assert_type(made, AsyncAppwriteClient)
        as_the_sdks_too: Client = made
        async_tables = TablesDB(as_the_sdks_too)
        assert_type(await made.run(len, "text"), int)
        await made.run(async_tables.get_row, "d", "t", "r")
        async_chat: AsyncChatService = AsyncAppwriteChatService(async_tables, database_id="d", pipeline=pipeline)
        await async_chat.send_welcome_message("r")
        stored = await create_row_once_async(
            async_tables, database_id="d", table_id="t", row_id="r", data={"a": 1}, pipeline=pipeline, operation="x"
        )
        assert_type(stored, Row)
        rows = await create_rows_once_async(async_tables, [new], pipeline=pipeline, operation="x")
        assert_type(rows, list[Row])
        changed = await update_row_once_async(
            async_tables, **place, data={"a": 1}, expected=rows[0], pipeline=pipeline, operation="x"
        )
        assert_type(changed, Row)
        assert_type(
            await delete_row_once_async(async_tables, **place, expected=None, pipeline=pipeline, operation="x"), bool
        )
    await pipeline.call_async("list", made.run, async_tables.list_rows, "d", "t")


with AppwriteServer() as server:
    assert_type(server.client(), AppwriteClient)
    assert_type(server.async_client(), AsyncAppwriteClient)
