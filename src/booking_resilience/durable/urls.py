"""Which databases there may be: a SQLite file, or PostgreSQL."""

from __future__ import annotations

from typing import Any

from booking_resilience.checks import check_text

_ALLOWED = "'sqlite:///FILE' or 'postgresql://HOST/DATABASE'"


def check_database(database: object) -> None:
    """Check a database's URL as far as that goes without SQLAlchemy.

    Raises:
        TypeError: If it isn't a string.
        ValueError: If it names neither a SQLite file nor PostgreSQL.
    """
    check_text("database", database)
    assert isinstance(database, str)
    scheme, _, rest = database.partition("://")
    is_file = scheme == "sqlite" and rest.startswith("/") and rest.partition("?")[0] not in ("/", "/:memory:")
    if not is_file and not (scheme.partition("+")[0] in ("postgresql", "postgres") and rest):
        raise ValueError(f"database must be {_ALLOWED}, not {_shown(database)}")


def url_of(database: str) -> Any:
    """Return SQLAlchemy's URL of a database; PostgreSQL is reached by psycopg."""
    import sqlalchemy as sa

    if database.startswith("postgres://"):
        database = f"postgresql{database.removeprefix('postgres')}"
    url = sa.make_url(database)
    return url if url.get_backend_name() == "sqlite" else url.set(drivername="postgresql+psycopg")


def _shown(database: str) -> str:
    """Return the URL without its password."""
    scheme, _, rest = database.partition("://")
    return repr(f"{scheme}://{rest.rpartition('@')[2]}")
