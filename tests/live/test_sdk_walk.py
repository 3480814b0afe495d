"""The SDK walks through every method of its services for rows that the embedded server emulates.

On the embedded server by default, on a real one with `-m live`; older SDKs lack some methods and walk past them.
"""

from __future__ import annotations

import inspect
import json
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import pytest
from appwrite.exception import AppwriteException
from appwrite.query import Query
from appwrite.services.databases import Databases
from appwrite.services.tables_db import TablesDB
from pydantic import ValidationError

from backends import Backend, wait_until_available

NOT_EMULATED = re.compile(
    "create_(cutover|failover|migration|query)|delete_migration|list_(migrations|operations|specifications)|"
    "get_(migration|replicas|status)|(get|list)_.*(usage|logs)|list_usage"
)
"""What is not about rows: copies of databases, their logs and their use."""

KINDS: dict[str, dict[str, Any]] = {
    "string": {"size": 20},
    "varchar": {"size": 20},
    "text": {},
    "mediumtext": {},
    "longtext": {},
    "integer": {},
    "big_int": {},
    "float": {},
    "boolean": {},
    "datetime": {},
    "email": {},
    "url": {},
    "ip": {},
    "enum": {"elements": ["a", "b"]},
    "point": {},
    "line": {},
    "polygon": {},
}


class Walker:
    """A service whose methods are called by what they are called in either API, and remembered."""

    def __init__(self, service: Any, *, is_tables: bool) -> None:
        self.service, self.is_tables = service, is_tables
        self.called: set[str] = set()
        self.unread: set[str] = set()
        self._answer: Any = None
        self._client = service.client
        service.client = self

    def __getattr__(self, name: str) -> Any:
        """Stand in for the service's client."""
        return getattr(self._client, name)

    def call(self, *given: Any, **named: Any) -> Any:
        """Call a route as the client does, and keep what it answers."""
        self._answer = self._client.call(*given, **named)
        return self._answer

    def name(self, text: str) -> str:
        """Return a name in the words of the API."""
        if self.is_tables:
            return text
        for word, other in (("table", "collection"), ("column", "attribute"), ("row", "document")):
            text = text.replace(word, other)
        return text

    def __call__(self, method: str, **given: Any) -> Any:
        """Call a method; None if this SDK lacks it, the plain answer if it can't read what 1.9.6 answers."""
        name = self.name(method)
        found = getattr(self.service, name, None)
        if found is None:
            return None
        self.called.add(name)
        known = inspect.signature(found).parameters
        named = {self.name(key): value for key, value in given.items()}
        with warnings.catch_warnings(record=True):  # the SDK sets filters of its own, so that ignoring isn't enough
            try:
                return found(**{key: value for key, value in named.items() if key in known})
            except (AppwriteException, ValidationError) as error:
                if "nable to" not in str(error) and not isinstance(error, ValidationError):
                    raise
                self.unread.add(name)
                return self._answer


@contextmanager
def database(walk: Walker) -> Iterator[str]:
    """Make a database with a name of its own, and remove it."""
    id_ = f"walk-{uuid.uuid4().hex[:12]}"
    walk("create", database_id=id_, name="Walk")
    try:
        yield id_
    finally:
        walk("delete", database_id=id_)


@pytest.mark.parametrize("is_tables", [True, False])
def test_every_emulated_method_works_through_the_sdk(backend: Backend, is_tables: bool) -> None:
    """Databases, tables, columns of every kind, indexes, rows one by one and many at once, transactions."""
    client: Any = backend.client
    walk = Walker(TablesDB(client) if is_tables else Databases(client), is_tables=is_tables)
    with database(walk) as database_id:
        where = {"database_id": database_id, "table_id": "t"}
        _walk_tables(walk, where)
        _walk_columns(walk, client, where)
        _walk_indexes(walk, client, where)
        _walk_rows(walk, where)
        _walk_transactions(walk, where)
        walk("delete_table", **where)
    mine = [name for name in dir(walk.service) if name[0] != "_" and inspect.ismethod(getattr(walk.service, name))]
    assert [name for name in mine if name not in walk.called and not NOT_EMULATED.fullmatch(name)] == []
    if version("appwrite").startswith("27."):  # the models of older ones ask for fields that no 1.9.6 answers
        assert walk.unread == set()


def _walk_tables(walk: Walker, where: dict[str, Any]) -> None:
    database_id = where["database_id"]
    walk("create_table", **where, name="T", permissions=['read("any")'])
    assert walk("get", database_id=database_id) is not None
    assert walk("list", queries=[Query.limit(1)]) is not None
    assert walk("update", database_id=database_id, name="Walked") is not None
    assert walk("get_table", **where) is not None
    assert walk("list_tables", database_id=database_id) is not None
    assert walk("update_table", **where, name="Walked") is not None


