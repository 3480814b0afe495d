"""Find secrets in a text, by their own form or by the key that stands before them, in time linear in the text.

One pass from left to right looks at each place first for a credential that is known by its own form, then for a key
with its separator. Of a sensitive key the whole value goes: quoted, in balanced brackets, or up to where it ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from booking_resilience.monitor.cards import DIGITS, GAPS, cards_in
from booking_resilience.monitor.escapes import LAYERS, unescaped

REDACTED = "<redacted>"
NEVER, ALWAYS, UNLESS_PLAIN = 0, 1, 2
"""Whether a key's value is redacted; a number, a boolean or None stays with `UNLESS_PLAIN`."""
Sensitivity: TypeAlias = Callable[[str], int]

# Every pattern is linear: none can begin at many places of one run of letters unless it is bounded, and where one
# repeats, what follows cannot be a part of it.
_LETTER = r"[\w.\[\]-]"
_SEPARATOR = r"(?:=>|:=|=(?!=)|:(?!//|:))"  # between a key and its value
_START = r"(?:(?<![\w.\[\]\\-])|(?<=\\[nrt])|(?<=\\)(?![nrt]))"  # of a key
_CREDENTIALS = (
    r"(?<=://)(?:[^\s/?#\"'<>]|'(?=[\w%]))+(?=@)|"  # userinfo of a URL, up to the last @ of its host part
    r"(?<=://)[^\s/@:\"'<>]{0,256}:(?!\d{1,5}[/?#])[^\s@\"'<>]{1,256}+(?=@)|"  # with a bad password
    r"(?<![\w-])eyJ[\w-]+\.[\w-]+(?:\.[\w-]*){0,3}|"  # a JSON Web Token
    r"(?<![A-Za-z0-9])(?:standard|ephemeral|dynamic)_[0-9A-Fa-f]{16,}\w*|"  # Appwrite's keys and sessions
    r"(?<![A-Za-z0-9])(?:(?:sk|rk)_(?:live|test)|whsec)_\w{10,}|"  # Stripe
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])|"  # AWS
    r"(?<![A-Za-z0-9])(?:gh[pousr]|github_pat)_\w{20,}|"  # GitHub
    r"(?<![\w-])(?:AIza[\w-]{35,}|ya29\.[\w.-]{10,}|GOCSPX-[\w-]{20,})"  # Google
)
_SESSION = r"a_session_(?:(?<!\wa_session_)|(?<=\\[nrt]a_session_))[\w.-]+(?:(?:=|%[0-9A-Fa-f]{2}|\\+u00)[^\s;,&]*)?"
_CREDENTIAL = re.compile(f"{_CREDENTIALS}|{_SESSION}")
_PLACE = re.compile(
    rf"(?P<credential>{_CREDENTIALS})|(?P<pem>-----BEGIN [A-Z0-9 ]{{1,40}}-----)"
    r"|(?<![A-Za-z])(?P<scheme>[Bb](?i:earer(?=[\s+])|asic(?=[\s:=+])))"
    rf"|(?P<digits>{DIGITS})"
    rf"|(?<![\w-])--(?P<option>[A-Za-z][\w.-]*)(?:[ \t]|\\{{0,7}}[\"'],\s{{0,64}}(?=[bu]?\\{{0,7}}[\"'](?!-)))"
    rf"(?=[^\s-])(?!{_SEPARATOR})|{_START}(?:(?P<before>{_LETTER}{{1,64}})[ ])?(?P<key>{_LETTER}+)"
    r"(?P<close>\\{0,7}(?:[\"']{1,2}|[\u201d\u2019]))?(?:\](?=\s{0,64}=))?[ \t]{0,64}+\s{0,8}+"
    rf"(?P<separator>{_SEPARATOR})"
    rf"|[\[({{,]\s{{0,64}}[\[(]\s{{0,64}}[bu]?(?P<open>\\{{0,7}}[\"'])(?P<pair>{_LETTER}{{1,128}})(?P=open)\s{{0,64}},"
    r"|>(?=(?P<content>(?:<!\[CDATA\[)?[^<>]+>?)</(?P<tag>[A-Za-z][\w.:-]{0,128})\s{0,8}>)"
    rf"|(?P<session>{_SESSION})"
)
SUSPECT = re.compile(  # each branch begins with a letter of its own, which makes the search quick
    r"=|:|_(?=\w{10}|(?<=session_)[\w.-])|%(?=[0-9A-Fa-f]{2})|\"\s{0,64},|'\s{0,64},|-----B|--[A-Za-z]|J(?<=eyJ)|"
    r"A(?:KIA|SIA|Iza)|y(?=a29\.)|G(?=OCSPX-)|b(?:[Ee][Aa][Rr]|[Aa][Ss][Ii])|B(?:[Ee][Aa][Rr]|[Aa][Ss][Ii])|<(?=\\{0,7}/)|"
    r"\\(?=u00)|" + "|".join(rf"{digit}[0-9+{GAPS}]{{11}}" for digit in range(10))
)
"""Finds something in every text in which `clean` would."""

