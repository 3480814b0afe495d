"""The two vocabularies in which Appwrite speaks of the same things, and its errors."""

from __future__ import annotations

import re
from dataclasses import dataclass

VERSION = "1.9.6"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")
ID_RULE = (
    "Parameter must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, period, hyphen, and underscore. "
    "Can't start with a special char"
)
UID_RULE = (
    "UID must contain at most 36 chars. Valid chars are a-z, A-Z, 0-9, and underscore. "
    "Can't start with a leading underscore"
)


def is_id(text: object) -> bool:
    """Tell whether something can be an ID or a key."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


class ApiError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, type_: str, message: str) -> None:
        super().__init__(message)
        self.status: int = status
        self.type: str = type_
        self.message: str = message

    def body(self) -> dict[str, object]:
        """Return what stands in the answer's body."""
        return {"message": self.message, "code": self.status, "type": self.type, "version": VERSION}


@dataclass(frozen=True, slots=True)
class Dialect:
    """The words of one API.

    Attributes:
        route: The first part of its paths.
        table: What it calls a table, and so on for `column` and `row`.
    """

    route: str
    table: str
    column: str
    row: str

    @property
    def is_tables(self) -> bool:
        """Whether it speaks of tables and rows."""
        return self.row == "row"

    @property
    def namespace(self) -> str:
        """What the SDK's service is called, which some errors name."""
        return "tablesDB" if self.is_tables else "databases"

    def scopes(self, area: str, action: str) -> list[str]:
        """Return the scopes of which a key needs one, for an area: `databases`, `tables` or `rows`."""
        names = {"tables": ["tables", "collections"], "rows": ["rows", "documents"]}.get(area, [area])
        return [f"{name}.{action}" for name in (names if self.is_tables else names[-1:])]

    def keys_unique(self, key: str) -> ApiError:
        """Return the error for a column whose key is taken."""
        what = self.column.capitalize()
        again = f"{what} keys must be unique, try again with a different key."
        return ApiError(
            409, f"{self.column}_already_exists", f"{what} with the requested key '{key}' already exists. {again}"
        )

    def column_error(self, kind: str, message: str, status: int = 400) -> ApiError:
        """Return an error of columns, by the end of its type."""
        return ApiError(status, f"{self.column}_{kind}", message)

    def index_invalid(self, message: str) -> ApiError:
        """Return the error for an index that can't be."""
        return ApiError(400, "column_index_invalid" if self.is_tables else "index_invalid", message)

    def limit_exceeded(self, message: str) -> ApiError:
        """Return the error for a number that would pass its bound."""
        return ApiError(400, f"{self.column}_limit_exceeded", message)

    def newer(self) -> ApiError:
        """Return the error for a change of what somebody else has changed meanwhile."""
        return ApiError(409, f"{self.row}_update_conflict", f"Remote {self.row} is newer than local.")

    def not_found(self, what: str, id_: str) -> ApiError:
        """Return the error for something that is not there."""
        return ApiError(
            404, f"{what}_not_found", f"{what.capitalize()} with the requested ID '{id_}' could not be found."
        )

    def column_not_found(self, key: str) -> ApiError:
        """Return the error for a column that is not there."""
        message = f"{self.column.capitalize()} with the requested key '{key}' could not be found."
        return ApiError(404, f"{self.column}_not_found", message)

    def exists(self, what: str, id_: str) -> ApiError:
        """Return the error for an ID that is taken."""
        start = "A collection" if what == "collection" else what.capitalize()
        again = "Try again with a different ID or use ID.unique() to generate a unique ID."
        return ApiError(409, f"{what}_already_exists", f"{start} with the requested ID '{id_}' already exists. {again}")

    def structure(self, problem: str) -> ApiError:
        """Return the error for data that do not fit the columns."""
        return ApiError(400, f"{self.row}_invalid_structure", problem)

    def missing_data(self) -> ApiError:
        """Return the error for a create without data."""
        end = "" if self.row == "document" else "."
        message = f"The {self.row} data is missing. Try again with {self.row} data populated{end}"
        return ApiError(400, f"{self.row}_missing_data", message)

    def missing_payload(self) -> ApiError:
        """Return the error for an update without data and permissions."""
        provide = f"You must provide either {self.row} data or permissions to be updated."
        message = f"The {self.row} data and permissions are missing. {provide}"
        return ApiError(400, f"{self.row}_missing_payload", message)


DIALECTS = {
    "databases": Dialect("databases", "collection", "attribute", "document"),
    "tablesdb": Dialect("tablesdb", "table", "column", "row"),
}


def argument(name: str, problem: str) -> ApiError:
    """Return the error for a parameter that is wrong."""
    return ApiError(400, "general_argument_invalid", f"Invalid `{name}` param: {problem}")


def not_optional(name: str) -> ApiError:
    """Return the error for a parameter that is missing."""
    return ApiError(400, "general_argument_invalid", f'Param "{name}" is not optional.')


def bad_query(problem: str) -> ApiError:
    """Return the error for a query that is wrong."""
    return ApiError(400, "general_query_invalid", f"Invalid query: {problem}")


def bad_request(problem: str) -> ApiError:
    """Return the error for parameters that don't go together."""
    return ApiError(400, "general_bad_request", problem)
