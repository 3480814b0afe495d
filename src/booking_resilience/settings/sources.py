"""Where settings come from: a file, a mapping or the environment, all read into one tree."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from booking_resilience.checks import check_type

SourceLike: TypeAlias = str | os.PathLike[str] | Mapping[str, Any]

PREFIX = "BOOKING_RESILIENCE__"
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the settings something stands, for errors.

    Attributes:
        source: The file, or what else was read.
        path: The keys that lead there.
    """

    source: str
    path: tuple[str, ...] = ()

    def at(self, key: object) -> Place:
        """Return the place of a key below."""
        return Place(self.source, (*self.path, str(key)))

    def wrong(self, text: str) -> ValueError:
        """Return the error that says what is wrong here."""
        return ValueError(f"{self} {text}")

    def unknown(self, known: Iterable[str]) -> ValueError:
        """Return the error of a name that isn't known."""
        nearest = difflib.get_close_matches(self.path[-1], list(known), 1, 0.0)
        return self.wrong(f"is unknown; the nearest known name is {nearest[0]!r}" if nearest else "is unknown")

    def table(self, value: object) -> Mapping[str, Any]:
        """Return the table that stands here.

        Raises:
            ValueError: If it isn't a table.
        """
        if not isinstance(value, Mapping):
            raise self.wrong(f"must be a table, not {value!r}")
        return value

    def __str__(self) -> str:
        keys = (key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False) for key in self.path)
        return f"{self.source}: {'.'.join(keys)}" if self.path else f"{self.source}:"


class Source:
    """Reads the same settings as often as asked.

    Args:
        source: A path, a mapping, or an environment: `os.environ`, or a mapping with a key that begins with `PREFIX`.

    Raises:
        TypeError: If it is something else.
    """

    def __init__(self, source: SourceLike) -> None:
        is_path = isinstance(source, (str, os.PathLike))
        check_type("source", source, is_path or isinstance(source, Mapping), "a path or a mapping")
        self._source = given = Path(source) if isinstance(source, (str, os.PathLike)) else source
        is_environment = given is os.environ or (not isinstance(given, Path) and any(map(_is_ours, given)))
        self._is_environment = is_environment
        self.place: Place = Place(
            str(self._source) if is_path else "the environment" if is_environment else "the mapping"
        )

    def read(self) -> Mapping[str, Any]:
        """Return the tree of settings as it is now.

        Raises:
            OSError: If the file can't be read.
            ValueError: If it is no TOML, or variables contradict one another.
        """
        if self._is_environment and not isinstance(self._source, Path):
            return _tree(self.place, self._source)
        if not isinstance(self._source, Path):
            return self._source
        try:
            return tomllib.loads(self._source.read_text("utf-8-sig"))
        except ValueError as error:  # UnicodeDecodeError and TOMLDecodeError, which don't say what file
            raise ValueError(f"{self._source}: {error}") from error
        except RecursionError:
            raise ValueError(f"{self._source}: is nested too deeply") from None


def _tree(place: Place, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree that an environment's variables make."""
    tree: dict[str, Any] = {}
    names: dict[str, str] = {}  # the variables, by what they set
    for name in filter(_is_ours, variables):
        setting = name.removeprefix(PREFIX).lower()
        if setting in names:
            raise place.at(name).wrong(f"can't be given as {names[setting]}, too")
        names[setting] = name
    for setting, name in sorted(names.items()):  # a table's variable before those of its keys
        *path, last = setting.split("__")
        where, table = place, tree
        for key in path:
            where = where.at(key)
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise where.wrong(f"can't be a value and a table at once, as {name} has it")
        where = where.at(last)
        if not all(where.path):
            raise place.at(name).wrong(f"must be {PREFIX} and names with two underscores between them")
        table[last] = _value(variables[name])
    return tree


def _is_ours(key: object) -> bool:
    return isinstance(key, str) and key.startswith(PREFIX)


def _value(text: str) -> Any:
    """Read a variable as a TOML value, else as text."""
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # it's no TOML, or nested too deeply
        return text
    return document["value"] if len(document) == 1 else text