_SCHEME = re.compile(
    r"(?i:bearer|basic|digest|negotiate|ntlm|token|api-?key|hawk|oauth|dpop|jwt|aws4-hmac-sha256|scram-sha-\d+)\Z"
)
_PROSE = r"(?!(?i:tokens?|auth\w*|of|is|was|scheme|credentials?|not|missing|required|realm|format|header|error|and)\b)"
_AFTER_BEARER = re.compile(
    rf"(?:[\s:=+]{{1,8}}(?i:bearer))*[\s:=+]{{1,8}}+[\"']?{_PROSE}(?P<token>(?:[^\s\"',;<>)}}\]\\&]|&(?![\w.-]{{1,64}}=))+)"
)
_AFTER_BASIC = re.compile(  # plain words are prose: Basic Authentication, a basic 60-minute massage
    r"[\s:=+]{1,8}+[\"']?(?!(?:(?:[A-Z]?[a-z]+|[A-Z]+|\d{1,3})(?![\w+=])[/-]?)+(?![\w+/=-]))(?P<token>[\w+/=-]{8,})"
)
_OPENING = re.compile(
    r"[bBuUrR$]{0,2}(?P<quote>\\{0,7}(?:\"\"\"|'''|\"\"(?=\w)|''(?=\w)|[\"']))|[\w.]{0,64}(?P<bracket>[(\[{])|(?P<angle><)"
)
_QUOTED = {
    '"': re.compile(r'[^"\\]*(?:(?:\\.|"")[^"\\]*)*(?:"|\\?\Z)', re.DOTALL),
    "'": re.compile(r"[^'\\]*(?:(?:\\.|''|'\"'\"')[^'\\]*)*(?:'|\\?\Z)", re.DOTALL),
}
_GOES_ON = r"(?=[\w#$%*@^~]|\|[^\s\"']|![^\s])"  # what seldom stands behind the quote or bracket that closes
_WORD = re.compile(  # a bare value; a comma, semicolon or ampersand ends it only where something else begins
    rf"(?:[^\s,;&\"'<>)\]}}\\]|\\(?![nrt\"']|u00[2-7])|\\{{0,7}}[)\]}}\"'<>]{_GOES_ON}|&(?![\w.%\[\]-]{{1,64}}=|\s|\Z)"
    r"|[,;](?![\s\"')\]}]|\\[\"'u]|\Z|[\w.\[\]-]{1,64}\s?[=:])"
    r"|(?<=\b[A-Z]{2}\d\d)(?: [A-Z\d]{4}){2,7}(?: [A-Z\d]{1,3}\b)?)+"  # an IBAN as it is printed
)
_PARAMETER = r"\s{0,8}[\w-]{1,64}=(?:\"[^\"]*\"?|[^\s,]+)"
_PARAMETERS, _FIRST_PARAMETERS = re.compile(rf"(?:,{_PARAMETER})+"), re.compile(rf" {_PARAMETER}(?:,{_PARAMETER})*")
_REST_OF_HEAD = re.compile(
    rf"(?:\{{[^{{}}\r\n]*\}}|[^\r\n\"'\\]|(?<==)(?:\"(?:\\.|[^\"\\\r\n])*\"?|'[^'\r\n]*'?)|[\"']{_GOES_ON}|\\(?![rn\"']))*"
)
_BRACKET, _HEAD = re.compile(r"[()\[\]{}\"']"), re.compile(r"(?i:cookies?|auth|authorization|signature)\Z")
_PLAIN = re.compile(r"(?i:-?\d+(?:\.\d+)?|true|false|none|null)\Z")
_SPACE, _SAME_LINE, _LOCATION = re.compile(r"\s*"), re.compile(r"[ \t]*"), re.compile(r"\s?[(\[]([^()\[\]]{1,256})")
_TAGS = re.compile(r"(?:[!&]\S{0,64}[ \t]{1,8}){0,2}")  # and anchors of YAML
_HEAD_OF_BLOCK = re.compile(r"[|>][-+\d]{0,2}[ \t]{0,8}(?:#[^\r\n]{0,256})?(?=\r?\n)")
_INDENT, _LINE = re.compile(r"[ \t]*(?:- +)*"), re.compile(r"\r?\n(?P<indent>[ \t]*)(?P<rest>[^\r\n]*)")


