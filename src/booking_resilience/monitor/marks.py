"""The mark on an error that says which monitor has recorded it, and as what."""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from booking_resilience.monitor.record import ErrorRecord

_PREFIX = "__booking_resilience_record_"
MANY = 16
_numbers = itertools.count(1)
_owners: weakref.WeakValueDictionary[str, object] = weakref.WeakValueDictionary()

attributes_of: Callable[[BaseException], dict[Any, Any]] = vars(BaseException)["__dict__"].__get__
"""Returns an error's own attributes, whatever its class has put in the way; `TypeError` for what is no error."""


class Mark:
    """Whose mark it is, and the record. An error that is copied or pickled does not take it along.

    It hangs on the error, in its `__dict__`: errors of builtin types cannot be referred to weakly, and a table beside
    them would keep them alive.
    """

    __slots__ = ("owner", "record")

    owner: int
    record: ErrorRecord

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


def key_for(owner: object) -> str:
    """Return the name of the attribute that has the marks of one owner."""
    key = f"{_PREFIX}{next(_numbers)}__"
    _owners[key] = owner
    return key


def settle(attributes: dict[Any, Any], key: str, mark: Mark) -> ErrorRecord:
    """Return the record that an error with these attributes is marked with, if need be by this mark."""
    found = attributes.setdefault(key, mark)
    if found is not mark:
        if type(found) is Mark and found.owner == mark.owner:
            return found.record
        attributes[key] = mark  # it is a copy of an error that had one
    if len(attributes) > MANY:  # a constant, say, that monitors come and go by
        for name in tuple(attributes):
            if type(name) is str and name.startswith(_PREFIX) and name not in _owners:
                attributes.pop(name, None)
    return mark.record
