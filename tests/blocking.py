"""An `AsyncAppwriteClient` that is called as the synchronous one is, so that one test tries both."""

from __future__ import annotations

from anyio.from_thread import start_blocking_portal

from booking_resilience.appwrite import AsyncAppwriteClient

made = []


def close_all():
    """End the event loops of all clients that were made."""
    while made:
        client, opened = made.pop()
        client.close()
        opened.__exit__(None, None, None)


class BlockingClient(AsyncAppwriteClient):
    """Runs its calls in an event loop of its own, in a thread; deadlines of the caller count."""

    backend = "asyncio"
    is_asynchronous = False

    def __init__(self, **settings):
        super().__init__(**settings)
        opened = start_blocking_portal(self.backend)
        self._portal = opened.__enter__()
        made.append((self, opened))

    def call(self, *args, **kwargs):
        try:
            return super().call(*args, **kwargs)
        except TypeError as error:
            if "directly" not in str(error):
                raise
        return self._portal.call(self._called, args, kwargs)

    async def _called(self, args, kwargs):
        return await self.run(self.call, *args, **kwargs)

    def close(self):
        self._portal.call(self.aclose)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class TrioClient(BlockingClient):
    """The same under trio."""

    backend = "trio"
