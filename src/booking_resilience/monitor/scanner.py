"""Find secrets in a text: one pass from left to right, in time linear in the text.

At each place the scanner first looks for a credential that is known by its own form, then for a key with its
separator. Of a sensitive key the whole value goes: quoted, in balanced brackets, or up to where it ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from booking_resilience.monitor.keys import ALWAYS, NEVER, UNLESS_PLAIN

REDACTED = "<redacted>"

# Every pattern is linear: none can begin at many places of one run of letters unless it is bounded, and where one
# repeats, what follows cannot be a part of it.
_CODE = r"(?:4[1-9A-Fa-f]|5[0-9ABDFabdf]|6[1-9A-Fa-f]|7[0-9Aa]|2[DdEe])"  # of a letter, percent-encoded
_LETTER = rf"(?:[\w.\[\]-]|%(?:25)?{_CODE})"
_GAPS = r" \t\xa0\u2007\u2009\u202f\u2010-\u2015\u2212-"  # what may stand between the digits of a card's number
_START = r"(?!(?<=%)[0-9A-Fa-f]{2})(?:(?<![\w.\[\]\\-])|(?<=\\[nrt])|(?<=\\)(?![nrt]))"  # of a key, not in an escape
_CREDENTIALS = "|".join(
    (
        r"(?:(?<=://)|(?<=:\\/\\/))[^\s/?#\"'<>]+(?=@)",  # userinfo of a URL, up to the last @ of its host part
        r"(?<=://)[^\s/@:\"'<>]{0,256}:(?!\d{1,5}[/?#])[^\s@\"'<>]{1,256}+(?=@)",  # with a bad password
        r"(?<=%3[Aa]%2[Ff]%2[Ff])(?:[^\s/?#\"'<>&%]|%(?!2[Ff]|40)){1,512}(?=%40|@)",
        r"(?<![\w-])eyJ[\w-]+\.[\w-]+(?:\.[\w-]*){0,3}",  # a JSON Web Token
        r"(?<![A-Za-z0-9])(?:standard|ephemeral|dynamic)_[0-9A-Fa-f]{16,}\w*",  # Appwrite's keys and sessions
        r"a_session_[\w.-]+(?:=[^\s;,]*)?",
        r"(?<![A-Za-z0-9])(?:(?:sk|rk)_(?:live|test)|whsec)_\w{10,}",  # Stripe
        r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS
        r"(?<![A-Za-z0-9])(?:gh[pousr]|github_pat)_\w{20,}",  # GitHub
        r"(?<![\w-])(?:AIza[\w-]{35,}|ya29\.[\w.-]{10,}|GOCSPX-[\w-]{20,})",  # Google
    )
)
_CREDENTIAL = re.compile(_CREDENTIALS)
_PLACE = re.compile(
    rf"(?P<credential>{_CREDENTIALS})|(?P<pem>-----BEGIN [A-Z0-9 ]{{1,40}}-----)"
    r"|(?<![A-Za-z])(?P<scheme>[Bb](?i:earer(?=\s)|asic(?=[\s:=])))"
    rf"|(?P<digits>[0-9](?:[{_GAPS}]{{0,3}}[0-9]){{11,}})"
    rf"|{_START}(?:(?P<before>{_LETTER}{{1,64}})[ ])?(?P<key>{_LETTER}+)"
    r"(?P<close>\\{0,7}[\"']|\\u002[27]|%(?:25)?2[27])?\s{0,8}(?P<separator>=>|:=|=(?!=)|:(?!//|:)|%(?:25)?3[ADad])"
    rf"|(?<=%[0-9A-Fa-f]{{2}})(?<!%{_CODE})(?!(?<=%25){_CODE})(?P<inner>{_LETTER}{{1,128}})(?:%(?:25)?2[27])?(?P<escaped>%(?:25)?3[ADad])"
    rf"|[\[(]\s{{0,4}}[bu]?(?P<open>\\{{0,7}}[\"'])(?P<pair>{_LETTER}{{1,128}})(?P=open)\s{{0,4}},"
    r"|(?<![\w-])--(?P<option>[A-Za-z][\w.-]*)[ \t](?=[^\s-])"
)
SUSPECT = re.compile(  # each branch begins with a letter of its own, which makes the search quick
    r"=|:|_(?=\w{10}|(?<=session_)[\w.-])|%(?:25)?3[ADad]|\"\s{0,4},|'\s{0,4},|-----B|--[A-Za-z]|J(?<=eyJ)|A(?:KIA|SIA|Iza)|y(?=a29\.)|G(?=OCSPX-)|"
    r"b(?:[Ee][Aa][Rr]|[Aa][Ss][Ii])|B(?:[Ee][Aa][Rr]|[Aa][Ss][Ii])|"
    + "|".join(rf"{digit}[0-9{_GAPS}]{{11}}" for digit in range(10))
)
"""Finds something in every text in which `clean` would."""

_SCHEME = re.compile(
    r"(?i:bearer|basic|digest|negotiate|ntlm|token|api-?key|hawk|oauth|dpop|jwt|aws4-hmac-sha256|scram-sha-\d+)\Z"
)
_PROSE = r"(?!(?i:tokens?|auth\w*|of|is|was|scheme|credentials?|not|missing|required|realm|format|header|error|and)\b)"
_AFTER_BEARER = re.compile(rf"(?:[\s:=]{{1,8}}(?i:bearer))*[\s:=]{{1,8}}[\"']?{_PROSE}(?P<token>[^\s\"',;<>)}}\]\\]+)")
_AFTER_BASIC = re.compile(r"[\s:=]{1,8}[\"']?(?P<token>(?=[a-z]*[A-Z0-9+/=_-])[\w+/=-]{8,})")
_OPENING = re.compile(
    r"[bBuUrR]{0,2}(?P<quote>\\{0,7}(?:\"\"\"|\'\'\'|[\"']))|[\w.]{0,64}(?P<bracket>[(\[{])|(?P<escape>%(?:25)?2[27]|\\u002[27])|(?P<angle><)"
)
_QUOTED = {
    '"': re.compile(r'[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL),
    "'": re.compile(r"[^'\\]*(?:\\.[^'\\]*)*(?:'|\\?\Z)", re.DOTALL),
}
_BRACKET = re.compile(r"[()\[\]{}\"']")
_WORD = re.compile(  # a bare value; a comma, semicolon or ampersand ends it only where something else begins
    r"(?:[^\s,;&\"'<>)\]}\\]|\\(?![nrt\"']|u002[27])|[)\]}\"'<>](?=\w)|&(?![\w.%\[\]-]{1,64}=|\s|\Z)"
    r"|[,;](?![\s,;\"')\]}]|\\[\"'u]|\Z|[\w.\[\]-]{1,64}\s?[=:])"
    r"|(?<=\b[A-Z]{2}\d\d)(?: [A-Z\d]{4}){2,7}(?: [A-Z\d]{1,3}\b)?)+"  # an IBAN as it is printed
)
_ESCAPED_WORD = re.compile(r"(?:[^&\s\"'<>%]|%(?!(?:25)?26))+")
_PARAMETER = r"\s{0,8}[\w-]{1,64}=(?:\"[^\"]*\"?|[^\s,]+)"
_PARAMETERS, _FIRST_PARAMETERS = re.compile(rf"(?:,{_PARAMETER})+"), re.compile(rf" {_PARAMETER}(?:,{_PARAMETER})*")
_REST_OF_HEAD = re.compile(r"(?:[^\r\n\"'\\]|(?<==)\"[^\"\r\n]*\"?|'(?=\w)|\\(?![rn\"']))*")
_HEAD = re.compile(r"(?i:cookies?|auth|authorization|signature)\Z")
_PLAIN = re.compile(r"(?i:-?\d+(?:\.\d+)?|true|false|none|null)\Z")
_SPACE = re.compile(r"\s{0,8}")
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
_FRACTION = re.compile(r"[0-9][.]\Z")
_SHOWN = 64  # characters, of which pydantic shows about fifty
_LOCATION = re.compile(r"\s?[(\[]([^()\[\]]{1,256})")
_SAME_LINE = re.compile(r"[ \t]{0,8}")


def clean(text: str, sensitivity: Callable[[str], int]) -> str:
    """Return the text with a marker in the place of each secret.

    Args:
        text: Any text.
        sensitivity: Tells of a key whether its value is redacted: `NEVER`, `ALWAYS` or `UNLESS_PLAIN`.
    """
    kept: list[str] = []
    done = at = 0
    while match := _PLACE.search(text, at):
        begin, at = match.span()
        if match["credential"]:
            kept += text[done:begin], REDACTED
        elif match["digits"]:
            before = text[max(0, begin - 2) : begin]
            kept += text[done:begin], without_cards(match["digits"], is_fraction=_FRACTION.match(before) is not None)
        elif match["scheme"]:
            token = (_AFTER_BEARER if match["scheme"].lower() == "bearer" else _AFTER_BASIC).match(text, at)
            if token is None:
                continue
            at = token.end()
            kept += text[done : token.start("token")], REDACTED
        elif match["pem"]:
            end = text.find("-----END ", at)
            kept += text[done:at], REDACTED
            at = len(text) if end < 0 else end
        elif found := _CREDENTIAL.search(text, begin, at):  # what looks like a key
            kept += text[done : found.start()], REDACTED
            whole = _CREDENTIAL.match(text, found.start())
            at = found.end() if whole is None else whole.end()
        else:
            begin, end = _value(text, match, sensitivity)
            if begin == end:
                continue
            kept += text[done:begin], REDACTED
            at = end
        done = at
    return "".join([*kept, text[done:]])


def _value(text: str, match: re.Match[str], sensitivity: Callable[[str], int]) -> tuple[int, int]:
    """Return where the value of a sensitive key begins and ends; the same place twice where nothing goes."""
    at = match.end()
    key = match["key"] or match["inner"] or match["pair"] or match["option"]
    separator = match["separator"] or match["escaped"] or ""
    level = sensitivity(key)
    if level == NEVER and match["before"]:
        level = _of_two_words(match["before"], key, sensitivity)
    if match["pair"] and text[max(0, match.start() - 8) : match.start()].rstrip()[-1:] not in tuple("[({,"):
        level = NEVER  # a list of names, no list of pairs
    if level == NEVER and key == "input" and match["close"]:
        level = _of_location(text, match.start(), match["close"], sensitivity)
    if level == NEVER:
        return _shown(text, match.start(), at, sensitivity) if key == "input_value" else (at, at)
    is_bare = separator == ":" and not match["close"]
    space = (_SAME_LINE if is_bare else _SPACE).match(text, at)
    begin = at if space is None else space.end()
    is_head = _HEAD.search(key) is not None
    if is_head and is_bare and text[begin : begin + 1] not in tuple("[{"):
        return begin, _end_of_head(text, match.start(), begin)
    end = _end(text, begin, is_escaped=separator.startswith("%"))
    if level == UNLESS_PLAIN and _PLAIN.match(text[begin:end]):
        return at, at
    return begin, _end_of_credentials(text, begin, end, is_head=is_head)


def _shown(text: str, key: int, begin: int, sensitivity: Callable[[str], int]) -> tuple[int, int]:
    """Return the same of a value that pydantic shows, which is as sensitive as its field in the line above."""
    shown = text[begin : begin + 4 * _SHOWN]
    is_shortened = shown[:1] in tuple("[{") and "..." in shown[:_SHOWN]  # so that keys may be missing
    level = ALWAYS if is_shortened else _of_field(text, key, sensitivity)
    if level == NEVER:
        return begin, begin
    end = begin + _end(shown, 0, is_escaped=False)
    if end == begin + len(shown):  # shortened in a quotation or bracket: it ends with its line
        line = text.find("\n", begin)
        end = len(text) if line < 0 else line
    is_plain = level == UNLESS_PLAIN and _PLAIN.match(text[begin:end])
    return begin, begin if is_plain else end


def _end_of_credentials(text: str, begin: int, end: int, *, is_head: bool) -> int:
    """Return where the value ends if its first word is a scheme's name, as in `auth=Basic X`; else `end`."""
    last = begin
    while (is_known := _SCHEME.fullmatch(text, last, end)) or (is_head and text[last:end].isalpha()):
        if is_known and (found := _FIRST_PARAMETERS.match(text, end)):
            return found.end()
        word = _WORD.match(text, end + 1) if text[end : end + 1] == " " else None
        if word is None or "=" in word[0].rstrip("="):
            break
        last, end = end + 1, _end(text, end + 1, is_escaped=False)
    parameters = _PARAMETERS.match(text, end) if is_head else None
    return end if parameters is None else parameters.end()


