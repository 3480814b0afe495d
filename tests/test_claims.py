"""Claims: whatever the order in which they come into the log, all readers agree on who tells what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import AlertRule
from booking_resilience.journal.claims import FORGOTTEN, TAKE_OVER, Claims, Transition

RULE = AlertRule()


def claim(id_: str, after: str, state: str = "firing", at: float = 0.0) -> Transition:
    """Claim a transition."""
    return Transition(id_, after, state, 12.0, 12.0, 0.0, at, RULE)


def test_the_first_claim_in_the_log_wins():
    """Of two claims that follow the same transition the first is the transition."""
    claims = Claims()
    assert claims.read(claim("a", ""))
    assert not claims.read(claim("b", ""))
    assert claims.holder == "a"


def test_a_claim_that_comes_too_late_is_ignored():
    """A claim of the end of one storm does not end the next."""
    claims = Claims()
    for transition in (claim("a", ""), claim("b", "a", "resolved"), claim("c", "b")):
        assert claims.read(transition)
    assert not claims.read(claim("late", "a", "resolved"))
    assert claims.firing is not None


def test_a_reader_that_lacks_the_beginning_follows_all_the_same():
    """Where the log begins with a claim whose predecessor was removed, it counts."""
    claims = Claims()
    assert claims.read(claim("z", "removed"))
    assert claims.read(claim("end", "z", "resolved"))


def test_another_one_tells_when_the_claimer_does_not():
    """The telling can be claimed once its claimer has had its time; the first such claim counts."""
    claims = Claims()
    claims.read(claim("a", "", at=100.0))
    assert not claims.wants_takeover(100.0 + TAKE_OVER - 0.01)
    assert claims.wants_takeover(100.0 + TAKE_OVER)
    assert claims.read_takeover("b", "a", 2, 105.0)
    assert not claims.read_takeover("c", "a", 2, 105.1)
    assert claims.holder == "b"
    assert claims.wants_takeover(105.0 + TAKE_OVER)
    claims.read_told("a")
    assert not claims.wants_takeover(105.0 + TAKE_OVER)


def test_what_nobody_told_in_time_is_told_no_more():
    """A transition that nobody told for a minute is let go."""
    claims = Claims()
    claims.read(claim("a", "", at=100.0))
    assert not claims.wants_takeover(100.0 + FORGOTTEN)


def test_what_is_wanted():
    """The rate calls for a start, repeats by the rule that the storm began with, and an end."""
    claims = Claims()
    assert claims.wanted(is_firing=False, now=0) is None
    assert claims.wanted(is_firing=True, now=0) == "firing"
    claims.read(claim("a", "", at=100.0))
    assert claims.wanted(is_firing=True, now=399) is None
    assert claims.wanted(is_firing=True, now=400) == "repeat"
    assert claims.wanted(is_firing=False, now=101) == "resolved"


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["claim", "read", "tell"])), max_size=200), st.data())
def test_all_readers_agree(steps, data):
    """Starts and ends alternate in the log, and each is held by one reader, however their steps interleave."""
    log: list[Transition | str] = []
    readers, cursors = [Claims() for _ in range(4)], [0] * 4
    told: list[str] = []

    def catch_up(place: int) -> None:
        for item in log[cursors[place] :]:
            if isinstance(item, str):
                readers[place].read_told(item)
            else:
                readers[place].read(item)
        cursors[place] = len(log)

    for place, step in steps:
        reader = readers[place]
        if step == "read":
            catch_up(place)
        elif step == "claim":
            state = "firing" if reader.firing is None else "resolved"
            log.append(claim(f"{len(log)}-{place}", reader.last.id if reader.last else "", state))
        elif reader.holder.endswith(f"-{place}") and not reader.is_told and reader.last.id not in told:
            told.append(reader.last.id)
            log.append(reader.last.id)
    for place in range(4):
        catch_up(place)
    seen = [[change.state for change in reader.transitions] for reader in readers]
    assert seen == [seen[0]] * 4
    assert seen[0] == ["firing", "resolved"] * (len(seen[0]) // 2) + ["firing"] * (len(seen[0]) % 2)
    assert len({reader.holder for reader in readers}) == 1
