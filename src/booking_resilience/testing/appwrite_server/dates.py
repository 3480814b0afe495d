"""Moments as PHP reads them: ISO 8601, RFC 2822, Unix seconds, English. Overflowing days and seconds roll over."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from booking_resilience import clock

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONG_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_ZONES = {"z": 0, "utc": 0, "gmt": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5, "mst": -7, "mdt": -6, "pst": -8,
          "pdt": -7, "cet": 1, "cest": 2, "bst": 1, "eet": 2, "eest": 3, "wet": 0, "west": 1, "msk": 3}  # fmt: skip
_UNITS = {"sec": "seconds", "second": "seconds", "min": "minutes", "minute": "minutes", "hour": "hours",
          "day": "days", "weekday": "days", "week": "weeks", "fortnight": "fortnights", "month": "months",
          "year": "years"}  # fmt: skip
_COUNTS = {"last": -1, "previous": -1, "this": 0, "next": 1}
_WHICH, _UNIT = "|".join(_COUNTS), "|".join(_UNITS)
_MONTH = "|".join((*_LONG_MONTHS, *_MONTHS, "sept"))
_DAY = "|".join((*_WEEKDAYS, *(day[:3] for day in _WEEKDAYS), "tues", "wednes", "thur", "thurs"))


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    date: tuple[int, int, int] | None = None
    time: tuple[int, int, int, int] | None = None  # the last are microseconds
    zone: datetime.tzinfo | None = None
    moment: float | None = None
    days_of_month: str = ""
    weekday: tuple[int, int] | None = None
    shift: dict[str, int] = field(default_factory=dict)


def _date(year: str | int, month: str | int, day: str | int) -> tuple[int, int, int]:
    numbers = int(year), int(month), int(day)
    if not (0 <= numbers[0] <= 9999 and 0 <= numbers[1] <= 12 and 0 <= numbers[2] <= 31):
        raise ValueError(f"no such date: {numbers}")
    return numbers


def _month(name: str) -> int:
    return _MONTHS.index(name[:3]) + 1


def _set_time(reading: _Reading, match: re.Match[str]) -> None:
    hour, minute, second = int(match["h"]), int(match["m"] or 0), int(match["s"] or 0)
    if half := match["half"]:
        if not 1 <= hour <= 12:
            raise ValueError("no such hour")
        hour = hour % 12 + 12 * half.startswith("p")
    if hour > 24 or minute > 59 or second > 60:
        raise ValueError("no such time")
    reading.time = hour, minute, second, int((match["f"] or "0").ljust(6, "0")[:6])


def _set_zone(reading: _Reading, match: re.Match[str]) -> None:
    hours, minutes = int(match["zh"]), int(match["zm"] or 0)
    if hours > 14 or minutes > 59:
        raise ValueError("no such zone")
    offset = datetime.timedelta(hours=hours, minutes=minutes)
    reading.zone = datetime.timezone(-offset if match["sign"] == "-" else offset)


def _set_named_zone(reading: _Reading, match: re.Match[str]) -> None:
    name = match[0].strip("() ")
    if name in _ZONES:
        reading.zone = datetime.timezone(datetime.timedelta(hours=_ZONES[name]))
        return
    try:
        reading.zone = ZoneInfo("/".join(part.title() for part in name.split("/")))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no such zone: {name}") from None


def _set_week(reading: _Reading, match: re.Match[str]) -> None:
    first = datetime.date.fromisocalendar(int(match["y"]), 1, 1)
    day = first + datetime.timedelta(weeks=int(match["w"]) - 1, days=int(match["d"] or 1) - 1)
    reading.date = day.year, day.month, day.day


def _set_word(reading: _Reading, match: re.Match[str]) -> None:
    word = match[0]
    if word == "noon":
        reading.time = 12, 0, 0, 0
    elif word != "now":
        reading.time = 0, 0, 0, 0
        reading.shift["days"] = reading.shift.get("days", 0) + {"tomorrow": 1, "yesterday": -1}.get(word, 0)


def _set_shift(reading: _Reading, match: re.Match[str]) -> None:
    count = _COUNTS[match["which"]] if match["which"] else int(match["count"].replace(" ", ""))
    if match["which"] is None and len(match["count"]) > 12:
        raise ValueError("too far")
    unit = _UNITS[match["unit"]]
    if unit == "fortnights":
        count, unit = 2 * count, "weeks"
    reading.shift[unit] = reading.shift.get(unit, 0) + (-count if match["ago"] else count)


def _set_weekday(reading: _Reading, match: re.Match[str]) -> None:
    number = [day[:3] for day in _WEEKDAYS].index(match["day"][:3])
    reading.weekday = number, _COUNTS.get(match["which"] or "this", 0)
    if reading.time is None and reading.date is None:
        reading.time = 0, 0, 0, 0


def _set_ends(reading: _Reading, match: re.Match[str]) -> None:
    reading.days_of_month = match["end"]


def _set_moment(reading: _Reading, match: re.Match[str]) -> None:
    reading.moment = float(match[0][1:])


def _dated() -> Callable[[_Reading, re.Match[str]], None]:
    def take(reading: _Reading, match: re.Match[str]) -> None:
        month = match["mon"]
        year = match["y"] or clock.utc_now().year
        reading.date = _date(year, _month(month) if month[0].isalpha() else month, match["d"] or 1)

    return take


# What may stand in a text, longest first; each pattern with what it sets.
_PARTS: list[tuple[re.Pattern[str], Callable[[_Reading, re.Match[str]], None]]] = [
    (re.compile(pattern), take)
    for pattern, take in (
        (r"@-?\d{1,15}(\.\d{1,6})?", _set_moment),
        (r"(?P<y>\d{4})-?w(?P<w>\d\d)(-?(?P<d>[0-7]))?", _set_week),
        (r"(?P<y>\d{4})-(?P<mon>\d{1,2})-(?P<d>\d{1,2})(?=t\d|\D|$)", _dated()),
        (r"(?P<y>\d{4})/(?P<mon>\d{1,2})/(?P<d>\d{1,2})(?!\d)", _dated()),
        (r"(?P<mon>\d{1,2})/(?P<d>\d{1,2})/(?P<y>\d{4})(?!\d)", _dated()),
        (r"(?P<d>\d{1,2})[.-](?P<mon>\d{1,2})[.-](?P<y>\d{4})(?!\d)", _dated()),
        (r"(?P<y>\d{4})(?P<mon>\d\d)(?P<d>\d\d)(?=t|\D|$)", _dated()),
        (r"(?P<y>\d{4})-(?P<mon>\d\d)(?P<d>)(?!\d)", _dated()),
        (rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[ .\t-]*(?P<mon>{_MONTH})[ .,\t-]*(?P<y>\d{{4}})(?![\d:])", _dated()),
        (rf"(?P<mon>{_MONTH})[ .\t-]*(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[ .,\t]+(?P<y>\d{{4}})(?![\d:])", _dated()),
        (rf"(?P<mon>{_MONTH})[ .,\t-]*(?P<y>\d{{4}})(?P<d>)(?![\d:])", _dated()),
        (rf"(?P<mon>{_MONTH})[ .\t-]*(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?P<y>)(?![\d:])", _dated()),
        (rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[ .\t-]*(?P<mon>{_MONTH})(?P<y>)\b", _dated()),
        (
            r"t?(?P<h>\d{1,2}):(?P<m>\d\d)(:(?P<s>\d\d)([.,](?P<f>\d+))?)?(\s*(?P<half>[ap]\.?m\.?)\b)?(?!\d|:)",
            _set_time,
        ),
        (r"t(?P<h>\d\d)(?P<m>\d\d)(?P<s>\d\d)([.,](?P<f>\d+))?(?P<half>)(?!\d)", _set_time),
        (r"(?P<h>\d{1,2})(?P<m>)(?P<s>)(?P<f>)\s*(?P<half>[ap]\.?m\.?)(?!\w)", _set_time),
        (r"t?(?P<h>[01]\d|2[0-4])(?P<m>[0-5]\d)(?P<s>)(?P<f>)(?P<half>)(?!\d)", _set_time),
        (r"(?P<end>first|last) day of", _set_ends),
        (rf"(?:(?P<count>[+-]*\s*\d+)|(?P<which>{_WHICH}))\s*(?P<unit>{_UNIT})s?\b(?P<ago>\s+ago)?", _set_shift),
        (r"(?:gmt|utc)?(?P<sign>[+-])(?P<zh>\d{1,2}):?(?P<zm>\d\d)?(?!\d)", _set_zone),
        (rf"(?:(?P<which>{_WHICH})\s+)?(?P<day>{_DAY})\b\.?", _set_weekday),
        (r"now\b|today\b|midnight\b|noon\b|tomorrow\b|yesterday\b", _set_word),
        (r"\(?[a-z]{1,5}\)?(?![a-z/])|[a-z_]+(?:/[a-z_]+)+", _set_named_zone),
    )
]


def parse(text: str) -> datetime.datetime:
    """Return the moment that a text names, in UTC; UTC where it names no zone; now for an empty one.

    Raises:
        ValueError: If PHP wouldn't understand it, or it lies outside of the years 1 to 9999.
    """
    reading, rest = _Reading(), text.strip().lower()
    while rest:
        for pattern, take in _PARTS:
            match = pattern.match(rest)
            if match and match[0]:
                take(reading, match)
                rest = rest[match.end() :].lstrip(" \t,")
                break
        else:
            raise ValueError(f"not a date: {text!r}")
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
    local = now.astimezone(zone)
    year, month, day = reading.date or (local.year, local.month, local.day)
    if reading.time is not None:
        hour, minute, second, micro = reading.time
    elif reading.date is not None or reading.weekday is not None:
        hour, minute, second, micro = 0, 0, 0, 0
    else:
        hour, minute, second, micro = local.hour, local.minute, local.second, local.microsecond
    shift = dict(reading.shift)
    months = month - 1 + shift.pop("months", 0) + 12 * shift.pop("years", 0)
    if reading.days_of_month:
        day = 1 if reading.days_of_month == "first" else 0
        months += reading.days_of_month == "last"
    moment = datetime.datetime(year + months // 12, months % 12 + 1, 1, tzinfo=zone)
    moment += datetime.timedelta(days=day - 1, hours=hour, minutes=minute, seconds=second, microseconds=micro)
    moment += datetime.timedelta(**shift)
    if reading.weekday is not None and reading.date is None:
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
