"""Tell card numbers from other digits, and find them among these."""

from __future__ import annotations

import re
from collections.abc import Iterator

GAPS = r" \t\xa0\u2007\u2009\u202f\u2010-\u2015\u2212-"
"""What may stand between the digits of a number."""
DIGITS = rf"[0-9](?:(?:[{GAPS}]{{0,3}}|\+)[0-9]){{11,}}"
"""A run of digits that may hold card numbers; in a form that was sent a space is a plus."""
_ISSUERS = re.compile(  # by prefix and length, as ISO/IEC 7812 and the issuers' own pages have them
    r"(?:4\d{12}(?:\d{3}){0,2}"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d|62\d\d|35(?:2[89]|[3-8]\d)|220[0-4])\d{12,15}"  # Discover, UnionPay, JCB, Mir
    r"|3(?:0[0-59]|[689]\d)\d{11,16}"  # Diners Club
    r"|(?:60|81|82|508)\d{13,14}(?<=\d{16})"  # RuPay
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15})"  # Maestro
)
_DOUBLED = str.maketrans("0123456789", "0246813579")  # and the digits of the product added up


def cards_in(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the card numbers of a run of digits are; each begins and ends where a number does."""
    places = [place for place in range(begin, end) if text[place].isdigit()]
    digits = "".join(text[place] for place in places)
    bounds = [0, *(at for at in range(1, len(places)) if places[at] - places[at - 1] > 1), len(places)]
    if begin > 1 and text[begin - 1] == "." and text[begin - 2].isdigit():
        del bounds[0]  # the decimals of a number are no card
    ends, done = set(bounds), 0
    for first in bounds:
        can_begin = first >= done and _ISSUERS.match(digits, first)
        for last in range(first + 19, first + 11, -1) if can_begin else ():
            if last in ends and is_card(digits[first:last]):
                yield places[first], places[last - 1] + 1
                done = last
                break


def is_card(digits: str) -> bool:
    """Tell whether digits are a card's number: an issuer's, and they pass Luhn's check (ISO/IEC 7812-1)."""
    if _ISSUERS.fullmatch(digits) is None:
        return False
    values = (digits[-1::-2] + digits[-2::-2].translate(_DOUBLED)).encode()  # int() of each digit is slow
    return (sum(values) - len(digits) * ord("0")) % 10 == 0