def clean(text: str, sensitivity: Sensitivity) -> str:
    """Return the text with a marker in the place of each secret.

    Args:
        text: Any text.
        sensitivity: Tells of a key whether its value is redacted: `NEVER`, `ALWAYS` or `UNLESS_PLAIN`.
    """
    plain, veil = text, text
    written: Sequence[str] = text
    for _ in range(LAYERS + 1):
        if spans := list(_secrets(plain, veil, sensitivity)):
            plain, veil = "".join(_marked(plain, spans)), "".join(_marked(veil, spans))
            written = _marked(written, spans)
        if (layer := unescaped(plain, veil, written)) is None:
            break
        plain, veil, written = layer
    return "".join(written)


def _marked(characters: Sequence[str], spans: list[tuple[int, int]]) -> list[str]:
    """Return the characters with those of the marker in the place of each span."""
    kept, done = list[str](), 0
    for begin, end in spans:
        kept += characters[done:begin]
        kept += REDACTED
        done = end
    return [*kept, *characters[done:]]


def _secrets(text: str, veil: str, sensitivity: Sensitivity) -> Iterator[tuple[int, int]]:
    """Yield where each secret of the text begins and ends, from left to right.

    The veil is the text with a letter for each character that a URL had encoded, which delimits only what the URL had
    encoded as well.
    """
    at = 0
    while match := _PLACE.search(text, at):
        begin, at = match.span()
        if match["credential"] or match["session"]:
            yield begin, at
        elif match["digits"]:
            yield from cards_in(text, begin, at)
        elif match["scheme"]:
            after = _AFTER_BEARER if match["scheme"].lower() == "bearer" else _AFTER_BASIC
            if token := after.match(text, at):
                yield token.span("token")
                at = token.end()
        elif match["pem"]:
            begin, at = at, _find(text, "-----END ", at)
            yield begin, at
        else:
            begin, end = _value(text, veil, match, sensitivity)
            if found := _CREDENTIAL.search(text, match.start(), at):  # in what looks like a key
                known = _past(_CREDENTIAL, text, found.start())
                begin, end = found.start(), max(known, end) if begin < end else known
            if begin < end:
                yield begin, end
                at = end


def _find(text: str, sign: str, at: int) -> int:
    """Return where the sign stands; the end of the text if it doesn't."""
    found = text.find(sign, at)
    return len(text) if found < 0 else found


