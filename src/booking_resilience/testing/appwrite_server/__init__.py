"""An embedded Appwrite server for tests and examples. Not for production: all is in memory, and it fails on request.

It speaks HTTP on the loopback; the real SDK talks to it. What it answers equals recordings of a real Appwrite 1.9.6.

- `server.py`: sockets, threads, and faults on the wire
- `api.py`: which route does what, who may, and in which order that is checked
- `dialect.py`: the two vocabularies: databases/collections/documents and tablesdb/tables/rows
- `schema.py`: columns, their types and what they accept
- `store.py`: databases, tables and rows
- `queries.py`: the query language of the lists
"""

from booking_resilience.testing.appwrite_server.server import AppwriteServer, RecordedRequest

__all__ = ["AppwriteServer", "RecordedRequest"]
