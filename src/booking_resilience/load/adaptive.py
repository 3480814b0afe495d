"""A concurrency limit that finds its own number, from the latencies and refusals of the backend."""

from __future__ import annotations

import copy
import enum
import math

from booking_resilience import clock
from booking_resilience.checks import check, check_whole, is_a, leaves
from booking_resilience.cutoff import timeout_behind
from booking_resilience.deadlines import get_node, in_force
from booking_resilience.errors import DeadlineExceededError
from booking_resilience.load.concurrency import MOST, ConcurrencyLimit
from booking_resilience.load.places import Place
from booking_resilience.verdicts import classify, is_no_evidence, is_own_refusal, is_timeout

_WEIGHT = 0.05  # of the newest answer in the mean latency: about the last forty count
_ENOUGH = 20  # answers, before which all count alike in the mean
_FIRST = 5  # answers whose mean is the first best: a single one may be quick by chance
_OUTLIER = 7.0  # an answer counts as at most so many means above the mean: one that stalled tells of itself alone
_TOLERANCE = 2.0  # how many times the best mean latency, and the deviation, make the bound of the present mean
_EACH = 2e-5  # seconds after an answer in which others don't count: who answers so many says the same with each
_PATIENCE = 32  # round trips that the limit stays one below the number of calls that was too many the last time
_SLACK = 4.0  # calls that may wait in the backend beyond that: a few do so by chance
_FORGETTING = 3600.0  # seconds in which the best mean latency may grow e-fold: ten minutes of trouble change little
_FORGET_EACH = 1.0  # seconds, if there was an answer: a quiet night forgets nothing
_LEAST = 1e-9  # seconds that each answer takes at least: there is no mean of 0
_CUT = 0.5  # what is left of the limit after a refusal or a timeout
_AHEAD = 0.01  # seconds before the deadline in which a timeout is the deadline's: clients may end calls a bit earlier
_BEHIND = 0.25  # and after it: a client may have begun its last wait a bit later, but not much


class Sign(enum.Enum):
    """What the end of a call says."""

    ANSWER = enum.auto()
    OVERLOAD = enum.auto()
    NOTHING = enum.auto()


def sign_of(error: BaseException) -> Sign:
    """Return what an error says of the backend's load.

    Overload is a request to slow down (429 and its kin), a 503 and a timeout, the attempt's own cut-off among them. A
    group is overload if any of its leaves is, and an answer if all are.
    """
    signs = {_sign_of(leaf) for leaf in leaves(timeout_behind(error, at_deadline=False))}
    if Sign.OVERLOAD in signs:
        return Sign.OVERLOAD
    return Sign.ANSWER if signs == {Sign.ANSWER} else Sign.NOTHING


def _sign_of(error: BaseException) -> Sign:
    if is_own_refusal(error) or is_a(error, DeadlineExceededError):  # interrupts, too
        return Sign.NOTHING
    verdict = classify(error)
    is_timed_out = verdict.sent != "yes" and verdict.transient and is_timeout(error)
    if is_timed_out or verdict.type == "DEADLINE_EXCEEDED":  # gRPC's, also if its pushback says that no retry helps
        return Sign.NOTHING if _is_at_deadline() else Sign.OVERLOAD
    if verdict.type == "RESOURCE_EXHAUSTED":
        return Sign.OVERLOAD
    if verdict.sent == "yes":
        is_overload = verdict.status == 503 or (verdict.transient and is_no_evidence(error))
        return Sign.OVERLOAD if is_overload else Sign.ANSWER
    return Sign.NOTHING


def _is_at_deadline() -> bool:
    """Tell whether the operation's deadline comes just now, which cuts the timeouts of clients short."""
    node = in_force(get_node())
    return node is not None and not node[3] and -_BEHIND <= node[1] - clock.monotonic() <= _AHEAD


