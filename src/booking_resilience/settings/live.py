"""A pipeline that can take new settings while it is in use."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from booking_resilience.awaitables import gives_coroutines, within
from booking_resilience.parts import Role
from booking_resilience.pipeline import Pipeline

P = ParamSpec("P")
R = TypeVar("R")

_CACHES = ("_drivers", "_drivers_async")


class LivePipeline(Pipeline):
    """A pipeline of `Settings`."""

    __slots__ = ()

    def protect(self, operation: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Do the same as `Pipeline.protect`; each call uses the settings in force."""
        self._plan_of(operation)  # which checks the name

        def decorate(fn: Callable[..., Any]) -> Callable[..., Any]:
            if gives_coroutines(fn, "Pipeline.protect"):

                async def protected_async(*args: Any, **kwargs: Any) -> Any:
                    return await self.call_async(operation, fn, *args, **kwargs)

                return functools.update_wrapper(protected_async, fn)

            def protected(*args: Any, **kwargs: Any) -> Any:
                return self.call(operation, fn, *args, **kwargs)

            return functools.update_wrapper(protected, fn)

        return cast("Callable[[Callable[P, R]], Callable[P, R]]", functools.partial(within, decorate))

    def _take_settings(self, other: Pipeline) -> None:
        """Go on as the other pipeline, which is used for nothing else.

        What it doesn't only name stays, and takes its settings, too: a budget, a hedge, a timeout.
        Calls under way end by the old settings.
        """
        budget, new_budget = self.retry.budget, other.retry.budget
        if budget is not None and new_budget is not None:
            budget._take_settings(new_budget)
            retry = dataclasses.replace(other.retry, budget=budget)
            other._plan = dataclasses.replace(other._plan, policy=retry)
        kept: tuple[Role, ...] = ("hedge", "timeout")
        for role in kept:
            part, new_part = self.part(role), other.part(role)
            if part is not None and new_part is not None:
                part._take_settings(new_part)
                other._parts[role] = part
        parts = [name for name in Pipeline.__slots__ if name not in _CACHES]
        for name in (*parts, *_CACHES):  # in this order: nothing is kept in the new caches that old parts made
            setattr(self, name, getattr(other, name))