def _walk_columns(walk: Walker, client: Any, where: dict[str, Any]) -> None:
    path = _path(walk, where)
    for kind, facts in KINDS.items():
        walk(f"create_{kind}_column", **where, key=kind, required=False, **facts)
    walk("create_table", database_id=where["database_id"], table_id="other", name="Other")
    other = {"database_id": where["database_id"], "table_id": "other"}
    related = "related_table_id" if walk.is_tables else "related_collection_id"
    walk("create_relationship_column", **other, **{related: "t"}, type="oneToOne", key="rel", on_delete="setNull")
    wait_until_available(client, path, walk.name("columns"))
    wait_until_available(client, path.rsplit("/", 1)[0] + "/other", walk.name("columns"))
    for kind, facts in KINDS.items():
        walk(f"update_{kind}_column", **where, key=kind, required=False, default=None, **facts)
    walk("update_relationship_column", **other, key="rel", on_delete="restrict")
    assert walk("get_column", **where, key="varchar") is not None
    assert walk("list_columns", **where) is not None
    walk("delete_column", **where, key="string")


def _walk_indexes(walk: Walker, client: Any, where: dict[str, Any]) -> None:
    columns = {"columns": ["varchar"]} if walk.is_tables else {"attributes": ["varchar"]}
    walk("create_index", **where, key="i", type="key", **columns)
    wait_until_available(client, _path(walk, where), "indexes")
    assert walk("get_index", **where, key="i") is not None
    assert walk("list_indexes", **where) is not None
    walk("delete_index", **where, key="i")


def _walk_rows(walk: Walker, where: dict[str, Any]) -> None:
    data = {"varchar": "x", "integer": 1, "float": 1.5, "boolean": True, "datetime": "2026-01-01", "enum": "a"}
    walk("create_row", **where, row_id="r1", data=data)
    many = (
        {"rows": [{"$id": "r2", "varchar": "y"}]} if walk.is_tables else {"documents": [{"$id": "r2", "varchar": "y"}]}
    )
    assert walk("create_rows", **where, **many) is not None
    assert walk("upsert_rows", **where, **many) is not None
    assert walk("get_row", **where, row_id="r1") is not None
    assert walk("list_rows", **where, queries=[Query.equal("varchar", ["X"])]) is not None
    assert walk("update_row", **where, row_id="r1", data={"integer": 2}) is not None
    assert walk("upsert_row", **where, row_id="r3", data={"varchar": "z"}) is not None
    assert walk("increment_row_column", **where, row_id="r1", column="integer", value=2) is not None
    assert walk("decrement_row_column", **where, row_id="r1", column="integer", value=1) is not None
    assert walk("update_rows", **where, data={"text": "t"}, queries=[Query.is_not_null("varchar")]) is not None
    assert walk("delete_rows", **where, queries=[Query.equal("$id", ["r2"])]) is not None
    walk("delete_row", **where, row_id="r3")


def _walk_transactions(walk: Walker, where: dict[str, Any]) -> None:
    begun = walk("create_transaction", ttl=60)
    if begun is None:
        return
    id_ = _id(begun)
    ids = {"databaseId": where["database_id"], "tableId" if walk.is_tables else "collectionId": "t"}
    row = {"rowId" if walk.is_tables else "documentId": "r4"}
    walk(
        "create_operations", transaction_id=id_, operations=[{"action": "create", **ids, **row, "data": {"text": "x"}}]
    )
    assert _id(walk("get_transaction", transaction_id=id_)) == id_
    assert walk("list_transactions", queries=[Query.limit(5)]) is not None
    assert "committed" in str(_plain(walk("update_transaction", transaction_id=id_, commit=True)))
    assert walk("get_row", **where, row_id="r4") is not None
    again = _id(walk("create_transaction"))
    walk("update_transaction", transaction_id=again, rollback=True)
    walk("delete_transaction", transaction_id=again)


def _path(walk: Walker, where: dict[str, Any]) -> str:
    area = (
        f"/tablesdb/{where['database_id']}/tables"
        if walk.is_tables
        else f"/databases/{where['database_id']}/collections"
    )
    return f"{area}/{where['table_id']}"


def _plain(found: Any) -> Any:
    return found if isinstance(found, dict) else json.loads(found.model_dump_json(by_alias=True))


def _id(found: Any) -> str:
    return str(_plain(found)["$id"])
