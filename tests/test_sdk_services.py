"""Every method of the SDK's services through `client.run` and through the SDK's own client: the same in all respects.

The methods are found by reflection, so that the test holds for whatever version of the SDK is installed.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import json
import types
import typing
from collections import Counter

import anyio
import pydantic
from appwrite.client import Client
from appwrite.exception import AppwriteException
from appwrite.input_file import InputFile

from booking_resilience.appwrite import AsyncAppwriteClient
from booking_resilience.appwrite.sdk import plain_method
from rawserver import RawServer, answer, failure, head_of

SERVICES = {
    "tables_db": "TablesDB", "databases": "Databases", "users": "Users", "functions": "Functions",
    "messaging": "Messaging", "teams": "Teams", "storage": "Storage",
}  # fmt: skip
OURS = {"accept-encoding", "connection", "content-length", "host"}  # what each client says for itself
UNSET = inspect.Parameter.empty


def methods_of(kind):
    """Return the public methods of a service that are its own, by name."""
    return {
        name: method
        for name, method in vars(kind).items()
        if inspect.isfunction(method) and not name.startswith("_") and name != "client"
    }


def value_for(hint, depth=0):
    """Return a value that fits a type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return value_for(next(item for item in arguments if item is not types.NoneType), depth)
    if origin is typing.Literal:
        return arguments[0]
    kind = origin or hint
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return next(iter(kind))
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return sample(kind, depth + 1)
    plain = {str: "x1", int: 7, float: 1.5, bool: True, dict: {"a": 1}, list: []}
    if kind is list and arguments and depth < 3:
        return [value_for(arguments[0], depth)]
    return plain.get(kind, "x1")


def sample(model, depth=0):
    """Return JSON that a model of the SDK takes."""
    body = {}
    for name, field in model.model_fields.items():
        value = value_for(field.annotation, depth)
        body[field.alias or name] = value.value if isinstance(value, enum.Enum) else value
    return body


def call_of(kind, method):
    """Return the arguments that a method needs, and what the server has to answer; None for an upload."""
    hints = typing.get_type_hints(method)
    if InputFile in hints.values():
        return None
    parameters = [item for item in inspect.signature(method).parameters.values() if item.name != "self"]
    args = {
        item.name: value_for(hints.get(item.name, str))
        for item in parameters
        if item.name != "model_type" and (item.default is UNSET or hints.get(item.name) != InputFile)
    }
    result = hints.get("return")
    origin = typing.get_origin(result) or result
    is_model = isinstance(origin, type) and issubclass(origin, pydantic.BaseModel)
    return args, sample(origin) if is_model else {"data": "x1"}


def uploading(method):
    """Return the arguments of an upload."""
    hints = typing.get_type_hints(method)
    needed = [item for item in inspect.signature(method).parameters.values() if item.default is UNSET]
    files = {name: InputFile.from_bytes(b"x", "a") for name, hint in hints.items() if hint == InputFile}
    return {item.name: value_for(hints[item.name]) for item in needed if item.name in hints} | files


def facts_of(outcome):
    """Return what a call came to, so that it can be compared."""
    if isinstance(outcome, AppwriteException):
        return "AppwriteException", str(outcome), outcome.code, outcome.type, outcome.response
    if isinstance(outcome, Exception):
        return type(outcome).__name__, str(outcome)
    return type(outcome).__name__, outcome.model_dump() if isinstance(outcome, pydantic.BaseModel) else outcome


def now(fn, args):
    """Return what a call returns, or raises."""
    try:
        return fn(**args)
    except Exception as error:
        return error


async def awaited(client, fn, args):
    """Do as `now` through `client.run`."""
    try:
        return await client.run(fn, **args)
    except Exception as error:
        return error


def sent(request):
    """Return the parts of a request that both clients have to send alike.

    SDKs up to 20 or so spell a bool of a query as Python does, which the server refuses; ours never do.
    """
    line, fields = head_of(request)
    line = line.replace("=True", "=true")
    kept = {name: value for name, value in fields.items() if name not in OURS and value and value != "*/*"}
    return line, kept, request.partition(b"\r\n\r\n")[2]


def test_every_method_is_the_same_through_both_clients():
    """Request, model and error; uploads are refused."""
    differing, counts = [], Counter()

    async def ask_both(server, sync, client, kind, name):
        call = call_of(kind, vars(kind)[name])
        if call is None:
            counts["uploads"] += 1
            outcome = await awaited(client, getattr(kind(client), name), uploading(vars(kind)[name]))
            assert isinstance(outcome, TypeError)
            return
        args, body = call
        for step in (answer(200, json.dumps(body).encode()), failure(404, "x_not_found", "No such x.")):
            server.steps = [step]
            server.requests.clear()
            expected = facts_of(now(plain_method(getattr(kind(sync), name)), args))
            found = facts_of(await awaited(client, getattr(kind(client), name), args))
            counts[expected[0]] += 1
            requests = [sent(request) for request in server.requests]
            if found != expected or len(requests) != 2 or requests[0] != requests[1]:
                differing.append((kind.__name__, name, expected, found, requests))

    async def walk(server):
        sync = Client().set_endpoint(server.endpoint).set_project("p").set_key("k")
        async with AsyncAppwriteClient().set_endpoint(server.endpoint).set_project("p").set_key("k") as client:
            for module, name in SERVICES.items():
                kind = getattr(importlib.import_module(f"appwrite.services.{module}"), name)
                for method_name in methods_of(kind):
                    await ask_both(server, sync, client, kind, method_name)

    with RawServer() as server:
        anyio.run(walk, server)
    assert differing == []
    unread = sum(counts[name] for name in ("AppwriteException", "ValidationError", "dict", "bytes", "uploads"))
    assert counts.total() - unread > counts.total() / 4  # models
    assert counts.total() > 400
    assert counts["uploads"] >= 2
