"""Find the numbers of payment cards in runs of digits."""

from __future__ import annotations

import re

REDACTED = "<redacted>"
_ISSUERS = re.compile(  # by prefix and length, as ISO/IEC 7812 and the issuers' own pages have them
    r"(?:4\d{12}(?:\d{3}){0,2}"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|(?:6011|64[4-9]\d|65\d\d|62\d\d|35(?:2[89]|[3-8]\d)|220[0-4])\d{12,15}"  # Discover, UnionPay, JCB, Mir
    r"|3(?:0[0-59]|[689]\d)\d{11,16}"  # Diners Club
    r"|(?:60|81|82|508)\d{13,14}(?<=\d{16})"  # RuPay
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15})\Z"  # Maestro
)
_FIRST_DIGITS = "234568"


def without_cards(text: str, *, is_fraction: bool = False) -> str:
    """Return a run of digits without the card numbers in it: 12 to 19 digits of an issuer's that pass Luhn's check.

    Args:
        text: Digits, with gaps between them.
        is_fraction: Whether the first of them are the decimals of a number, which no card begins with.
    """
    places = [place for place, letter in enumerate(text) if letter.isdigit()]
    digits = "".join(text[place] for place in places)
    sums = ([0], [0])  # of all digits so far, those at even places doubled, and those at odd ones
    for place, digit in enumerate(map(int, digits)):
        for parity, added in enumerate(sums):
            added.append(added[-1] + (digit if place % 2 != parity else digit * 2 - 9 * (digit > 4)))
    kept, begin, end = [], 0, 0
    while begin < len(places):
        can_begin = places[begin] - places[begin - 1] > 1 if begin else not is_fraction
        size = _card_size(digits, places, sums, begin) if can_begin and digits[begin] in _FIRST_DIGITS else 0
        if size:
            kept += [text[end : places[begin]], REDACTED]
            end = places[begin + size - 1] + 1
        begin += size or 1
    return "".join([*kept, text[end:]])


def _card_size(digits: str, places: list[int], sums: tuple[list[int], list[int]], begin: int) -> int:
    """Return how many digits from `begin` on are a card: they end where a number ends, add up, and are an issuer's."""
    for end in range(min(begin + 19, len(places)), begin + 11, -1):
        added = sums[end % 2]  # the last digit is not doubled, the one before it is (ISO/IEC 7812-1)
        adds_up = (added[end] - added[begin]) % 10 == 0
        if adds_up and (end == len(places) or places[end] - places[end - 1] > 1) and _ISSUERS.match(digits[begin:end]):
            return end - begin
    return 0
