"""Appwrite: a client with timeouts, what its errors mean, rows that are created once, and the chat service."""

from booking_resilience.appwrite.classify import Verdict, classify
from booking_resilience.appwrite.client import AppwriteClient
from booking_resilience.appwrite.failures import AppwriteCallError, AppwriteConnectionError, AppwriteTimeoutError

__all__ = [
    "AppwriteCallError",
    "AppwriteClient",
    "AppwriteConnectionError",
    "AppwriteTimeoutError",
    "Verdict",
    "classify",
]
