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
    """A client; `request` returns the status and the body. `pool` is how many connections it may have."""

    def __init__(self, name, *, timeout=10.0, pool=None, **settings):
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
            places = {} if pool is None else {"pool_maxsize": pool, "pool_block": True}
            self.session.mount("http://", ours.ResilientAdapter(**settings, **places))
        elif name == "aiohttp":
            self.error = (self.library.ClientError, TimeoutError)
            middlewares = [ours.resilient(**settings)]
            # `total` would bound all attempts together.
            limit = self.library.ClientTimeout(total=None, connect=timeout, sock_connect=timeout, sock_read=timeout)

            async def make():
                connector = self.library.TCPConnector(limit=pool or 100)
                return self.library.ClientSession(middlewares=middlewares, timeout=limit, connector=connector)

            self.session = self.run(make)
        else:
            self.error = self.library.HTTPError
            kinds = ("AsyncClient", "AsyncResilientTransport") if self.is_async else ("Client", "ResilientTransport")
            # Without certificates, which nobody here needs, a transport is made a hundred times faster.
            limits = self.library.Limits(max_connections=pool)
            transport = getattr(ours, kinds[1])(verify=False, limits=limits, **settings)
            make = getattr(self.library, kinds[0])
            self.session = make(transport=transport, timeout=timeout, trust_env=False)

    def run(self, work):
        """Run a coroutine function in this client's event loop, in a copy of the context."""

        async def main():
            return await work()

        return self.runner.run(main(), context=contextvars.copy_context())

    def request(self, method, url, headers=None, body=None, *, follow=False):
        """Make a request; a list as body is given as a generator. Redirects are followed if asked for."""
        if self.is_async:
            return self.run(lambda: self.request_async(method, url, headers, body, follow=follow))
        content = iter(body) if isinstance(body, list) else body
        if self.name == "requests":
            made = {"data": content, "allow_redirects": follow, "timeout": self.timeout}
        else:
            made = {"content": content, "follow_redirects": follow}
        answer = self.session.request(method, url, headers=headers, **made)
        return answer.status_code, answer.content

    async def request_async(self, method, url, headers=None, body=None, *, follow=False):
        """Do as `request` in the event loop."""
        content = _generated(body) if isinstance(body, list) else body
        if self.name == "aiohttp":
            made = self.session.request(method, url, headers=headers, data=content, allow_redirects=follow)
            async with made as answer:
                return answer.status, await answer.read()
        answer = await self.session.request(method, url, headers=headers, content=content, follow_redirects=follow)
        return answer.status_code, answer.content

    def chunks(self, url):
        """Return the chunks of a response that is read as it comes."""
        if self.is_async:
            return self.run(lambda: self.chunks_async(url))
        if self.name == "requests":
            with self.session.get(url, stream=True, timeout=self.timeout) as answer:
                return list(answer.iter_content(1))
        with self.session.stream("GET", url) as answer:
            return list(answer.iter_raw(1))

    async def chunks_async(self, url):
        """Do as `chunks` in the event loop."""
        if self.name == "aiohttp":
            async with self.session.get(url) as answer:
                return [chunk async for chunk in answer.content.iter_chunked(1)]
        async with self.session.stream("GET", url) as answer:
            return [chunk async for chunk in answer.aiter_raw(1)]

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
