"""Who calls, and what they may do: keys with their scopes, and guests with the permissions of tables and rows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from booking_resilience.testing.appwrite_server.dialect import ApiError

UNAUTHORIZED = "The current user is not authorized to perform the requested action."
_GUESTS = frozenset({"documents.read", "documents.write", "rows.read", "rows.write"})
_ROLES = ("any", "guests")


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

    def caller(self, headers: Mapping[str, str], project: str, *, is_lenient: bool = False) -> Caller:
        """Return who sent a request.

        Args:
            headers: The request's headers.
            project: The project's ID that it names.
            is_lenient: Whether a key that isn't of the form `standard_…` is as good as none: transactions begin so.

        Raises:
            ApiError: If the project or the key is wrong.
        """
        key = headers.get("x-appwrite-key", "")
        self._check_project(project, key)
        if token := headers.get("x-appwrite-jwt", ""):
            wrong = "Incomplete segments" if token.count(".") != 2 else "Signature failed"
            raise ApiError(401, "user_jwt_invalid", f"Failed to verify JWT. Invalid token: {wrong}")
        if not key or (is_lenient and key not in self.keys and not key.startswith("standard_")):
            self._check_origin(headers.get("origin", ""))
            return Caller(_GUESTS, is_guest=True)
        if key not in self.keys:
            raise ApiError(401, "user_unauthorized", UNAUTHORIZED)
        scopes = self.keys[key]
        if isinstance(scopes, str):
            text = "The project key has expired. Please generate a new key using the Appwrite console."
            raise ApiError(401, "project_key_expired", text)
        return Caller(scopes)

    def _check_project(self, project: str, key: str) -> None:
        if not project and key:
            text = "When using project API key, make sure to pass x-appwrite-project header with your project ID."
            raise ApiError(403, "project_id_missing", text)
        if not project:
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

    @staticmethod
    def _check_origin(origin: str) -> None:
        host = host_of(origin)
        if origin and not is_local(origin):
            where = "as a new Web platform on your project console dashboard"
            text = f"Invalid Origin. Register your new client ({host}) {where}"
            raise ApiError(403, "general_unknown_origin", text)

    def allow(self, caller: Caller, scopes: Sequence[str], host: str) -> None:
        """Let a caller through who has one of the scopes.

        Args:
            caller: Who calls.
            scopes: What they need one of.
            host: The host that the request was sent to, which the error names.

        Raises:
            ApiError: If they have none.
        """
        if caller.scopes is None or not caller.scopes.isdisjoint(scopes):
            return
        raise self.refusal(scopes, caller.is_guest, host)

    def refusal(self, scopes: Sequence[str], is_guest: bool, host: str) -> ApiError:
        """Return the error for a caller without the scopes."""
        service = f"app.{self._project}@service.{host.rpartition(':')[0] or host}"
        who = "User (role: guests)" if is_guest else f"{service} (role: applications)"
        listed = json.dumps(scopes, separators=(",", ":"))
        return ApiError(401, "general_unauthorized_scope", f"{who} missing scopes ({listed})")


def host_of(origin: str) -> str:
    """Return the host of an origin."""
    return re.sub(r"^https?://", "", origin).split(":")[0]


def is_local(origin: str) -> bool:
    """Tell whether an origin is this machine, which every project allows."""
    return host_of(origin) in ("localhost", "127.0.0.1")


def granted(permissions: Sequence[str], action: str) -> bool:
    """Tell whether a guest may do it."""
    wider = () if action == "read" else ("write",)
    return any(f'{name}("{role}")' in permissions for name in (action, *wider) for role in _ROLES)


def not_granted(permissions: Sequence[str], action: str) -> ApiError:
    """Return the error for a guest who may not do it, which says for whom it is."""
    roles = [match[1] for text in permissions if (match := re.fullmatch(rf'{action}\("(.*)"\)', text))]
    if not roles:
        return ApiError(401, "user_unauthorized", f"No permissions provided for action '{action}'")
    asked, given = (json.dumps(list(names), separators=(",", ":")) for names in (_ROLES, roles))
    missing = f'Missing "{action}" permission for role "{roles[-1]}".'
    text = f'{missing} Only "{asked}" scopes are allowed and "{given}" was given.'
    return ApiError(401, "user_unauthorized", text)
