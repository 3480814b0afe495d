"""A journal in Redis: two streams, one of records and one of all else, for all processes of all machines."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from booking_resilience import clock
from booking_resilience.breaker.shared_wires import TIMEOUT, connector, place_of
from booking_resilience.checks import check, check_number, check_text, check_type, check_whole
from booking_resilience.journal import forks
from booking_resilience.journal.entries import Cursor, Page, surplus
from booking_resilience.journal.writer import close_writer

_MEASURE_EVERY = 10.0  # seconds after which the two clocks are compared again
_PRUNE_EVERY = 20.0
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
return {found[1], found[2], oldest[1] and oldest[1][1] or '', string.format('%.0f', now())}
"""
)


class RedisJournal:
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
        check_type("url", url, isinstance(url, str), "a string")
        check("url", "", url != "", "a string that isn't empty")
        check_text("stream", stream)
        check_number("max_age", max_age, above=True)
        check_whole("max_records", max_records)
        library = importlib.import_module("redis")  # now: a thread that imports is in the way of a fork
        check_type("client", client, client is None or isinstance(client, library.Redis), "a redis.Redis or None")
        notes = f"{stream}:notes" if "{" in stream else f"{{{stream}}}:notes"
        self._keys = stream.encode("utf-8", "surrogatepass"), notes.encode("utf-8", "surrogatepass")
        self._place: str = f"the journal {place_of(url)}"
        self.max_age: float = max_age
        self.max_records: int = max_records
        self._stream = stream
        self._connect = connector(url, client)
        self._is_closed = False
        self._begin()
        forks.journals.add(self)

    def _begin(self) -> None:
        self._writing, self._reading = _Line(self._connect), _Line(self._connect)
        self._ahead, self._next_measure = 0.0, 0.0
        self._next_prune = time.monotonic() + _PRUNE_EVERY / 4

    def append(self, entries: Sequence[bytes]) -> None:
        """Append all entries, in one script.

        Raises:
            TypeError: If an entry isn't bytes.
            Exception: The client's, if Redis does not answer or refuses.
        """
        for data in entries:
            check_type("an entry", data, isinstance(data, bytes), "bytes")
        age = str(int(min(self.max_age, 1e9) * 1e6)).encode()
        with self._open(self._writing) as line:
            line.run(_APPEND, *self._keys, age, str(self.max_records).encode(), *entries)
            if time.monotonic() >= self._next_prune:
                self._next_prune = time.monotonic() + _PRUNE_EVERY
                self._prune(line)

    def read(self, after: Cursor = None, limit: int = 1000) -> tuple[list[bytes], Cursor]:
        """Return the next entries after a cursor, at most `limit`, and the cursor after the last of them.

        Raises:
            Exception: The client's, if Redis does not answer or refuses.
        """
        page = self._page(after, limit)
        return [data for _, data in page.entries], page.cursor

    def _page(self, after: Cursor, limit: int) -> Page:
        """Return the next entries with what else a reader of this library's wants to know."""
        with self._open(self._reading) as line:
            start = str(0 if after is None else after).encode()
            records, notes, oldest, now = line.run(_READ, *self._keys, start, str(limit).encode())
        found = sorted((_position(id_), fields[1]) for id_, fields in [*records, *notes])[:limit]
        first = _position(oldest) if oldest else None
        return Page(found, found[-1][0] if found else after, int(now) / 1e6, first)

    def close(self) -> None:
        """Write what waits, for up to 2 s, and disconnect. Closing twice is harmless."""
        if not self._is_closed:
            close_writer(self)
            self._is_closed = True
            for line in (self._writing, self._reading):
                with line.lock:
                    line.close()

    def __repr__(self) -> str:
        return f"<RedisJournal {self._place.removeprefix('the journal ')} stream={self._stream!r}>"

    def _offset(self) -> float:
        """Return by how many seconds Redis' clock is ahead of this process's."""
        if time.monotonic() >= self._next_measure:
            with self._open(self._writing) as line:
                begin, at = time.monotonic(), clock.timestamp()
                seconds, micros = line.call(b"TIME")
                took = time.monotonic() - begin
            self._ahead = int(seconds) + int(micros) / 1e6 - at - took / 2
            self._next_measure = time.monotonic() + _MEASURE_EVERY
        return self._ahead

    def _prune(self, line: _Line) -> None:
        notes: list[tuple[int, bytes]] = []
        start, key = b"-", self._keys[1]
        while page := line.call(b"XRANGE", key, start, b"+", b"COUNT", str(_PRUNE_PAGE).encode()):
            notes += [(_position(id_), fields[1][:32]) for id_, fields in page]
            start = b"(" + page[-1][0]
        oldest = line.call(b"XRANGE", self._keys[0], b"-", b"+", b"COUNT", b"1")
        now = line.call(b"TIME")
        first = _position(oldest[0][0]) if oldest else None
        gone = surplus(notes, first, int(now[0]) + int(now[1]) / 1e6, self.max_age, self.max_records)
        for place in range(0, len(gone), _PRUNE_PAGE):
            line.call(b"XDEL", key, *(f"{position}-0".encode() for position in gone[place : place + _PRUNE_PAGE]))

    @contextlib.contextmanager
    def _open(self, line: _Line) -> Iterator[_Line]:
        with line.lock:
            if self._is_closed:
                raise ValueError("the journal is closed")
            try:
                yield line
            except BaseException:
                line.close()  # an answer may still come, to a question that nobody asks any more
                raise

    # -- forks

    def pause(self, end: float) -> bool:
        """Disconnect over a fork; tell whether nobody was using the connections."""
        held: list[_Line] = []
        for line in (self._writing, self._reading):
            if not line.lock.acquire(timeout=max(0.0, end - time.monotonic())):
                for other in held:
                    other.lock.release()
                return False
            held.append(line)
        for line in held:
            line.close()
        return True

    def resume(self) -> None:
        """Go on after a fork."""
        for line in (self._writing, self._reading):
            line.lock.release()

    def reborn(self, *, was_paused: bool) -> None:
        """Go on in a child process."""
        if not was_paused:
            for line in (self._writing, self._reading):
                line.forget()
        self._begin()


class _Line:
    """A connection of the official client's, without its pool, retries and timeouts."""

    def __init__(self, connect: Any) -> None:
        self.lock = threading.Lock()
        self._connect = connect
        self._connection: Any = None

    def call(self, *command: bytes) -> Any:
        """Send a command and return the answer."""
        connection = self._connection
        if connection is None:
            connection = self._connect()
            connection.connect()
            self._connection = connection
        connection.send_packed_command(connection.pack_commands([command]), check_health=False)
        if not connection.can_read(TIMEOUT):
            raise TimeoutError("no answer")
        return connection.read_response()

    def run(self, script: str, *arguments: bytes) -> Any:
        """Run a script with two keys; send it along if Redis does not know it."""
        sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest().encode()
        try:
            return self.call(b"EVALSHA", sha, b"2", *arguments)
        except Exception as error:
            if type(error).__name__ != "NoScriptError":
                raise
            return self.call(b"EVAL", script.encode(), b"2", *arguments)

    def close(self) -> None:
        """Disconnect, if it is connected."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.disconnect()

    def forget(self) -> None:
        """Drop, in a child process, what its parent goes on to use: no word to the Redis."""
        connection: Any = self._connection
        self._connection = None
        with contextlib.suppress(Exception):
            connection._sock.close()
            connection._sock = None


def _position(id_: bytes) -> int:
    return int(id_.partition(b"-")[0])
