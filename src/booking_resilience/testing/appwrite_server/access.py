"""Who calls, and what they may do: keys with their scopes, and guests with the permissions of tables and rows."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from booking_resilience.testing.appwrite_server.dialect import ApiError

if TYPE_CHECKING:
    from booking_resilience.testing.appwrite_server.exchange import Request

UNAUTHORIZED = "The current user is not authorized to perform the requested action."
_GUESTS = frozenset({"documents.read", "documents.write", "rows.read", "rows.write"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a key with its scopes (None for all), or a guest."""

    scopes: frozenset[str] | None
    is_guest: bool = False


class Access:
    """The project's keys.

    Args:
        project: The project's ID.
        key: The key that may do everything.

    Attributes:
        keys: The scopes of each key; None for all, a text if it has expired.
    """

    def __init__(self, project: str, key: str) -> None:
        self._project = project
        self.keys: dict[str, frozenset[str] | str | None] = {key: None}

    def caller(self, request: Request) -> Caller:
        """Return who sent the request.

        Raises:
            ApiError: If the project or the key is wrong.
        """
        project, key = request.headers.get("x-appwrite-project", ""), request.headers.get("x-appwrite-key", "")
        if not project:
            if key:
                text = "When using project API key, make sure to pass x-appwrite-project header with your project ID."
                raise ApiError(403, "project_id_missing", text)
            text = (
                "No Appwrite project was specified. Please specify your project ID when initializing your Appwrite SDK."
            )
            raise ApiError(401, "general_access_forbidden", text)
        if project == "console":
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        if project != self._project:
            text = (
                "Project with the requested ID could not be found. Please check the value of the X-Appwrite-Project "
                "header to ensure the correct project ID is being used."
            )
            raise ApiError(404, "project_not_found", text)
        if not key:
            origin = request.headers.get("origin", "")
            host = re.sub(r"^https?://", "", origin).split(":")[0]
            if origin and host not in ("localhost", "127.0.0.1"):
                where = "as a new Web platform on your project console dashboard"
                text = f"Invalid Origin. Register your new client ({host}) {where}"
                raise ApiError(403, "general_unknown_origin", text)
            return Caller(_GUESTS, is_guest=True)
        if key not in self.keys:
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        scopes = self.keys[key]
        if isinstance(scopes, str):
            text = "The project key has expired. Please generate a new key using the Appwrite console."
            raise ApiError(401, "project_key_expired", text)
        return Caller(scopes)

    def allow(self, request: Request, *scopes: str) -> Caller:
        """Return who sent the request, if they have one of the scopes.

        Raises:
            ApiError: If not.
        """
        caller = self.caller(request)
        if caller.scopes is None or not caller.scopes.isdisjoint(scopes):
            return caller
        who = (
            "User (role: guests)" if caller.is_guest else f"app.{self._project}@service.127.0.0.1 (role: applications)"
        )
        listed = json.dumps(scopes, separators=(",", ":"))
        raise ApiError(401, "general_unauthorized_scope", f"{who} missing scopes ({listed})")


def granted(permissions: list[str], action: str) -> bool:
    """Tell whether a guest may do it."""
    wider = () if action == "read" else ("write",)
    return any(f'{name}("{role}")' in permissions for name in (action, *wider) for role in ("any", "guests"))