def _of_two_words(before: str, key: str, sensitivity: Callable[[str], int]) -> int:
    """Tell of a key of two words with a space; what is sensitive about the first alone is not about both."""
    level = sensitivity(f"{before} {key}")
    is_of_both = level == UNLESS_PLAIN or sensitivity(f"{before} x") == NEVER
    return level if is_of_both else NEVER


def _of_field(text: str, at: int, sensitivity: Callable[[str], int]) -> int:
    """Tell of the field that pydantic names in the line above."""
    line = text.rfind("\n", max(0, at - 4096), at)
    return NEVER if line < 0 else sensitivity(text[text.rfind("\n", max(0, line - 512), line) + 1 : line].strip())


def _of_location(text: str, at: int, quote: str, sensitivity: Callable[[str], int]) -> int:
    """Tell of the field that pydantic names as `loc` in the same mapping, as FastAPI shows it."""
    name = f"loc{quote}:"
    place = text.rfind(name, max(0, at - 512), at)
    found = _LOCATION.match(text, place + len(name), at)
    return NEVER if place < 0 or found is None else sensitivity(found[1])


def _end_of_head(text: str, key: int, begin: int) -> int:
    """Return where the value of a raw head ends: with its line, or with the quotation that the head stands in."""
    quote = text[key - 1 : key] if key else ""
    if quote in ("'", '"') and (found := text.find(quote, begin)) >= 0:
        return found
    rest = _REST_OF_HEAD.match(text, begin)
    end = begin if rest is None else rest.end()
    return end if end > begin else _end(text, begin, is_escaped=False)


