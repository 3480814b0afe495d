"""The SDK's classes that ours derive from, with the types that the SDK does not give.

Type checkers see what stands here, so that applications may chain the setters under strict settings; the program has
the SDK's own classes. What stands here derives from them, so that the SDK's services take our clients.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Self

__all__ = ["AppwriteException", "Client", "plain_method"]

if TYPE_CHECKING:
    from appwrite.client import Client as _Client
    from appwrite.exception import AppwriteException as _AppwriteException

    class AppwriteException(_AppwriteException):
        """A failure of a call, as the SDK raises it."""

        message: str
        code: int
        type: str | None
        response: str | None

        def __init__(
            self, message: str, code: int = 0, type: str | None = None, response: str | None = None
        ) -> None: ...

    class Client(_Client):
        """The SDK's client: where Appwrite is, and who calls."""

        def __init__(self) -> None: ...

        _endpoint: str
        _global_headers: dict[str, str]
        _self_signed: bool

        def set_endpoint(self, endpoint: str) -> Self: ...
        def set_project(self, value: str) -> Self: ...
        def set_key(self, value: str) -> Self: ...
        def set_jwt(self, value: str) -> Self: ...
        def set_session(self, value: str) -> Self: ...
        def set_locale(self, value: str) -> Self: ...
        def set_forwarded_user_agent(self, value: str) -> Self: ...
        def set_self_signed(self, status: bool = True) -> Self: ...
        def add_header(self, key: str, value: str) -> Self: ...
        def get_headers(self) -> dict[str, str]: ...
        def get_config(self, key: str) -> str: ...
        def flatten(self, data: Any, prefix: str = "", stringify: bool = False) -> dict[str, Any]: ...
        def call(
            self,
            method: str,
            path: str = "",
            headers: Mapping[str, str] | None = None,
            params: Mapping[str, Any] | None = None,
            response_type: str = "json",
        ) -> Any: ...

else:
    from appwrite.client import Client
    from appwrite.exception import AppwriteException


def plain_method(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a service; of a deprecated one, what it wraps.

    The SDK's decorator changes the warning filters of the whole process at each call.
    """
    decorator = getattr(getattr(method, "__func__", None), "__globals__", {}).get("__name__")
    wrapped = getattr(method, "__wrapped__", None)
    if decorator == "appwrite.utils.deprecated" and wrapped is not None:
        return functools.partial(wrapped, getattr(method, "__self__", None))
    return method
