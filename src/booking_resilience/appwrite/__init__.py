"""Appwrite: clients with timeouts, what its errors mean, rows that are created once, and the chat service."""

from booking_resilience.appwrite.async_client import AsyncAppwriteClient
from booking_resilience.appwrite.chat import CHAT_TABLES, AppwriteChatService, AsyncAppwriteChatService
from booking_resilience.appwrite.chat_rows import chat_rows
from booking_resilience.appwrite.classify import classify
from booking_resilience.appwrite.client import AppwriteClient
from booking_resilience.appwrite.conflicts import RowConflictError, SlotTakenError
from booking_resilience.appwrite.create import appwrite_breaker, appwrite_retry, create_row_once, create_row_once_async
from booking_resilience.appwrite.create_rows import create_rows_once, create_rows_once_async
from booking_resilience.appwrite.delete import delete_row_once, delete_row_once_async
from booking_resilience.appwrite.failures import AppwriteCallError, AppwriteConnectionError, AppwriteTimeoutError
from booking_resilience.appwrite.new_rows import SLOT_TABLE, NewRow, SlotRow, time_slots
from booking_resilience.appwrite.outcomes import outcome_unknown
from booking_resilience.appwrite.rows import Row
from booking_resilience.appwrite.update import update_row_once, update_row_once_async
from booking_resilience.verdicts import Verdict

__all__ = [
    "CHAT_TABLES",
    "SLOT_TABLE",
    "AppwriteCallError",
    "AppwriteChatService",
    "AppwriteClient",
    "AppwriteConnectionError",
    "AppwriteTimeoutError",
    "AsyncAppwriteChatService",
    "AsyncAppwriteClient",
    "NewRow",
    "Row",
    "RowConflictError",
    "SlotRow",
    "SlotTakenError",
    "Verdict",
    "appwrite_breaker",
    "appwrite_retry",
    "chat_rows",
    "classify",
    "create_row_once",
    "create_row_once_async",
    "create_rows_once",
    "create_rows_once_async",
    "delete_row_once",
    "delete_row_once_async",
    "outcome_unknown",
    "time_slots",
    "update_row_once",
    "update_row_once_async",
]


def __dir__() -> list[str]:
    return sorted(__all__)
