"""Settings as data: what they name, and reloading it while it is in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from booking_resilience.breaker import CircuitBreaker
from booking_resilience.checks import check_type
from booking_resilience.locks import new_lock
from booking_resilience.monitor import ErrorMonitor
from booking_resilience.pipeline import Pipeline
from booking_resilience.settings.parts import SECTIONS, build
from booking_resilience.settings.sources import Place, Source, SourceLike

if TYPE_CHECKING:
    from booking_resilience.load import ConcurrencyLimit, RateLimit
else:
    ConcurrencyLimit = RateLimit = Any  # loaded when there are limits

_DEEPEST = 100  # keys that lead to a table; known ones have four at most


class Settings:
    """Pipelines and their parts, made from a file, a mapping or the environment by `Settings.load`.

    The tables are `[pipelines.NAME]`, `[breakers.NAME]`, `[monitors.NAME]`, `[limits.NAME]` and `[rates.NAME]`; their
    keys are the arguments of `Pipeline`, `CircuitBreaker`, `ErrorMonitor`, `RateLimit`, and of `ConcurrencyLimit` where
    there is a `limit`, else of `AdaptiveLimit`. `retry`, `retry.budget`, `hedge`, `timeout`, `failure_rate` and `alert`
    are tables of their own. A pipeline's `breaker`, `monitor`, `limit` and `rate` are names. "none" stands for None.
    Functions, types and connections are set in code. Safe to share between threads.

    >>> settings = Settings.load({"pipelines": {"appwrite": {"breaker": "db", "retry": {"max_attempts": 5}}},
    ...                           "breakers": {"db": {"cooldown": 10.0}}})
    >>> settings.pipeline("appwrite").retry.max_attempts
    5
    """

    def __init__(self, source: SourceLike) -> None:
        self._source, self._lock = Source(source), new_lock()
        self._objects: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        self._tables: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        self.reload()

    @classmethod
    def load(cls, source: SourceLike) -> Settings:
        """Read settings and make what they name.

        Args:
            source: The path of a TOML file; a mapping like one; or an environment: `os.environ`, or a mapping with a
                key that begins with `BOOKING_RESILIENCE__`. There `BOOKING_RESILIENCE__BREAKERS__DB__COOLDOWN=10` sets
                `breakers.db.cooldown`, values are read as TOML values, else as text, and all other keys are ignored.

        Raises:
            OSError: If the file can't be read.
            TypeError: If the source is neither a path nor a mapping.
            ValueError: If something is unknown or absurd; the text says where.
        """
        return cls(source)

    def pipeline(self, name: str) -> Pipeline:
        """Return the pipeline of that name, always the same object.

        Raises:
            ValueError: If there is none of that name.
        """
        pipeline: Pipeline = self._get("pipelines", name)
        return pipeline

    def breaker(self, name: str) -> CircuitBreaker:
        """Return the breaker of that name, always the same object; `ValueError` if there is none."""
        breaker: CircuitBreaker = self._get("breakers", name)
        return breaker

    def monitor(self, name: str) -> ErrorMonitor:
        """Return the monitor of that name, always the same object; `ValueError` if there is none."""
        monitor: ErrorMonitor = self._get("monitors", name)
        return monitor

    def limit(self, name: str) -> ConcurrencyLimit:
        """Return the limit of that name, always the same object; an `AdaptiveLimit` where its table has no `limit`."""
        limit: ConcurrencyLimit = self._get("limits", name)
        return limit

    def rate(self, name: str) -> RateLimit:
        """Return the rate limit of that name, always the same object; `ValueError` if there is none."""
        rate: RateLimit = self._get("rates", name)
        return rate

    def reload(self) -> None:
        """Read the same source again and have the objects take what it says; all of it, or nothing if it is wrong.

        Objects keep their state, and calls under way end by the settings that they began with. Names that are gone
        keep their objects as they were.

        Raises:
            OSError: If the file can't be read.
            ValueError: If something is unknown or absurd.
        """
        with self._lock:
            place, tree = self._source.place, self._source.place.table(self._source.read())
            for section in tree:
                if section not in SECTIONS:
                    raise place.at(section).unknown(SECTIONS)
            tables = {section: _tables_in(place.at(section), tree.get(section, {})) for section in SECTIONS}
            made: dict[str, dict[str, Any]] = {}
            final: dict[str, dict[str, Any]] = {}  # what pipelines may name: the objects that stay, and new ones
            for section, kind in SECTIONS.items():
                where = place.at(section)
                made[section] = {
                    name: build(kind, where.at(name), table, final) for name, table in tables[section].items()
                }
                final[section] = {name: self._objects[section].get(name, new) for name, new in made[section].items()}
            self._take(made, tables)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(found)} {section}" for section, found in self._objects.items())
        return f"<Settings from {self._source.place.source}: {counts}>"

    def _take(self, made: dict[str, dict[str, Any]], tables: dict[str, dict[str, Any]]) -> None:
        """Put new objects into place, and the settings of the others into the old ones. Nothing in here can fail."""
        for section, found in made.items():
            for name, new in found.items():
                old = self._objects[section].get(name)
                if old is None:
                    continue
                if tables[section][name] != self._tables[section].get(name):
                    old._take_settings(new)
                found[name] = old
            self._objects[section] = {**self._objects[section], **found}
            self._tables[section] = {**self._tables[section], **tables[section]}

    def _get(self, section: str, name: str) -> Any:
        check_type("name", name, isinstance(name, str), "a string")
        found = self._objects[section]
        if name not in found:
            raise self._source.place.at(section).at(name).unknown(found)
        return found[name]


def _tables_in(place: Place, given: object) -> dict[str, Any]:
    """Return a copy of a section's tables by their names."""
    tables: dict[str, Any] = _copied(place, place.table(given))
    for name in tables:
        if not isinstance(name, str):
            raise place.at(name).wrong(f"must be named by a string, not {name!r}")
    return tables


def _copied(place: Place, value: Any) -> Any:
    """Return a copy of a tree, which a caller's mapping may change behind our back.

    Raises:
        ValueError: If it is nested too deeply, or holds itself.
    """
    if not isinstance(value, Mapping):
        return value
    if len(place.path) > _DEEPEST:
        raise ValueError(f"{place.source}: is nested too deeply")
    return {key: _copied(place.at(key), item) for key, item in value.items()}
