"""Links the types in signatures: a Sphinx extension, loaded by `conf.py`.

Sphinx looks for a type under the module that defines it, but the reference describes public names only. So an internal
name is looked up, and the public name of the same object is linked. Types of the standard library link to Python's own
documentation, whose addresses follow from the names, so that building needs no network.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PACKAGE = "booking_resilience"
PYTHON = "https://docs.python.org/3/library/"
_CONSTANTS = {"None", "True", "False", "NotImplemented", "Ellipsis"}
_FUNCTIONS = {"object", "bool", "int", "float", "complex", "type", "property", "staticmethod", "classmethod", "super"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the resolver."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.reference | nodes.TextElement | None:
    """Return the link for a name that Sphinx doesn't know; None if it isn't known here, either."""
    if node.get("refdomain") != "py":
        return None
    name = str(node["reftarget"])
    address = address_in_python(name)
    if address is not None:
        return nodes.reference("", "", content, internal=False, refuri=address, reftitle="in Python's documentation")
    described = env.domains.python_domain.objects
    for public in public_names(name):
        if public in described:
            place = described[public]
            uri = app.builder.get_relative_uri(env.docname if not node.get("refdoc") else node["refdoc"], place.docname)
            return nodes.reference("", "", content, internal=True, refuri=f"{uri}#{place.node_id}", reftitle=public)
    return None


def address_in_python(name: str) -> str | None:
    """Return where Python's documentation describes a name of the standard library, None for other names."""
    module, _, last = name.rpartition(".")
    if module in ("", "builtins"):
        if last in _CONSTANTS:
            return f"{PYTHON}constants.html#{last}"
        thing = getattr(sys.modules["builtins"], last, None)
        if thing is None:
            return None
        if isinstance(thing, type) and issubclass(thing, BaseException):
            return f"{PYTHON}exceptions.html#{last}"
        page = "functions" if last in _FUNCTIONS or not isinstance(thing, type) else "stdtypes"
        return f"{PYTHON}{page}.html#{last}"
    top = module.partition(".")[0]
    if top not in sys.stdlib_module_names or top == PACKAGE:
        return None
    if name == "types.NoneType":
        return f"{PYTHON}constants.html#None"
    page = {"pathlib._local": "pathlib"}.get(module, module)
    return f"{PYTHON}{page}.html#{page}.{last}"


@cache
def public_names(name: str) -> list[str]:
    """Return the public names of the object that has an internal or a bare name, those of the package first."""
    return [public for public, thing in public_things().items() if thing is not None and thing is found(name)]


def found(name: str) -> object:
    """Return the object of a dotted name, or of the bare name of a public object; None if there is none."""
    module, _, last = name.rpartition(".")
    if not module:
        return next((thing for public, thing in public_things().items() if public.endswith(f".{last}")), None)
    if module.partition(".")[0] != PACKAGE:
        return None
    try:
        return getattr(importlib.import_module(module), last, None)
    except ImportError:
        return None


@cache
def public_things() -> dict[str, object]:
    """Return every public object by its public name."""
    parts = ["", ".appwrite", ".breaker.shared", ".celery", ".dashboard", ".durable", ".http", ".journal", ".load",
             ".monitor", ".sentry", ".telemetry.logs", ".telemetry.otel", ".testing", ".web"]  # fmt: skip
    things = {}
    for part in parts:
        module = importlib.import_module(PACKAGE + part)
        things.update({f"{PACKAGE}{part}.{name}": getattr(module, name) for name in getattr(module, "__all__", ())})
    return things
