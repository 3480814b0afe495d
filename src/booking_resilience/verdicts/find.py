"""What is known of one error: its class looked up in the table, then what it wraps and the facts that it carries."""

from __future__ import annotations

import functools
import re
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Final

from booking_resilience.checks import is_a
from booking_resilience.verdicts import table
from booking_resilience.verdicts.appwrite import find_appwrite
from booking_resilience.verdicts.facts import READERS, Found, attribute, text_of
from booking_resilience.verdicts.meanings import MEANINGS, Rule

_MOST_LINKS: Final = 12
_ITEMS_READ: Final = 10
_UNKNOWN: Final = Rule("unknown", reads="status", where="response.status_code")
_rules: weakref.WeakKeyDictionary[type, Rule] = weakref.WeakKeyDictionary()


def find(error: BaseException) -> Found:
    """Return what is known of an error that isn't a group; nothing, if it can't be inspected."""
    try:
        is_sdk = rule_of(type(error)).reads == "appwrite"
        return find_appwrite(error, is_sdk, _of_any_library) or _of_any_library(error)
    except Exception:  # noqa: BLE001 - its own `__cause__`, say, raises
        return Found("unknown")


def is_timeout(error: BaseException) -> bool:
    """Tell by its class whether an error that isn't a group is a timeout, or wraps one where its verdict looks."""
    waiting = [error]
    try:
        for link in waiting:  # it grows meanwhile
            kind = type(link)
            if issubclass(kind, TimeoutError) or any("Timeout" in base.__name__ for base in kind.__mro__):
                return True
            if len(waiting) < _MOST_LINKS:
                waiting += _links(link, rule_of(kind).wraps)
    except Exception:  # noqa: BLE001 - as above
        return False
    return False


def _of_any_library(error: BaseException) -> Found:
    return _find(error, set())


def rule_of(kind: type) -> Rule:
    """Return the rule of an exception type; for a stranger, the one that any error with an answer is judged by."""
    try:
        return _rules[kind]
    except (KeyError, TypeError):
        found = _look_up(kind)
    try:
        _rules[kind] = found
    except TypeError:  # its metaclass allows no hash
        pass
    return found


def _look_up(kind: type) -> Rule:
    for base in type.__dict__["__mro__"].__get__(kind):
        try:
            module, name = type.__dict__["__module__"].__get__(base), type.__dict__["__name__"].__get__(base)
            if rule := _names_of(module.partition(".")[0]).get(name):
                return rule
        except Exception:  # noqa: BLE001, S112 - a class without a readable module is a stranger
            continue
    return _UNKNOWN


@functools.cache
def _names_of(package: str) -> dict[str, Rule]:
    return {name: rule for names, rule in table.KNOWN.get(package, ()) for name in names.split()}


def _find(error: BaseException, seen: set[int]) -> Found:
    if not is_a(error, Exception):
        return Found("nothing")
    seen.add(id(error))
    rule = rule_of(type(error))
    found = _wrapped(error, rule, seen) or _told(error, rule)
    if found.reached == "no" and rule.repeats and found.meaning != "mistake" and REPEATS[rule.repeats](error):
        return found._replace(sent="maybe")
    return found


def _told(error: BaseException, rule: Rule) -> Found:
    """Return what the error's own facts tell, else its words, else its class."""
    if rule.reads in READERS and (found := READERS[rule.reads](error, rule)):
        return found
    if rule.words:
        text = text_of(error)
        for pattern, meaning in rule.words:
            if re.search(pattern, text):
                return Found(meaning)
    return Found(rule.meaning)


def _wrapped(error: BaseException, rule: Rule, seen: set[int]) -> Found | None:
    """Return what a wrapped error tells, if that is more than the class of the error itself does."""
    for inner in _links(error, rule.wraps):
        if id(inner) not in seen and len(seen) < _MOST_LINKS:
            found = _find(inner, seen)
            if MEANINGS[found.meaning].rank > MEANINGS[rule.meaning].rank:
                return found
    return None


def _links(error: BaseException, names: tuple[str, ...]) -> Iterator[BaseException]:
    for name in names:
        is_hidden = name == "__context__" and error.__cause__ is not None
        held = None if is_hidden else attribute(error, name)
        for item in held[:_ITEMS_READ] if isinstance(held, tuple) else (held,):
            if is_a(item, BaseException):
                yield item


def _always(_: BaseException) -> bool:
    return True


def _frames(error: BaseException, names: tuple[str, ...]) -> Iterator[Any]:
    tb = error.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code.co_name in names:
            yield tb.tb_frame
        tb = tb.tb_next


def _urlopen(error: BaseException) -> bool:
    """Tell by the calls of `urlopen`: urllib3 repeats a request by one inside the other."""
    files = [frame.f_code.co_filename for frame in _frames(error, ("urlopen",))]
    return sum("connectionpool" in file for file in files) != 1


def _num_retries(error: BaseException) -> bool:
    """Tell by the variable in which stripe counts its repetitions, in a variable of the function that raises."""
    names = ("_request_with_retries_internal", "_request_with_retries_internal_async")
    return any(frame.f_locals.get("num_retries") != 0 for frame in _frames(error, names))


REPEATS: Final[dict[str, Callable[[BaseException], bool]]] = {
    "always": _always,
    "num_retries": _num_retries,
    "urlopen": _urlopen,
}
