"""Where a batch's items come from: an iterator, or an asynchronous one, drawn from one by one.

A generator is closed when the batch ends; any other iterator is its owner's, who may go on drawing from it.
"""

from __future__ import annotations

import inspect
from typing import Any

from booking_resilience.checks import check_type

END: Any = object()
"""What drawing gives when there is nothing left."""

_traceback = BaseException.__dict__["__traceback__"].__get__  # past a class that overrides it


class Source:
    """Draws the items; what their iterator raises is kept, to come out after the outcomes of those drawn before it.

    Args:
        items: The iterable.
        may_wait: Whether it may be an asynchronous one.

    Attributes:
        is_async: Whether the items come asynchronously.
        is_open: Whether there may be more.

    Raises:
        TypeError: If the items can't be iterated over.
    """

    def __init__(self, items: Any, *, may_wait: bool = False) -> None:
        self.is_async: bool = may_wait and hasattr(type(items), "__aiter__")
        fits = self.is_async or any(hasattr(type(items), name) for name in ("__iter__", "__getitem__"))
        check_type("items", items, fits, "an iterable or an asynchronous one" if may_wait else "an iterable")
        self._items: Any = (aiter if self.is_async else iter)(items)
        self.is_open: bool = True
        self._error: Exception | None = None

    def draw(self) -> Any:
        """Return the next item, or `END`."""
        try:
            return next(self._items)
        except StopIteration:
            self.is_open = False
        except Exception as error:  # noqa: BLE001 - it comes out at the end
            self._broke(error)
        return END

    async def draw_async(self) -> Any:
        """Do the same as `draw` with an asynchronous iterator."""
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            self.is_open = False
        except Exception as error:  # noqa: BLE001 - it comes out at the end
            self._broke(error)
        return END

    def finish(self) -> None:
        """Raise what broke off the items, if anything did."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    def close(self) -> None:
        """Close the items if they are a generator."""
        self.is_open, items, self._items = False, self._items, ()
        if inspect.isgenerator(items):
            items.close()

    async def aclose(self) -> None:
        """Close the items if they are a generator or an asynchronous one."""
        items = self._items
        self.close()
        if inspect.isasyncgen(items):
            await items.aclose()

    def _broke(self, error: Exception) -> None:
        self.is_open, self._error = False, error
        if (tb := _traceback(error)) is not None:
            # Without the frame that drew, which leads back here; past a `__setattr__` that refuses.
            BaseException.with_traceback(error, tb.tb_next)
