"""Moments as PHP reads them: ISO 8601, RFC 2822, Unix seconds, English. Overflowing days and seconds roll over."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from booking_resilience import clock

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ZONES = {"z": 0, "utc": 0, "gmt": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8,
          "pdt": -7, "cet": 1, "cest": 2, "bst": 1, "eet": 2, "eest": 3, "wet": 0, "west": 1, "msk": 3}  # fmt: skip
_UNITS = {"sec": "seconds", "second": "seconds", "min": "minutes", "minute": "minutes", "hour": "hours",
          "day": "days", "weekday": "days", "week": "weeks", "fortnight": "fortnights", "month": "months",
          "year": "years"}  # fmt: skip
_COUNTS = {"last": -1, "previous": -1, "this": 0, "next": 1}


@dataclass(slots=True)
class _Reading:
    """What has been read so far.

    Attributes:
        date: Year, month and day; today's where one is None.
        year: The year, if it stands apart from the date.
        time: Hours, minutes, seconds and microseconds.
        has_time: Whether the time was written, and not just set to midnight by a word.
    """

    date: tuple[int | None, int | None, int | None] | None = None
    year: int | None = None
    time: tuple[int, int, int, int] | None = None
    has_time: bool = False
    zone: datetime.tzinfo | None = None
    moment: float | None = None
    days_of_month: str = ""
    weekday: tuple[int, int] | None = None
    shift: dict[str, int] = field(default_factory=dict)

    def set_date(self, year: int | None, month: int | None, day: int | None) -> None:
        """Take a date; PHP takes one only."""
        if self.date is not None:
            raise ValueError("two dates")
        self.date = year, month, day


def _month(text: str) -> int:
    return _MONTHS.index(text[:3]) + 1 if text.isalpha() else int(text)


def _year(text: str) -> int:
    year = int(text)
    return year if len(text) > 2 else year + (2000 if year < 70 else 1900)


def _set_date(reading: _Reading, match: re.Match[str]) -> None:
    parts = match.groupdict()
    year = _year(parts["y"]) if parts.get("y") else None
    month = _month(parts["mon"]) if parts.get("mon") else None
    day = int(parts["d"]) if parts.get("d") else None
    reading.set_date(year, month, 1 if day is None and year is not None else day)


def _set_day_of_year(reading: _Reading, match: re.Match[str]) -> None:
    reading.set_date(int(match["y"]), 1, int(match["day"]))


def _set_week(reading: _Reading, match: re.Match[str]) -> None:
    first = datetime.date.fromisocalendar(int(match["y"]), 1, 1)
    day = first + datetime.timedelta(weeks=int(match["w"]) - 1, days=int(match["wd"] or 1) - 1)
    reading.set_date(day.year, day.month, day.day)


def _set_time(reading: _Reading, match: re.Match[str]) -> None:
    if reading.has_time:
        raise ValueError("two times")
    parts = match.groupdict()
    hour, minute, second = (int(parts.get(name) or 0) for name in "hms")
    if half := parts.get("half"):
        hour = hour % 12 + 12 * (half == "p")
    reading.time, reading.has_time = (hour, minute, second, int((parts.get("f") or "0").ljust(6, "0")[:6])), True


def _set_date_and_time(reading: _Reading, match: re.Match[str]) -> None:
    _set_date(reading, match)
    _set_time(reading, match)


def _set_four_digits(reading: _Reading, match: re.Match[str]) -> None:
    """Take four digits for a time of day, and behind a time for a year."""
    if reading.has_time or int(match[0][:2]) > 24 or int(match[0][2:]) > 59:
        reading.year = int(match[0])
    else:
        reading.time, reading.has_time = (int(match[0][:2]), int(match[0][2:]), 0, 0), True


def _set_zone(reading: _Reading, match: re.Match[str]) -> None:
    offset = datetime.timedelta(hours=int(match["zh"]), minutes=int(match["zm"] or 0))
    zone = datetime.timezone(-offset if match["sign"] == "-" else offset)
    reading.zone = reading.zone or zone  # PHP warns of a second one, and goes on with the first


def _set_named_zone(reading: _Reading, match: re.Match[str]) -> None:
    name = match[0].strip("()")
    if name in _ZONES:
        zone: datetime.tzinfo = datetime.timezone(datetime.timedelta(hours=_ZONES[name]))
    else:
        try:
            zone = ZoneInfo("/".join(part.title() for part in name.split("/")))
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no such zone: {name}") from None
    reading.zone = reading.zone or zone


def _set_word(reading: _Reading, match: re.Match[str]) -> None:
    word = match[0]
    if word != "now":
        reading.time, reading.has_time = (12 if word == "noon" else 0, 0, 0, 0), word == "noon"
        reading.shift["days"] = reading.shift.get("days", 0) + {"tomorrow": 1, "yesterday": -1}.get(word, 0)


def _set_shift(reading: _Reading, match: re.Match[str]) -> None:
    parts = match.groupdict()
    which, signs = parts.get("which"), parts.get("signs") or ""
    count = _COUNTS[which] if which else int(parts["count"]) * (-1) ** signs.count("-")
    unit = _UNITS[parts["unit"]]
    if unit == "fortnights":
        count, unit = 2 * count, "weeks"
    reading.shift[unit] = reading.shift.get(unit, 0) + count


def _turn_back(reading: _Reading, _: re.Match[str]) -> None:
    reading.shift = {unit: -count for unit, count in reading.shift.items()}


def _set_weekday(reading: _Reading, match: re.Match[str]) -> None:
    reading.weekday = _WEEKDAYS.index(match["day"][:3]), _COUNTS[match["which"] or "this"]
    reading.time, reading.has_time = (0, 0, 0, 0), False


def _set_ends(reading: _Reading, match: re.Match[str]) -> None:
    reading.days_of_month = match["end"]


def _set_moment(reading: _Reading, match: re.Match[str]) -> None:
    reading.moment = float(match[0][1:])


def _refuse(_: _Reading, match: re.Match[str]) -> None:
    raise ValueError(f"no year of four digits: {match[0]}")


def _pass_over(_: _Reading, __: re.Match[str]) -> None:
    """Nothing is set by what stands between."""


# What may stand in a text: of the patterns that fit the one that takes most counts, of equal ones the first. A number
# is written `<name>`, or `<name2>` where it must have two digits.
_PIECES = {
    "y": r"(?P<y>\d{1,4})", "y2": r"(?P<y>\d\d)", "y4": r"(?P<y>\d{4})",
    "m": r"(?P<mon>1[0-2]|0?\d)", "m2": r"(?P<mon>0\d|1[0-2])",
    "d": r"(?P<d>3[01]|[0-2]?\d)", "d2": r"(?P<d>[0-2]\d|3[01])",
    "month": rf"(?P<mon>january|february|march|april|may|june|july|august|september|october|november|december|sept|"
             rf"{'|'.join(_MONTHS)})",
    "h": r"(?P<h>2[0-4]|[01]?\d)", "h2": r"(?P<h>[01]\d|2[0-4])", "h12": r"(?P<h>1[0-2]|0?[1-9])",
    "i": r"(?P<m>[0-5]?\d)", "i2": r"(?P<m>[0-5]\d)", "s": r"(?P<s>60|[0-5]?\d)", "s2": r"(?P<s>60|[0-5]\d)",
    "half": r"[ \t]*(?P<half>[ap])\.?m\.?(?!\w)",
    "weekday": rf"(?P<day>monday|tuesday|wednesday|thursday|friday|saturday|sunday|{'|'.join(_WEEKDAYS)})",
    "which": rf"(?P<which>{'|'.join(_COUNTS)})", "unit": rf"(?P<unit>{'|'.join(_UNITS)})s?\b",
}  # fmt: skip
_TIMES = ("<h>[:.]<i>", r"<h>[:.]<i>[:.]<s>(?:\.(?P<f>\d+))?", "<h12>[:.]<i2><half>", "<h12>[:.]<i>[:.]<s2><half>")
_NO_YEAR = r"<month>[ .\t-]*<d>[,.stndrh\t ]*"
_FORMS: tuple[tuple[str, Callable[[_Reading, re.Match[str]], None]], ...] = (
    (r"[ .,\t\n]", _pass_over),
    (r"@-?\d{1,15}(\.\d{0,6})?", _set_moment),
    (r"now|today|midnight|noon|tomorrow|yesterday", _set_word),
    (r"(?:<which>[ \t]+)?<weekday>", _set_weekday),
    (r"(?P<end>first|last) day of", _set_ends),
    (r"(?P<signs>[+-]*)[ \t]*(?P<count>\d{1,12})[ \t]*<unit>", _set_shift),
    (r"<which>[ \t]+<unit>", _set_shift),
    (r"ago", _turn_back),
    *((f"t?{time}", _set_time) for time in _TIMES),
    (r"<h12><half>", _set_time),
    (r"t<h>", _set_time),
    (r"t<h2><i2>", _set_time),
    (r"t?<h2><i2><s2>", _set_time),
    (r"\d{4}", _set_four_digits),
    (r"\+?<y4>-<m2>-<d2>", _set_date),
    (r"(?:-\d{4}|[+-]\d{5,})-\d\d-\d\d", _refuse),
    (r"<y2>-<m2>-<d2>", _set_date),
    (r"<y>-<m>-<d>", _set_date),
    (r"<y4>-<m>", _set_date),
    (r"<y4>/<m>/<d>", _set_date),
    (r"<m>/<d>(?:/<y>)?", _set_date),
    (r"<d>[.\t-]<m>[.-]<y4>", _set_date),
    (r"<d>[.\t]<m>\.<y2>", _set_date),
    (r"<d>(?:st|nd|rd|th)?[ \t.-]*<month>(?:[ \t.-]*<y>)?", _set_date),
    (r"<month>(?:[ .\t-]*<y4>)?", _set_date),
    (r"<y4>[ .\t-]*<month>", _set_date),
    (r"<month>[ .\t-]*<d>[,.stndrh\t ]+<y>", _set_date),
    (r"<month>-<d2>-<y>", _set_date),
    (r"<y>-<month>-<d2>", _set_date),
    (_NO_YEAR, _set_date),
    *((_NO_YEAR + time, _set_date_and_time) for time in _TIMES),
    (r"<y4><m2><d2>", _set_date),
    (r"<y4><m2><d2>t?<h2><i2><s2>", _set_date_and_time),
    (r"<y4>:<m2>:<d2> <h2>:<i2>:<s2>", _set_date_and_time),
    (r"<d>/<month>/<y4>:<h2>:<i2>:<s2>", _set_date_and_time),
    (r"<y4>[.-]?(?P<day>00[1-9]|0[1-9]\d|[12]\d\d|3[0-5]\d|36[0-6])", _set_day_of_year),
    (r"<y4>-?w(?P<w>0[1-9]|[1-4]\d|5[0-3])(-?(?P<wd>[0-7]))?", _set_week),
    (r"(?:gmt|utc)?(?P<sign>[+-])(?P<zh>2[0-4]|[01]?\d)(?::?(?P<zm>[0-5]\d))?", _set_zone),
    (r"\(?[a-z]{1,6}\)?", _set_named_zone),
    (r"[a-z]+(?:[_/-][a-z]+)+", _set_named_zone),
)
_USUAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_PARTS = [
    (re.compile(re.sub(r"<(\w+)>", lambda name: _PIECES.get(name[1], name[0]), form), re.ASCII), take)
    for form, take in _FORMS
]


def parse(text: str) -> datetime.datetime:
    """Return the moment that a text names, in UTC; UTC where it names no zone; now for an empty one.

    Raises:
        ValueError: If PHP wouldn't understand it, or it lies outside of the years 1 to 9999.
    """
    if _USUAL.fullmatch(text):
        with contextlib.suppress(ValueError):  # of days and seconds that roll over
            return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    reading, rest = _Reading(), text.strip().lower()
    while rest:
        found = [(match, take) for pattern, take in _PARTS if (match := pattern.match(rest))]
        if not found:
            raise ValueError(f"not a date: {text!r}")
        match, take = max(found, key=lambda one: one[0].end())  # the first of the longest
        take(reading, match)
        rest = rest[match.end() :]
    try:
        return _moment(reading)
    except OverflowError:
        raise ValueError(f"beyond the calendar: {text!r}") from None


def _moment(reading: _Reading) -> datetime.datetime:
    now = clock.utc_now()
    if reading.moment is not None:
        start = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        return start + datetime.timedelta(seconds=reading.moment)
    zone = reading.zone or datetime.UTC
    year, month, day = reading.date or (None, None, None)
    year = reading.year if reading.year is not None else now.year if year is None else year
    month, day = now.month if month is None else month, now.day if day is None else day
    if reading.time is not None:
        hour, minute, second, micro = reading.time
    elif reading.date is not None:
        hour, minute, second, micro = 0, 0, 0, 0
    else:
        hour, minute, second, micro = now.hour, now.minute, now.second, now.microsecond
    shift = dict(reading.shift)
    months = month - 1 + shift.pop("months", 0) + 12 * shift.pop("years", 0)
    if reading.days_of_month:
        day = 1 if reading.days_of_month == "first" else 0
        months += reading.days_of_month == "last"
    moment = datetime.datetime(year + months // 12, months % 12 + 1, 1, tzinfo=zone)
    moment += datetime.timedelta(days=day - 1, hours=hour, minutes=minute, seconds=second, microseconds=micro)
    moment += datetime.timedelta(**shift)
    if reading.weekday is not None:
        wanted, which = reading.weekday
        ahead = (wanted - moment.weekday()) % 7
        if which > 0 and ahead == 0:
            ahead = 7
        moment += datetime.timedelta(days=ahead - 7 if which < 0 else ahead)
    return moment.astimezone(datetime.UTC)


def timestamp(moment: datetime.datetime) -> str:
    """Return a moment as Appwrite writes it: UTC, milliseconds."""
    utc = moment.astimezone(datetime.UTC)
    return utc.strftime(f"{utc.year:04d}-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}+00:00"


def now() -> str:
    """Return this moment as Appwrite writes it."""
    return timestamp(clock.utc_now())


def stored(text: str) -> str:
    """Return a moment in any form as Appwrite writes it."""
    return timestamp(parse(text))
