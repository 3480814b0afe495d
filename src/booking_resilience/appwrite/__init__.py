"""Appwrite: clients with timeouts, what its errors mean, rows that are created once, and the chat service."""

from booking_resilience.appwrite.async_client import AsyncAppwriteClient
from booking_resilience.appwrite.chat import CHAT_TABLES, AppwriteChatService, AsyncAppwriteChatService
from booking_resilience.appwrite.classify import classify
from booking_resilience.appwrite.client import AppwriteClient
from booking_resilience.appwrite.create import appwrite_breaker, appwrite_retry, create_row_once, create_row_once_async
from booking_resilience.appwrite.failures import AppwriteCallError, AppwriteConnectionError, AppwriteTimeoutError
from booking_resilience.appwrite.rows import Row
from booking_resilience.verdicts import Verdict

__all__ = [
    "CHAT_TABLES",
    "AppwriteCallError",
    "AppwriteChatService",
    "AppwriteClient",
    "AppwriteConnectionError",
    "AppwriteTimeoutError",
    "AsyncAppwriteChatService",
    "AsyncAppwriteClient",
    "Row",
    "Verdict",
    "appwrite_breaker",
    "appwrite_retry",
    "classify",
    "create_row_once",
    "create_row_once_async",
]
