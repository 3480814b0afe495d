"""The two vocabularies in which Appwrite speaks of the same things, and its errors."""

from __future__ import annotations

from dataclasses import dataclass

VERSION = "1.9.6"


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
    def row_scopes(self) -> tuple[str, ...]:
        """What a key's scopes for rows are called, without `.read` or `.write`."""
        return ("documents",) if self.row == "document" else ("rows", "documents")

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
        return ApiError(400, f"{self.row}_invalid_structure", f"Invalid document structure: {problem}")

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
