"""Permissions: their syntax, the roles that there are, and what `write` stands for."""

from __future__ import annotations

from typing import Any

from booking_resilience.testing.appwrite_server.dialect import ID_RULE, is_id

ROW_ACTIONS = ("read", "update", "delete", "write")
TABLE_ACTIONS = ("create", "read", "update", "delete", "write")
_MOST = 100
_VERIFIED = ("verified", "unverified")

# Of each role: whether it has an ID (None: it must not), and which dimensions it may have (None: none; (): any).
_ROLES: dict[str, tuple[bool, tuple[str, ...] | None]] = {
    "any": (False, None),
    "guests": (False, None),
    "users": (False, _VERIFIED),
    "user": (True, _VERIFIED),
    "team": (True, ()),
    "member": (True, None),
    "label": (True, None),
}


def problem(asked: Any, actions: tuple[str, ...] = ROW_ACTIONS) -> str | None:
    """Return what is wrong with permissions, in Appwrite's words; None if nothing is."""
    if not isinstance(asked, list):
        return "Permissions must be an array of strings."
    if len(asked) > _MOST:
        return f"You can only provide up to {_MOST} permissions."
    for text in asked:
        if wrong := _problem_of(text, actions):
            return wrong
    return None


def _problem_of(text: Any, actions: tuple[str, ...]) -> str | None:
    if not isinstance(text, str):
        return "Every permission must be of type string."
    if text == "*":
        return 'Wildcard permission "*" has been replaced. Use "any" instead.'
    if "role:" in text:
        return 'Permissions using the "role:" prefix have been replaced. Use "users", "guests", or "any" instead.'
    if not text.startswith(actions):
        return f'Permission "{text}" is not allowed. Must be one of: {", ".join(actions)}.'
    action, quote, rest = text.partition('("')
    if not quote:
        return f'Invalid permission string format: "{text}".'
    if action not in actions:
        return f'Permission "{text}" is not allowed. Must be one of: {", ".join(actions)}.'
    return _problem_of_role(rest.replace('")', ""))


def _problem_of_role(text: str) -> str | None:
    role, identifier = [*text.split(":"), ""][:2]
    dimension = ""
    if ":" not in text:
        role, _, dimension = text.partition("/")
    elif "/" in identifier:
        identifier, _, dimension = identifier.partition("/")
    if "/" in dimension:
        return "Only one dimension can be provided"
    if ("/" in text and not dimension) or text.endswith("/"):
        return "Dimension must not be empty"
    if role not in _ROLES:
        return f'Role "{role}" is not allowed. Must be one of: {", ".join(_ROLES)}.'
    has_id, dimensions = _ROLES[role]
    if not has_id and identifier:
        return f'Role "{role}" can not have an ID value.'
    if has_id and not identifier:
        return f'Role "{role}" must have an ID value.'
    if identifier and not is_id(identifier):
        return f'Role "{role}" identifier value is invalid: {ID_RULE}'
    if dimension and dimensions is None:
        return f'Role "{role}" can not have a dimension value.'
    if dimension and dimensions and dimension not in dimensions:
        return f'Role "{role}" dimension value is invalid. Must be one of: {", ".join(dimensions)}.'
    if dimension and not is_id(dimension):
        return f'Role "{role}" dimension value is invalid: {ID_RULE}'
    return None


def aggregated(asked: list[str], *, for_table: bool = False) -> list[str]:
    """Return permissions with `write` spread out and without repetitions."""
    spread = ("create", "update", "delete") if for_table else ("update", "delete")
    listed: dict[str, None] = {}
    for text in asked:
        action, _, role = text.partition("(")
        for name in spread if action == "write" else (action,):
            listed[f"{name}({role}"] = None
    return list(listed)