def _end(text: str, begin: int, *, is_escaped: bool) -> int:
    """Return where the value ends that begins here."""
    opening, end = _OPENING.match(text, begin), begin
    if opening is not None:
        end = opening.end()
        if quote := opening["quote"]:
            end = _end_of_quotation(text, end, quote)
        elif opening["bracket"]:
            end = _end_of_brackets(text, end)
        else:
            closing = opening["escape"] or ">"
            found = text.find(closing, end)
            end = len(text) if found < 0 else found + len(closing)
    word = (_ESCAPED_WORD if is_escaped else _WORD).match(text, end)
    return end if word is None else word.end()


def _end_of_quotation(text: str, at: int, quote: str) -> int:
    if len(quote) == 1:
        found = _QUOTED[quote].match(text, at)
    else:  # a quotation in a quotation: its end has as many backslashes
        found = re.compile(rf"(?<!\\){re.escape(quote)}").search(text, at)
    return len(text) if found is None else found.end()


def _end_of_brackets(text: str, at: int) -> int:
    depth = 1
    while depth and (found := _BRACKET.search(text, at)):
        at = found.end()
        if found[0] in "\"'":
            at = _end_of_quotation(text, at, found[0])
        else:
            depth += 1 if found[0] in "([{" else -1
    return at if depth == 0 else len(text)


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