def _past(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return where what begins here ends, if it is of the pattern; else `at`."""
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _value(text: str, veil: str, match: re.Match[str], sensitivity: Sensitivity) -> tuple[int, int]:
    """Return where the value of a sensitive key begins and ends; the same place twice where nothing goes."""
    at = match.end()
    key = match["key"] or match["pair"] or match["option"] or match["tag"]
    level = _level(text, match, key, sensitivity)
    if level == NEVER:
        return _shown(text, match, sensitivity) if key == "input_value" else (at, at)
    after_key = slice(max(map(match.end, ("key", "pair", "option"))), at)
    is_encoded = text[after_key] != veil[after_key]
    if not is_encoded:
        text = veil
    is_bare, is_head = match["separator"] == ":" and not match["close"], _HEAD.search(key) is not None
    begin = _past(_SAME_LINE if is_bare else _SPACE, text, at)
    if match["tag"]:
        begin, end = match.span("content")
    elif is_encoded:
        end = _end_in_url(text, veil, begin, is_closed=bool(match["close"]))
    elif match["separator"] == ":" and (head := _HEAD_OF_BLOCK.match(text, _past(_TAGS, text, begin))):
        end = _end_of_block(text, match.start(), head.end())
    elif is_head and is_bare and text[begin : begin + 1] not in tuple("[{"):
        end = _end_of_head(text, match.start(), begin)
    else:
        end = _end(text, _past(_TAGS, text, begin) if match["separator"] == ":" else begin)
    if level == UNLESS_PLAIN and _PLAIN.match(text[begin:end]):
        return at, at
    return begin, _end_of_credentials(text, begin, end, is_head=is_head)


def _level(text: str, match: re.Match[str], key: str, sensitivity: Sensitivity) -> int:
    """Tell whether the value of a key is redacted where it stands."""
    level = sensitivity(key)
    if match["tag"]:
        _, opening, name = text[max(0, match.start() - 512) : match.start()].rpartition("<")
        return level if opening and name.split()[:1] == [key] else NEVER
    if level == NEVER and (before := match["before"]):
        level = sensitivity(f"{before} {key}")
        is_of_both = level == UNLESS_PLAIN or sensitivity(f"{before} x") == NEVER
        return level if is_of_both else NEVER  # what is sensitive about the first word alone is not about both
    if level == NEVER and key == "input" and match["close"]:  # pydantic names its field in the same mapping
        name = f"loc{match['close']}:"
        place = text.rfind(name, max(0, match.start() - 512), match.start())
        found = _LOCATION.match(text, place + len(name), match.start())
        return NEVER if place < 0 or found is None else sensitivity(found[1])
    return level


def _shown(text: str, match: re.Match[str], sensitivity: Sensitivity) -> tuple[int, int]:
    """Return the same of a value that pydantic shows, which is as sensitive as its field in the line above."""
    begin, above = match.end(), text.rfind("\n", max(0, match.start() - 4096), match.start())
    shown = text[begin : begin + 64]  # pydantic shows about fifty characters
    level = NEVER if above < 0 else sensitivity(text[text.rfind("\n", max(0, above - 512), above) + 1 : above].strip())
    if shown[:1] in tuple("[{") and "..." in shown:
        level = ALWAYS  # keys may be missing where it was shortened
    if level == NEVER:
        return begin, begin
    line = text[begin : _find(text, "\n", begin)]
    value = line.rpartition(", input_type=")[0] or line
    return begin, begin if level == UNLESS_PLAIN and _PLAIN.match(value) else begin + len(value)


def _end_of_credentials(text: str, begin: int, end: int, *, is_head: bool) -> int:
    """Return where the value ends if its first word is a scheme's name, as in `auth=Basic X`; else `end`."""
    last = begin
    while (is_known := _SCHEME.fullmatch(text, last, end)) or (is_head and text[last:end].isalpha()):
        if is_known and (found := _FIRST_PARAMETERS.match(text, end)):
            return found.end()
        word = _WORD.match(text, end + 1) if text[end : end + 1] == " " else None
        if word is None or (not is_known and "=" in word[0].rstrip("=")):
            break
        last, end = end + 1, _end(text, end + 1)
    return _past(_PARAMETERS, text, end) if is_head else end


def _end_in_url(text: str, veil: str, begin: int, *, is_closed: bool) -> int:
    """Return where a value ends whose separator a URL had encoded: where it closes, else with its parameter."""
    opening = _OPENING.match(text, begin)
    if opening is not None and text[begin : opening.end()] == veil[begin : opening.end()]:
        return _end(text, begin)
    if opening is None and not is_closed:
        return begin + _past(_WORD, veil[begin : _find(text, "&", begin)], 0)
    value = text[begin : begin + 1024]  # one that doesn't close is looked at no further
    end = begin + _end(value, 0)
    return end if end < begin + len(value) else _past(_WORD, veil, begin)


def _end_of_block(text: str, key: int, at: int) -> int:
    """Return where a block of YAML ends: with the last line that is indented deeper than the line of its key."""
    begin = text.rfind("\n", 0, key) + 1
    indent, end = _past(_INDENT, text, begin) - begin, at
    while line := _LINE.match(text, at):
        at = line.end()
        if line["rest"] and len(line["indent"]) <= indent:
            break
        end = at if line["rest"] else end
    return end


def _end_of_head(text: str, key: int, begin: int) -> int:
    """Return where the value of a raw head ends: with its line, or with the quotation that the head stands in."""
    if (quote := text[max(0, key - 1) : key]) in ("'", '"') and (found := text.find(quote, begin)) >= 0:
        return found
    is_quoted = (opening := _OPENING.match(text, begin)) is not None and opening["quote"]
    return _end(text, begin) if is_quoted else _past(_REST_OF_HEAD, text, begin)


def _end(text: str, begin: int) -> int:
    """Return where the value ends that begins here."""
    opening, end = _OPENING.match(text, begin), begin
    if opening is not None:
        end = opening.end()
        if quote := opening["quote"]:
            end = _end_of_quotation(text, end, quote)
        elif opening["bracket"]:
            end = _end_of_brackets(text, end)
        else:
            end = min(_find(text, ">", end) + 1, len(text))
    return _past(_WORD, text, end)


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
