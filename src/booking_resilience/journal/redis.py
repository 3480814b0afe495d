"""A journal in Redis: two streams, one of records and one of all else, for all processes of all machines."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from booking_resilience.breaker.shared_wires import place_of, settings_of
from booking_resilience.checks import check, check_text, check_type
from booking_resilience.journal.entries import HEAD
from booking_resilience.journal.protocol import Page
from booking_resilience.journal.stored import StoredJournal, surplus

_COMPARE_EVERY = 10.0  # seconds after which the two clocks are compared again
_COMPARISONS = 3  # of which the fastest counts
_PRUNE_PAGE = 5000

# KEYS: the streams of records and of notes. The ID of an entry is its position and "-0".
_COMMON = """
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function top(key)
  local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
  if not last[1] then return 0 end
  return tonumber(string.match(last[1][1], '^%d+'))
end
local function latest() return math.max(top(KEYS[1]), top(KEYS[2])) end
local function id(position) return string.format('%.0f-0', position) end
"""
# ARGV: the age in microseconds, how many records are kept, the entries.
_APPEND = (
    _COMMON
    + """
local position = math.max(latest() + 1, now())
for place = 3, #ARGV do
  local key = string.sub(ARGV[place], 1, 1) == 'r' and KEYS[1] or KEYS[2]
  redis.call('XADD', key, id(position), 'e', ARGV[place])
  position = position + 1
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[2])
redis.call('XTRIM', KEYS[1], 'MINID', id(math.max(0, now() - ARGV[1])))
return 1
"""
)
# ARGV: the position to go on after, the limit.
_READ = (
    _COMMON
    + """
local after = tonumber(ARGV[1])
if after > latest() then after = 0 end
local found = {}
for place = 1, 2 do
  found[place] = redis.call('XRANGE', KEYS[place], id(after + 1), '+', 'COUNT', ARGV[2])
end
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
return {found[1], found[2], oldest[1] and oldest[1][1] or ''}
"""
)


class RedisJournal(StoredJournal):
    """A journal in Redis, which the processes of all machines may write and read; extra `redis`, Redis 6.2 or later.

    Making it neither waits for Redis nor raises if there is none. While Redis is gone, frozen or full nothing is lost
    as long as no more than 10,000 records wait.

    Args:
        url: Where the Redis is: `redis://`, `rediss://` (TLS) or `unix://`, with user, password and database if
            need be. With a `client` it only names the Redis in logs.
        stream: The key of the stream of records; all else is in `{STREAM}:notes`.
        max_age: Seconds for which records are kept; above 0.
        max_records: Records that are kept at most; 1 or more.
        client: A `redis.Redis`, for its connection settings. It is neither used for calls nor closed.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If a setting is out of its range.
        ImportError: If the extra `redis` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        stream: str = "booking-resilience:errors",
        max_age: float = 604_800.0,
        max_records: int = 100_000,
        client: Any = None,
    ) -> None:
        check_type("url", type(url), isinstance(url, str), "a string")  # not itself: it may hold a password
        check("url", "", url != "", "a string that isn't empty")
        check_text("stream", stream)
        library = importlib.import_module("redis")  # now: a thread that imports is in the way of a fork
        check_type("client", client, client is None or isinstance(client, library.Redis), "a redis.Redis or None")
        notes = f"{stream}:notes" if "{" in stream else f"{{{stream}}}:notes"
        self._keys = stream.encode("utf-8", "surrogatepass"), notes.encode("utf-8", "surrogatepass")
        kind, settings = settings_of(url, client)
        self._client: Any = library.Redis(connection_pool=library.ConnectionPool(connection_class=kind, **settings))
        self._append_script, self._read_script = map(self._client.register_script, (_APPEND, _READ))
        self._ahead, self._next_comparison = 0.0, 0.0
        super().__init__(place_of(url), max_age, max_records)

    def _disconnect(self) -> None:
        self._client.connection_pool.disconnect()

    def _append(self, entries: Sequence[bytes], *, prune: bool) -> None:
        age = int(min(self.max_age, 1e9) * 1e6)
        self._append_script(self._keys, (age, self.max_records, *entries))
        if prune:
            oldest, now = self._read(None, 1).oldest, self._remote_now()
            gone = surplus(self._notes(), oldest, now, self.max_age, self.max_records)
            for place in range(0, len(gone), _PRUNE_PAGE):
                self._client.xdel(self._keys[1], *gone[place : place + _PRUNE_PAGE])

    def _notes(self) -> Iterator[tuple[int, bytes]]:
        start = "-"
        while page := self._client.xrange(self._keys[1], start, count=_PRUNE_PAGE):
            yield from ((_position(id_), fields[b"e"][:HEAD]) for id_, fields in page)
            start = b"(" + page[-1][0]

    def _read(self, after: Any, limit: int) -> Page:
        records, notes, oldest = self._read_script(self._keys, (after or 0, limit))
        found = sorted((_position(id_), fields[1]) for id_, fields in [*records, *notes])[:limit]
        return Page(found, found[-1][0] if found else after, _position(oldest) if oldest else None)

    def _remote_now(self) -> float:
        """Return the time on Redis' clock, in seconds since 1970; now and then Redis is asked for it."""
        if time.monotonic() >= self._next_comparison:
            self._ahead = min(self._compare() for _ in range(_COMPARISONS))[1]
            self._next_comparison = time.monotonic() + _COMPARE_EVERY
        return time.monotonic() + self._ahead

    def _compare(self) -> tuple[float, float]:
        """Return how long Redis took to tell its time, and how far that is ahead of the monotonic clock."""
        begin = time.monotonic()
        seconds, microseconds = self._client.time()
        end = time.monotonic()
        return end - begin, seconds + microseconds / 1e6 - (begin + end) / 2


def _position(id_: bytes) -> int:
    return int(id_.partition(b"-")[0])
