"""The JSON schema of the settings, made from the constructors' signatures; as a command it writes the file."""

from __future__ import annotations

import inspect
import json
import pathlib
import typing

import booking_resilience.settings
from booking_resilience.settings.parts import (
    ADAPTIVE,
    FIXED,
    NESTED,
    PIPELINE,
    REFERENCES,
    SECTIONS,
    load,
    may_be_none,
    settings_of,
)

PATH = pathlib.Path(booking_resilience.settings.__file__).with_name("schema.json")
_TYPES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}
_CATEGORIES = ["booking", "chat", "payment", "appwrite", "network"]


def schema():
    """Return the schema."""
    tables = {
        section: {"type": "object", "additionalProperties": _kinds(kind), "description": _summary(kind)}
        for section, kind in SECTIONS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of booking_resilience",
        "type": "object",
        "additionalProperties": False,
        "properties": tables,
    }


def _kinds(kind):
    return {"anyOf": [_table(FIXED), _table(ADAPTIVE)]} if kind == ADAPTIVE else _table(kind)


def _table(kind):
    known, made = settings_of(kind), load(kind)
    hints = typing.get_type_hints(made if hasattr(made, "__dataclass_fields__") else made.__init__)
    settings = {name: _setting(kind, name, parameter, hints[name]) for name, parameter in known.items()}
    table = {"type": "object", "additionalProperties": False, "properties": settings}
    required = [name for name, parameter in known.items() if parameter.default is inspect.Parameter.empty]
    return {**table, "required": required} if required else table


def _setting(kind, name, parameter, hint):
    if name == "timeout":
        return {"anyOf": [{"type": "number"}, _table(NESTED[name])]}
    if name in NESTED:
        return _table(NESTED[name])
    if kind == PIPELINE and name in REFERENCES:
        return {"type": "string", "description": f"A name in {REFERENCES[name]}."}
    if name == "category":
        return {"enum": _CATEGORIES}
    types = [kind for kind in typing.get_args(hint) or (hint,) if kind is not type(None)]
    words = [word for kind in types for word in typing.get_args(kind)] + ["none"] * may_be_none(parameter)
    plain = [{"type": _TYPES[kind.__name__]} for kind in types if not typing.get_args(kind)]
    allowed = plain + [{"const": word} for word in words]
    setting = allowed[0] if len(allowed) == 1 else {"anyOf": allowed}
    default = "none" if parameter.default is None else parameter.default
    return setting if default is inspect.Parameter.empty else {**setting, "default": default}


def _summary(kind):
    return inspect.getdoc(load(kind)).partition("\n")[0]


if __name__ == "__main__":
    PATH.write_text(json.dumps(schema(), indent=2) + "\n")