class Gradient:
    """How the limit follows the backend. Pure: times come in as arguments.

    The mean latency is set against the best mean so far: above `_TOLERANCE` times of it and of the usual deviation,
    the limit falls with the ratio. Otherwise it grows, as long as at least half of it is used: by its square root
    within a round trip, and twofold below the threshold, which is what the last cut left of a limit that got answers.
    So a limit that a stall has cut again and again is soon back, and a new one finds its level soon. Below the ceiling,
    from which that cut was made, it rests: for a backend that answers few calls within their timeout, each trial of
    too many wastes a good part of its work.

    The best mean after Netflix's concurrency limits (their "gradient2"), but hardly moved by a long incident; slack as
    in TCP Vegas; deviation, slow start and threshold as in TCP (RFC 6298, RFC 5681).

    Two threads may tell it of their answers at once, without a lock: then one answer is lost, of many.

    Attributes:
        limit: The limit, a float from `minimum` to `maximum`.
        newest: When the newest answer came.
    """

    __slots__ = ("_answers", "_before_cut", "_best", "_ceiling", "_deviation", "_forgot", "_mean", "_threshold",
                 "limit", "maximum", "minimum", "newest")  # fmt: skip

    def __init__(self, initial: int, minimum: int, maximum: int) -> None:
        self.limit: float = float(initial)
        self.minimum: int = minimum
        self.maximum: int = maximum
        self._mean = self._deviation = self._best = 0.0  # seconds
        self._answers = self._before_cut = 0
        self.newest: float = -math.inf
        self._forgot = -math.inf
        self._threshold = 0.0  # below it the limit grows fast
        self._ceiling = 0  # so many calls were too many when the limit was cut

    def within(self, minimum: int, maximum: int) -> Gradient:
        """Return one that goes on from here within other bounds."""
        other = copy.copy(self)
        other.minimum, other.maximum = minimum, maximum
        other.limit = min(max(self.limit, minimum), maximum)
        return other

    def answered(self, latency: float, in_flight: int, now: float) -> None:
        """Take an answer that came after `latency` seconds, while so many calls were in flight."""
        self.newest = now
        mean, best = self._mean, self._best
        self._answers = answers = self._answers + 1
        weight = _WEIGHT if answers > _ENOUGH else 1.0 / answers
        off = latency + _LEAST - mean
        if off > _OUTLIER * mean and answers > 1:
            off = _OUTLIER * mean
        self._mean = mean = mean + weight * off
        self._deviation = deviation = self._deviation + weight * ((off if off > 0.0 else -off) - self._deviation)
        if not 0.0 <= now - self._forgot < _FORGET_EACH:  # a virtual clock that ended may have been ahead
            self._forgot = now
            self._best = best = best * (1.0 + _FORGET_EACH / _FORGETTING)
        if mean < best or answers <= _FIRST:
            self._best = best = mean
        bound = _TOLERANCE * (best + deviation)
        limit = self.limit  # a round trip has as many answers
        if mean > bound:
            self._threshold = min(self._threshold, limit)
            step = max(_CUT, bound / mean) - 1.0 + min(1.0, _SLACK / limit)
        else:
            step = 1.0 if limit < self._threshold else limit**-0.5
        if step > 0.0:
            if in_flight * 2 < limit:
                return
            if self._ceiling - 1 <= limit < self._ceiling:
                step = 1.0 / (_PATIENCE * limit)
        self.limit = min(max(limit + step, self.minimum), self.maximum)

    def overloaded(self) -> None:
        """Take the refusal or the timeout of a call that was begun after the last one: it cuts."""
        before, self.limit = self.limit, max(self.limit * _CUT, self.minimum)
        if self._answers > self._before_cut:  # else it is the same trouble still
            self._ceiling, self._threshold, self._before_cut = int(before), self.limit, self._answers


class AdaptiveLimit(ConcurrencyLimit):
    """A `ConcurrencyLimit` that adapts: it falls when latencies rise or calls are rejected, and grows when all is well.

    Use one for each kind of call: it compares latencies, and slow reports among quick reads look like trouble. Answers
    are its samples, errors with a status below 500 included. A 429, a 503, `RESOURCE_EXHAUSTED` and a timeout halve it,
    at most once per round trip. Everything else says nothing: mistakes, cancellations, connections that fail, refusals
    of this library and the end of the operation's deadline.

    Args:
        name: Its name, in errors and snapshots.
        initial: The limit at first; `minimum` to `maximum`.
        minimum: It never falls below; 1 or more.
        maximum: It never grows above; from `minimum` to 1,000,000.
        max_queue: Callers that may wait; 0 or more, 0 rejects at once.
        max_wait: Seconds that each may wait, 0 or more; None for as long as its deadline lets it, or as it takes.

    Raises:
        TypeError: If a setting has the wrong type.
        ValueError: If a setting is out of its range, or `max_wait` is given without `max_queue`.

    >>> AdaptiveLimit("backend").snapshot().limit
    20
    """

    def __init__(
        self,
        name: str,
        *,
        initial: int = 20,
        minimum: int = 1,
        maximum: int = 1000,
        max_queue: int = 0,
        max_wait: float | None = None,
    ) -> None:
        check_whole("minimum", minimum)
        check_whole("maximum", maximum)
        allowed = f"a whole number from minimum ({minimum}) to {MOST:,}"
        check("maximum", maximum, minimum <= maximum <= MOST, allowed)
        check_whole("initial", initial)
        bounds = f"a whole number from minimum ({minimum}) to maximum ({maximum})"
        check("initial", initial, minimum <= initial <= maximum, bounds)
        self._gradient = Gradient(initial, minimum, maximum)
        super().__init__(name, limit=initial, max_queue=max_queue, max_wait=max_wait)

    _learns = True

    def _learn(self, place: Place, seconds: float, now: float, error: BaseException | None) -> None:
        gradient: Gradient = self._gradient
        if (error is None and 0.0 < now - gradient.newest < _EACH) or seconds < 0.0:
            return  # it says nothing new, or the call began by a virtual clock that ended
        if error is None or (sign := sign_of(error)) is Sign.ANSWER:
            gradient.answered(seconds, self._places - len(self._free), now)
        elif sign is Sign.OVERLOAD:
            with self._lock:
                if place.cuts == self._cuts:  # once in a round trip: it was begun after the last cut
                    self._cuts += 1
                    gradient.overloaded()
        if not 0.0 <= gradient.limit - self._limit < 1.0:
            with self._lock:
                if gradient is self._gradient and isinstance(self, AdaptiveLimit):  # no new settings came meanwhile
                    self._resize(int(gradient.limit))
