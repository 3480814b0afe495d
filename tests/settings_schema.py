"""The JSON schema of the settings, made from the constructors' signatures; as a command it writes the file."""

from __future__ import annotations

import inspect
import json
import pathlib
import typing

import booking_resilience.settings
from booking_resilience.settings.parts import NESTED, REFERENCES, SECTIONS, may_be_none, settings_of

PATH = pathlib.Path(booking_resilience.settings.__file__).with_name("schema.json")
_TYPES = {"int": "integer", "float": "number", "bool": "boolean", "str": "string"}
_CATEGORIES = ["booking", "chat", "payment", "appwrite", "network"]


def schema():
    """Return the schema."""
    tables = {
        section: {"type": "object", "additionalProperties": _table(make), "description": _summary(make)}
        for section, make in SECTIONS.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of booking_resilience",
        "type": "object",
        "additionalProperties": False,
        "properties": tables,
    }


def _table(make):
    known = settings_of(make)
    hints = typing.get_type_hints(make if hasattr(make, "__dataclass_fields__") else make.__init__)
    settings = {name: _setting(name, parameter, hints[name]) for name, parameter in known.items()}
    return {"type": "object", "additionalProperties": False, "properties": settings}


def _setting(name, parameter, hint):
    if name in NESTED:
        return _table(NESTED[name])
    if name in REFERENCES:
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


def _summary(make):
    return inspect.getdoc(make).partition("\n")[0]


if __name__ == "__main__":
    PATH.write_text(json.dumps(schema(), indent=2) + "\n")
