"""pytest fixtures, installed with the package.

`virtual_clock`, `appwrite_server`, `async_appwrite_client` and `recording_chat`.

Nothing is imported before a test asks for it, so an application without the extra `testing` can use `virtual_clock`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from booking_resilience.appwrite import AsyncAppwriteClient
    from booking_resilience.testing.appwrite_server import AppwriteServer
    from booking_resilience.testing.chat import RecordingChatProvider
    from booking_resilience.testing.time import VirtualClock


@pytest.fixture
def virtual_clock() -> Iterator[VirtualClock]:
    """Virtual time for the length of the test; `virtual_clock.advance(30)` moves it."""
    from booking_resilience.testing.time import virtual_time

    with virtual_time() as clock:
        yield clock


@pytest.fixture
def appwrite_server() -> Iterator[AppwriteServer]:
    """An embedded Appwrite server of its own for the test, empty and healthy."""
    from booking_resilience.testing.appwrite_server import AppwriteServer

    with AppwriteServer() as server:
        yield server


async def _async_appwrite_client(appwrite_server: AppwriteServer) -> AsyncIterator[AsyncAppwriteClient]:
    """An asynchronous client of `appwrite_server`, closed after the test; for the plugins of anyio, asyncio, trio."""
    async with appwrite_server.async_client() as client:
        yield client


_async_appwrite_client._force_asyncio_fixture = True  # type: ignore[attr-defined] # pytest-asyncio's mark, strict mode
async_appwrite_client: Any = pytest.fixture(name="async_appwrite_client")(_async_appwrite_client)


@pytest.fixture
def recording_chat() -> RecordingChatProvider:
    """A `ChatProvider` that keeps what it is told in `events`."""
    from booking_resilience.testing.chat import RecordingChatProvider

    return RecordingChatProvider()
