"""From a tree of settings to the objects: each table gives the arguments of one class, which checks them.

Classes are named, and loaded when a table needs them: who sets no limits loads nothing of `booking_resilience.load`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from booking_resilience.settings.sources import Place

IN_CODE: frozenset[str] = frozenset(
    {"retry_on", "retry_on_result", "failure_on", "ignore", "shared", "redact", "on_alert", "journal", "fallback"}
    | {"name"}
)
"""Functions, types and connections, which are given in code; the name is the table's."""

NESTED: dict[str, str] = {
    "retry": "retry.RetryPolicy",
    "budget": "retry.RetryBudget",
    "failure_rate": "breaker.FailureRate",
    "alert": "monitor.AlertRule",
    "hedge": "load.Hedge",
    "timeout": "load.ThreadTimeout",
}
"""What stands in a table of its own, by the argument's name."""

REFERENCES: dict[str, str] = {"breaker": "breakers", "monitor": "monitors", "limit": "limits", "rate": "rates"}
"""What a pipeline names, by the argument's name: the section that it's in."""

FIXED = "load.ConcurrencyLimit"
ADAPTIVE = "load.AdaptiveLimit"
PIPELINE = "settings.live.LivePipeline"

SECTIONS: dict[str, str] = {
    "breakers": "breaker.CircuitBreaker",
    "monitors": "monitor.ErrorMonitor",
    "limits": ADAPTIVE,
    "rates": "load.RateLimit",
    "pipelines": PIPELINE,
}
"""The tables of tables, in the order in which they are made, and what each makes; a limit with `limit` is fixed."""


@functools.cache
def load(name: str) -> Any:
    """Return a class of this library by its module and name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"booking_resilience.{module}"), attribute)


@functools.cache
def settings_of(name: str) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class that can be set as data."""
    parameters = inspect.signature(load(name)).parameters
    return {argument: parameter for argument, parameter in parameters.items() if argument not in IN_CODE}


def may_be_none(parameter: inspect.Parameter) -> bool:
    """Tell whether an argument may be None, which TOML writes as the string "none"."""
    return parameter.default is None or str(parameter.annotation).endswith("| None")


def build(kind: str, place: Place, table: object, found: Mapping[str, Mapping[str, Any]]) -> Any:
    """Make an object from its table.

    Args:
        kind: The name of its class, as in `SECTIONS`.
        place: Where the table stands.
        table: The table; in place of a `timeout`'s just its seconds will do.
        found: The objects that it may name, by section and name.

    Raises:
        ValueError: If a setting is unknown, missing or absurd.
    """
    if kind == NESTED["timeout"] and isinstance(table, (int, float)):
        table = {"seconds": table}
    settings = place.table(table)
    if kind == ADAPTIVE:
        kind = _kind_of_limit(place, settings)
    known = settings_of(kind)
    arguments: dict[str, Any] = {}
    for key, value in settings.items():
        where = place.at(key)
        if key not in known:
            raise where.unknown(known)
        if value == "none" and may_be_none(known[key]):
            arguments[key] = None
        elif value is not None and key in NESTED:
            arguments[key] = build(NESTED[key], where, value, found)
        elif value is not None and kind == PIPELINE and key in REFERENCES:
            arguments[key] = _named(where, value, found[REFERENCES[key]])
        else:
            arguments[key] = value
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments:
            raise place.at(key).wrong("is missing")
    names = (place.path[-1],) if "name" in inspect.signature(load(kind)).parameters else ()
    try:
        return load(kind)(*names, **arguments)
    except (TypeError, ValueError) as error:
        argument, _, rest = str(error).partition(" ")
        if argument in known:
            raise place.at(argument).wrong(rest) from error
        raise ValueError(f"{place}: {error}") from error


def _kind_of_limit(place: Place, settings: Mapping[str, Any]) -> str:
    fixed, adaptive = settings_of(FIXED), settings_of(ADAPTIVE)
    for key in settings:
        if key not in fixed and key not in adaptive:
            raise place.at(key).unknown({**fixed, **adaptive})
        if "limit" in settings and key not in fixed:
            raise place.at(key).wrong("can't be combined with limit: a fixed limit doesn't adapt")
    return FIXED if "limit" in settings else ADAPTIVE


def _named(where: Place, name: object, found: Mapping[str, Any]) -> Any:
    if not isinstance(name, str):
        raise where.wrong(f"must be a string, not {name!r}")
    if name not in found:
        raise Place(where.source, (*where.path, name)).unknown(found)
    return found[name]
