"""A pipeline that can take new settings while it is in use."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from booking_resilience.awaitables import gives_coroutines, within
from booking_resilience.pipeline import Pipeline

P = ParamSpec("P")
R = TypeVar("R")

_CACHES = ("_drivers", "_drivers_async")


class LivePipeline(Pipeline):
    """A pipeline of `Settings`."""

    __slots__ = ()

    def protect(self, operation: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Do as `Pipeline.protect`; each call goes by the settings of its time."""
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
        """Go on as the other pipeline, which is used for nothing else; a budget stays, and takes its settings, too.

        Calls under way end by the old settings.
        """
        budget, new_budget = self.retry.budget, other.retry.budget
        if budget is not None and new_budget is not None:
            budget._take_settings(new_budget)
            retry = dataclasses.replace(other.retry, budget=budget)
            other._retry, other._plan = retry, dataclasses.replace(other._plan, policy=retry)
        parts = [name for name in Pipeline.__slots__ if name not in _CACHES]
        for name in (*parts, *_CACHES):  # in this order: nothing is kept in the new caches that old parts made
            setattr(self, name, getattr(other, name))
