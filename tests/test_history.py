"""Errors per minute: what `history` says of a monitor."""

from __future__ import annotations

import datetime
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import AlertRule, ErrorMonitor, Severity
from booking_resilience.monitor import AlertTransition
from booking_resilience.monitor.history import MinuteTable
from booking_resilience.testing import virtual_time

MINUTE = datetime.timedelta(minutes=1)


class TestCounts:
    def test_each_record_counts_in_its_own_minute(self):
        """Records are counted in the minute of their timestamp, the running one last."""
        with virtual_time() as clock:
            monitor = ErrorMonitor()
            for number in (2, 0, 3):
                for _ in range(number):
                    monitor.record(ValueError(), operation="op")
                clock.advance(60)
            history = monitor.history(4)
            assert history.by_severity[Severity.ERROR] == (2, 0, 3, 0)
            assert history.by_severity[Severity.INFO] == (0, 0, 0, 0)
            (group,) = monitor.groups()
            assert history.by_group == {group.fingerprint: (2, 0, 3, 0)}

    def test_minutes_are_whole_and_follow_one_another(self):
        """`minutes` has the beginning of each minute, aware UTC, the last one still running."""
        history = ErrorMonitor().history(60)
        assert len(history.minutes) == 60 == len(history.by_severity[Severity.ERROR])
        assert all(
            later - minute == MINUTE for minute, later in zip(history.minutes, history.minutes[1:], strict=False)
        )
        assert all(minute.second == minute.microsecond == 0 for minute in history.minutes)
        assert history.minutes[0].utcoffset() == datetime.timedelta(0)

    def test_records_that_are_no_longer_kept_are_counted(self):
        """The history is of all records, not only of those that the monitor keeps."""
        monitor = ErrorMonitor(capacity=1)
        for _ in range(50):
            monitor.record(ValueError(), operation="op")
        assert sum(monitor.history().by_severity[Severity.ERROR]) == 50

    def test_one_group_may_have_several_severities(self):
        """A group's counts are those of all its severities together."""
        monitor = ErrorMonitor()
        monitor.record(ValueError(), operation="op")
        monitor.record(ValueError(), operation="op", severity="critical")
        history = monitor.history(2)
        assert [sum(counts) for counts in history.by_group.values()] == [2]
        assert sum(history.by_severity[Severity.CRITICAL]) == 1

    def test_the_200_groups_last_seen_are_told_apart(self):
        """Of more groups the others count by severity only."""
        monitor = ErrorMonitor()
        for number in range(250):
            monitor.record(ValueError(), operation=f"op{number}")
        history = monitor.history(2)
        assert sum(history.by_severity[Severity.ERROR]) == 250
        kept = {group.fingerprint for group in monitor.groups(200)}
        assert set(history.by_group) == kept

    def test_what_is_a_day_old_is_forgotten(self):
        """Counts go back 24 hours."""
        with virtual_time() as clock:
            monitor = ErrorMonitor()
            monitor.record(ValueError(), operation="op")
            clock.advance(1439 * 60)
            assert sum(monitor.history(1440).by_severity[Severity.ERROR]) == 1
            clock.advance(60)
            assert sum(monitor.history(1440).by_severity[Severity.ERROR]) == 0
            assert monitor.history(1440).by_group == {}

    def test_clear_forgets_it(self):
        """After `clear` there is no history."""
        monitor = ErrorMonitor()
        monitor.record(ValueError(), operation="op")
        monitor.clear()
        assert sum(monitor.history().by_severity[Severity.ERROR]) == 0

    @pytest.mark.parametrize("minutes", [0, -1, 1441, 1.5])
    def test_minutes_out_of_range(self, minutes):
        """`minutes` must be a whole number from 1 to 1440."""
        with pytest.raises(ValueError, match="minutes"):
            ErrorMonitor().history(minutes)

    @pytest.mark.parametrize("minutes", ["60", None, True])
    def test_minutes_of_the_wrong_type(self, minutes):
        """Something that is no number is a TypeError."""
        with pytest.raises(TypeError, match="minutes"):
            ErrorMonitor().history(minutes)

    @given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from(Severity), st.integers(0, 1500)), max_size=300))
    def test_any_order_gives_the_same_counts(self, events):
        """Whatever the order of groups, severities and minutes, each record is counted once, in its minute."""
        table = MinuteTable()
        for group, severity, minute in events:
            table.add(f"{group}", severity, minute * 60.0 + 30)
        history = table.read(1500 * 60.0, 1440, [])
        for severity in Severity:
            wanted = [0] * 1440
            for _, other, minute in events:
                if other is severity and minute > 60:
                    wanted[minute - 61] += 1
            assert history.by_severity[severity] == tuple(wanted)


class TestTransitions:
    def test_they_are_told_with_their_moment(self):
        """Each start and end of the alert is there, with the moment when it was noticed."""
        with virtual_time() as clock:
            monitor = ErrorMonitor(alert=AlertRule(threshold=1, keep_firing=0))
            for _ in range(2):
                monitor.record(ValueError(), operation="op")
            clock.advance(300)
            monitor.stats()
            first, second = monitor.history().alerts
            assert (first.state, second.state) == ("firing", "resolved")
            assert second.at - first.at == 5 * MINUTE
            assert first.since == second.since == first.at
            assert isinstance(first, AlertTransition)
            assert monitor.history(2).alerts == (second,)
            assert pickle.loads(pickle.dumps(first)) == first

    def test_asking_notices_what_the_alert_has_become(self):
        """The history itself sees that the alert is over."""
        with virtual_time() as clock:
            monitor = ErrorMonitor(alert=AlertRule(threshold=0, keep_firing=0))
            monitor.record(ValueError(), operation="op")
            clock.advance(300)
            assert [change.state for change in monitor.history().alerts] == ["firing", "resolved"]


class TestSource:
    def test_a_record_knows_its_host_and_process(self):
        """`host` and `pid` are attributes, and no fields of an export."""
        record = ErrorMonitor().record(ValueError(), operation="op")
        assert record.pid == os.getpid()
        assert record.host
        assert not {"host", "pid"} & set(record.to_dict())
        copy = pickle.loads(pickle.dumps(record))
        assert (copy.host, copy.pid) == (record.host, record.pid)
