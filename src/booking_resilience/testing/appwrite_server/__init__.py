"""An embedded Appwrite server for tests and examples. Not for production: all is in memory, and it fails on request.

It speaks HTTP on the loopback; the real SDK talks to it. What it answers equals recordings of a real Appwrite 1.9.6.

- `server.py`: the listening socket and a thread for each connection
- `wire.py`: HTTP on one connection; `exchange.py`: a request and its answer; `wrong.py`: what a fault makes of it
- `routes.py`: the table of routes; `api.py`: which leads where, and in which order things are checked
- `access.py`: projects, keys, scopes, guests; `permissions.py`: their syntax; `limits.py`: the rate limits
- `tables.py` (databases and tables), `fields.py` (columns and indexes), `rows.py` (single rows), `bulk.py` (many),
  `transactions.py`: what the routes do; `shared.py`: what those of rows share; `bodies.py`: rows in answers
- `staging.py`: transactions, and how rows look from inside of one; `commit.py`: carrying them out
- `writes.py`: what changes rows, for routes and transactions alike; `store.py`: where everything is
- `kinds.py`: the kinds of columns and what they accept; `schema.py`: making and changing them; `indexes.py`: indexes
- `queries.py`: the query language; `filters.py`: what it finds; `listing.py`: order and pages; `search.py`: full text
- `parameters.py`: reading what a request brings; `dialect.py`: the two vocabularies, and errors
- `php.py`, `dates.py`, `formats.py`, `collation.py`: what of PHP and MariaDB shows
"""

from booking_resilience.testing.appwrite_server.server import AppwriteServer, RecordedRequest

__all__ = ["AppwriteServer", "RecordedRequest"]
