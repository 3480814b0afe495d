"""The HTTP clients behind one face, each with what `booking_resilience.http` adds to it."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import itertools

import pytest

from booking_resilience import Breakers, CircuitBreaker, RetryPolicy

LIBRARIES = {
    "httpx2": "httpx2", "httpx2 async": "httpx2", "httpx": "httpx", "httpx async": "httpx", "requests": "requests",
    "aiohttp": "aiohttp",
}  # fmt: skip
QUICK = RetryPolicy(max_attempts=3, base_delay=0.0, deadline=None)


def calm():
    """Return breakers that no test opens."""
    return Breakers(lambda origin: CircuitBreaker(origin, failure_threshold=1000))


class Client:
    """A client; `request` returns the status and the body. `bare` leaves out what is ours."""

    def __init__(self, name, *, bare=False, timeout=10.0, **settings):
        self.library = pytest.importorskip(LIBRARIES[name])
        self.name, self.timeout = name, timeout
        self.breakers = settings.get("breakers") or calm()
        self.is_async = name == "aiohttp" or name.endswith("async")
        settings = {"retry": QUICK, "breakers": self.breakers, **settings}
        ours = importlib.import_module(f"booking_resilience.http.{LIBRARIES[name]}")
        self.runner = asyncio.Runner() if self.is_async else None
        if name == "requests":
            self.error = self.library.RequestException
            self.session = self.library.Session()
            self.session.trust_env = False
            if not bare:
                self.session.mount("http://", ours.ResilientAdapter(**settings))
        elif name == "aiohttp":
            self.error = (self.library.ClientError, TimeoutError)
            middlewares = [] if bare else [ours.resilient(**settings)]
            limit = self.library.ClientTimeout(total=timeout)

            async def make():
                return self.library.ClientSession(middlewares=middlewares, timeout=limit)

            self.session = self.run(make)
        else:
            self.error = self.library.HTTPError
            kinds = ("AsyncClient", "AsyncResilientTransport") if self.is_async else ("Client", "ResilientTransport")
            transport = None if bare else getattr(ours, kinds[1])(**settings)
            make = getattr(self.library, kinds[0])
            self.session = make(transport=transport, timeout=timeout, trust_env=False)

    def run(self, work):
        """Run a coroutine function in this client's event loop, in a copy of the context."""

        async def main():
            return await work()

        return self.runner.run(main(), context=contextvars.copy_context())

    def request(self, method, url, headers=None, body=None):
        """Make a request, without following redirects; a list as body is given as a generator."""
        if self.is_async:
            return self.run(lambda: self.request_async(method, url, headers, body))
        content = iter(body) if isinstance(body, list) else body
        if self.name == "requests":
            made = {"data": content, "allow_redirects": False, "timeout": self.timeout}
        else:
            made = {"content": content, "follow_redirects": False}
        answer = self.session.request(method, url, headers=headers, **made)
        return answer.status_code, answer.content

    async def request_async(self, method, url, headers=None, body=None):
        """Do as `request` in the event loop."""
        content = _generated(body) if isinstance(body, list) else body
        if self.name == "aiohttp":
            made = self.session.request(method, url, headers=headers, data=content, allow_redirects=False)
            async with made as answer:
                return answer.status, await answer.read()
        answer = await self.session.request(method, url, headers=headers, content=content, follow_redirects=False)
        return answer.status_code, answer.content

    def close(self):
        """Close the client."""
        if not self.is_async:
            self.session.close()
            return
        self.run(self.session.close if self.name == "aiohttp" else self.session.aclose)
        self.run(lambda: asyncio.sleep(0))
        self.runner.close()


async def _generated(chunks):
    for chunk in chunks:
        yield chunk


def factory():
    """Yield a function that makes clients, and close them at the end."""
    made = []

    def make(name, **settings):
        made.append(Client(name, **settings))
        return made[-1]

    yield make
    for client in itertools.chain(made):
        client.close()
