"""An embedded Appwrite server for tests and examples. Not for production: all is in memory, and it fails on request.

It speaks HTTP on the loopback; the real SDK talks to it. What it answers equals recordings of a real Appwrite 1.9.6.

- `server.py`: the listening socket and a thread for each connection
- `wire.py`: HTTP on one connection
- `wrong.py`: what a fault makes of an answer
- `exchange.py`: a request and its answer
- `api.py`: which route leads where, and in which order things are checked
- `access.py`: projects, keys, scopes, guests; `limits.py`: the rate limits
- `tables.py` and `rows.py`: what the routes do
- `parameters.py`: reading what a request brings; `queries.py`: the query language of the lists
- `dialect.py`: the two vocabularies: databases/collections/documents and tablesdb/tables/rows; errors
- `schema.py`: columns, their types and what they accept; `store.py`: databases, tables and rows
"""

from booking_resilience.testing.appwrite_server.server import AppwriteServer, RecordedRequest

__all__ = ["AppwriteServer", "RecordedRequest"]
