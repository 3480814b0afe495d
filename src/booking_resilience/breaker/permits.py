"""What a caller of a circuit breaker holds: the permit of one call, and the guard of a block."""

from __future__ import annotations

import functools
import weakref
from types import TracebackType
from typing import NoReturn

from booking_resilience import clock
from booking_resilience.breaker.core import Core, logger
from booking_resilience.breaker.states import CLOSED, Acquire, Settle, Trial, Verdict
from booking_resilience.callbacks import matches
from booking_resilience.checks import check_type, is_a
from booking_resilience.cutoff import timeout_behind
from booking_resilience.errors import CircuitOpenError
from booking_resilience.events import log_raised
from booking_resilience.verdicts import is_no_evidence, is_own_refusal

SUCCESS, FAILURE, IGNORED, NOTHING = Verdict


class Permit:
    """The permission to make one call, to be settled once; settling it again does nothing.

    One that is dropped unsettled says nothing of the backend, and comes back by itself.

    Attributes:
        epoch: The breaker's epoch in which it was admitted; below 0 before.
        started: When it asked to be admitted, in monotonic seconds.
    """

    __slots__ = ("__weakref__", "_claims", "_core", "_trial", "epoch", "started")

    def __init__(self, core: Core, epoch: int, started: float = 0.0) -> None:
        self.epoch: int = epoch
        self.started: float = started
        self._core = core
        self._trial: Trial | None = None
        self._claims: dict[str, object] = {}  # who settles it: whoever claims it first

    @property
    def settled(self) -> bool:
        """Whether it has been settled."""
        return bool(self._claims)

    def success(self) -> None:
        """The call succeeded; if it took longer than the breaker's `slow_call`, that is a failure."""
        self._judge(None)

    def failure(self, error: BaseException | None = None) -> None:
        """Report that the call failed; the breaker's `ignore` and `failure_on` judge the `error`, if there is one.

        Raises:
            TypeError: If the error isn't an exception.
        """
        allowed = "an exception that was raised, or None"
        check_type("error", error, error is None or is_a(error, BaseException), allowed)
        if error is None:
            self._settle(FAILURE, clock.monotonic())
        else:
            self._judge(error)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Permit can't be copied or pickled: it stands for one call, and is settled once")

    def release(self) -> None:
        """The call says nothing of the backend: it was cancelled, or never made."""
        self._settle(NOTHING, clock.monotonic())

    def _judge(self, error: BaseException | None) -> None:
        core, now = self._core, clock.monotonic()
        limit = core.machine.slow_call
        try:
            verdict, cause = judge(core, error, slow=limit is not None and now - self.started > limit)
        except BaseException:  # a filter's exit, or an interrupt
            self.release()
            raise
        self._settle(verdict, now, cause)

    def _settle(self, verdict: Verdict, now: float, cause: str | None = None) -> None:
        core, claim = self._core, object()
        try:
            if self._claims.setdefault("settles", claim) is not claim:
                return
            change = core.change(Settle(self.epoch, self._trial, verdict, cause), now)
        except BaseException:  # an interrupt; a trial that is still under way may be settled again
            if self._trial is not None and self._claims.get("settles") is claim:
                self._claims.clear()
            raise
        core.spread(change)


class Guard:
    """A block that goes through a breaker; made by `CircuitBreaker.guard`, good for one block at a time."""

    __slots__ = ("_core", "_permits")

    def __init__(self, core: Core) -> None:
        self._core = core
        self._permits: list[Permit] = []

    def __enter__(self) -> Permit:
        permit = admitted(self._core, self._core.knock())
        self._permits.append(permit)
        return permit

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        permit = self._permits.pop()
        if error is None:
            permit.success()
        else:
            permit.failure(error)

    async def __aenter__(self) -> Permit:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)


def admitted(core: Core, asked: float) -> Permit:
    """Return an admitted permit for a call that knocked at that time.

    Raises:
        CircuitOpenError: If the breaker refuses.
    """
    permit = Permit(core, -1, asked)
    state = core.state
    if state.kind is CLOSED:
        permit.epoch = state.epoch
        core.calm_down()
        return permit
    try:
        permit._trial = Trial(asked, weakref.ref(permit))
        change = core.change(Acquire(permit._trial), asked)
        if change.counts is None:
            permit.epoch = change.after.epoch
        core.spread(change)
    except BaseException:  # an interrupt, or a listener's exit
        permit.release()
        raise
    if change.counts is not None and not core.is_shadow:
        raise CircuitOpenError(core.name, core.machine.retry_after(change.after, asked), change.after.cause)
    return permit


@functools.wraps(is_no_evidence)
def says_nothing(error: BaseException) -> bool:
    """Be the default of `ignore`: another object than `is_no_evidence`, so that it shows whether one was given."""
    return is_no_evidence(error)


def judge(core: Core, error: BaseException | None, *, slow: bool) -> tuple[Verdict, str | None]:
    """Tell what the end of a call says, and the cause if it's a failure; filters and texts may be user code.

    Cancellation, interrupts and exits say nothing, nor do our own refusals. A filter that raises is logged; the error
    counts as a failure then, and still comes out.
    """
    if error is None:
        return FAILURE if slow else SUCCESS, None
    error = timeout_behind(error)
    try:
        if is_own_refusal(error):
            return NOTHING, None
        if matches(core.ignore, error, unknown=False, logger=logger):
            return IGNORED, None
        is_failure = slow or matches(core.failure_on, error, unknown=True, logger=logger)
    except Exception as raised:  # noqa: BLE001 - a filter's error must not become the caller's
        log_raised(logger, raised, "a filter raised on %s", type(error).__qualname__)
        is_failure = True
    return (FAILURE, text_of(error)) if is_failure else (SUCCESS, None)


def text_of(error: BaseException) -> str:
    """Return the error's text, 200 characters at most; its type's name if it has none, or none that can be had."""
    try:
        return str(error)[:200] or type(error).__name__
    except Exception:  # noqa: BLE001 - a broken __str__ must not hide the error
        return type(error).__name__
