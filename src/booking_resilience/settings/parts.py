"""From a tree of settings to the objects: each table gives the arguments of one constructor, which checks them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from booking_resilience.breaker import CircuitBreaker, FailureRate
from booking_resilience.monitor import AlertRule, ErrorMonitor
from booking_resilience.pipeline import Pipeline
from booking_resilience.retry import RetryBudget, RetryPolicy
from booking_resilience.settings.live import LivePipeline
from booking_resilience.settings.sources import Place

T = TypeVar("T")

IN_CODE: frozenset[str] = frozenset(
    {"retry_on", "retry_on_result", "failure_on", "ignore", "shared", "redact", "on_alert", "journal", "name"}
    | {"limit", "rate", "fallback", "hedge", "timeout"}
)
"""Functions, types, connections and parts for load, which are given in code; the name is the table's."""

NESTED: dict[str, type] = {
    "retry": RetryPolicy,
    "budget": RetryBudget,
    "failure_rate": FailureRate,
    "alert": AlertRule,
}
"""What stands in a table of its own, by the argument's name."""

REFERENCES: dict[str, str] = {"breaker": "breakers", "monitor": "monitors"}
"""What a pipeline names, by the argument's name: the section that it's in."""

SECTIONS: dict[str, Callable[..., Any]] = {
    "breakers": CircuitBreaker,
    "monitors": ErrorMonitor,
    "pipelines": Pipeline,
}
"""The tables of tables, in the order in which they are made, and what each makes."""


@functools.cache
def settings_of(constructor: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments that can be set as data."""
    parameters = inspect.signature(constructor).parameters
    return {name: parameter for name, parameter in parameters.items() if name not in IN_CODE}


def may_be_none(parameter: inspect.Parameter) -> bool:
    """Tell whether an argument may be None, which TOML writes as the string "none"."""
    return parameter.default is None or str(parameter.annotation).endswith("| None")


def build(constructor: Callable[..., T], place: Place, table: object, found: Mapping[str, Mapping[str, Any]]) -> T:
    """Make an object from its table.

    Args:
        constructor: What makes it.
        place: Where the table stands.
        table: The table.
        found: The objects that it may name, by section and name.

    Raises:
        ValueError: If a setting is unknown or absurd.
    """
    known = settings_of(constructor)
    arguments: dict[str, Any] = {}
    for key, value in place.table(table).items():
        where = place.at(key)
        if key not in known:
            raise where.unknown(known)
        if value == "none" and may_be_none(known[key]):
            arguments[key] = None
        elif value is not None and key in NESTED:
            arguments[key] = build(NESTED[key], where, value, found)
        elif value is not None and constructor is Pipeline and key in REFERENCES:
            arguments[key] = _named(where, value, found[REFERENCES[key]])
        else:
            arguments[key] = value
    names = (place.path[-1],) if constructor is CircuitBreaker else ()
    make: Any = LivePipeline if constructor is Pipeline else constructor
    try:
        made: T = make(*names, **arguments)
    except (TypeError, ValueError) as error:
        argument, _, rest = str(error).partition(" ")
        if argument in known:
            raise place.at(argument).wrong(rest) from error
        raise ValueError(f"{place}: {error}") from error
    return made


def _named(where: Place, name: object, found: Mapping[str, Any]) -> Any:
    if not isinstance(name, str):
        raise where.wrong(f"must be a string, not {name!r}")
    if name not in found:
        raise Place(where.source, (*where.path, name)).unknown(found)
    return found[name]
