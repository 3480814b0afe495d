"""Redaction: no secret stays, whatever is handed over, in linear time."""

from __future__ import annotations

import enum
import pickle
import time
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from booking_resilience import DEFAULT_REDACTION, ErrorMonitor, Redaction
from booking_resilience.callbacks import text_of
from booking_resilience.monitor.redact import KEYS, Cleaner, finder


def cleaned(text: str, redact: Any) -> str:
    """Return the text as a record keeps it."""
    return Cleaner(redact).text(text)


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLXNlY3JldA"
SECRETS = {
    "https://user:hunter2@example.com/x": "hunter2",
    "https://example.com/x?token=hunter2&page=2": "hunter2",
    "https://example.com/x?page=2&api_key=hunter2": "hunter2",
    "Authorization: Bearer hunter2hunter2": "hunter2",
    "authorization: basic aHVudGVyMjpodW50ZXIy": "aHVudGVyMjpodW50ZXIy",
    f"the token was {JWT}, sorry": JWT,
    "key standard_0123456789abcdef0123456789abcdef refused": "0123456789abcdef",
    "key ephemeral_0123456789abcdef0123456789abcdef": "0123456789abcdef",
    "dynamic_0123456789abcdef0123456789abcdef": "0123456789abcdef",
    "cookie a_session_console=hunter2hunter2": "hunter2",
    "card 4111 1111 1111 1111 declined": "4111 1111",
    "card 4111-1111-1111-1111": "4111-1111",
    "password=hunter2": "hunter2",
    "refused:password=hunter2": "hunter2",
    "(user=ada)token=hunter2": "hunter2",
    "User(name='ada', password='hunter2 and more')": "hunter2",
    'login(password="hunter2")': "hunter2",
    "login(password='hunter2": "hunter2",
    "{'user': 'ada', 'password': 'hunter2', 'n': 3}": "hunter2",
    '{"user": "ada", "api_key" : "hunter2"}': "hunter2",
    '{"body": "{\\"password\\": \\"hunter2\\"}"}': "hunter2",
    '{"token": "12345678"}': "12345678",
    "{'token': b'hunter2'}": "hunter2",
    "redirect=https://example.com/?token=hunter2": "hunter2",
    "redirect=https%3A%2F%2Fexample.com%2F%3Fpage%3D1%26token%3Dhunter2%26x%3D2": "hunter2",
    "filter[token]=hunter2": "hunter2",
    "filter%5Btoken%5D=hunter2": "hunter2",
    "https://example.com/#access_token=hunter2": "hunter2",
    "at:token=hunter2": "hunter2",
    "X-Appwrite-Key: hunter2": "hunter2",
    "x" * 200 + "token=hunter2": "hunter2",
    "Bearer\thunter2hunter2": "hunter2",
    'Bearer "hunter2hunter2"': "hunter2",
    "basic 'aHVudGVyMjpodW50ZXIy'": "aHVudGVyMjpodW50ZXIy",
    "at 2026-11-25 4111 1111 1111 1111 declined": "4111 1111",
    "378282246310005": "378282246310005",
    "3782 822463 10005": "822463",
    "6011000990139424,4111111111111111": "4111111111111111",
    "card 4111111111111111 99": "4111111111111111",
    "ftp://me:hunter2@host and http://you:hunter2@host": "hunter2",
    "https://user:p@ss:hunter2@example.com": "hunter2",
}
HIDDEN_KEYS = [
    "password", "Passwd", "PWD", "client_secret", "accessToken", "X-Api-Key", "X-Appwrite-Key", "x-appwrite-dev-key",
    "Authorization", "Cookie", "session_id", "jwt", "bearer", "csrfmiddlewaretoken", "xsrf", "credentials",
    "private.key", "signature", "PASSWORD_HASH", "pass-wd", "x_xsrf_token", "device.DevKey", "x-appwrite-jwt", "sId",
    "k.e-y_", "IBAN", "card_number", "CARDNUMBER",
    "private_key", "my-signature-2", "card-number", "cvv", "cvc", "iban", "sid", "key", "KEY",
]  # fmt: skip


@pytest.mark.parametrize(("text", "secret"), SECRETS.items())
def test_secrets_in_texts_are_taken_out(text: str, secret: str) -> None:
    """What looks like a secret in a text is taken out, and what stands around it stays."""
    clean = DEFAULT_REDACTION.clean(text)
    assert secret not in clean
    assert "<redacted>" in clean


@pytest.mark.parametrize(
    "text",
    [
        "slot 10:30 is taken",
        "order 1234567890123456 of 2026",
        "page=2",
        "a_b",
        "x://y/z",
        "basic authentication failed",
        "the standard_deviation of dynamic_pricing",
        "41111111111111112345678",
        "2026-11-25 10-30-00 12",
        "it's: 'ok'",
        "{'user': 'ada'}",
        "name='ada' page=\"2\"",
        "Content-Type: text/html",
        "no token, no session",
        "redirect=x?page=2",
        "Wed 25 Nov 2026 22:59:18 +0000",
        "id 66f0c2a1b3d4e5f60718",
        "+66 81 234 56 78",
    ],
)
def test_harmless_texts_stay(text: str) -> None:
    """A text without secrets stays as it is; a long number that is no card number, too."""
    assert DEFAULT_REDACTION.clean(text) == text


@pytest.mark.parametrize("key", HIDDEN_KEYS)
def test_values_of_telling_keys_are_taken_out(key: str) -> None:
    """The value of a telling key is taken out, in any letter case and spelling, however deep."""
    copy = Cleaner(DEFAULT_REDACTION).context({"a": [{key: "hunter2"}], "b": 1})
    assert copy == {"a": [{key: "<redacted>"}], "b": 1}
    longer = Cleaner(DEFAULT_REDACTION).context({"x" * 200 + "_" + key: "hunter2"})
    assert longer == {"x" * 128: "<redacted>"} or key in {"key", "KEY", "k.e-y_", "sId"}


@pytest.mark.parametrize("key", ["therapist_id", "keyboard", "aside", "monkey", "user"])
def test_other_keys_stay(key: str) -> None:
    """`key` and `sid` count only when they are the whole key; other keys keep their values."""
    assert Cleaner(DEFAULT_REDACTION).context({key: "x"}) == {key: "x"}


@pytest.mark.parametrize(("text", "secret"), SECRETS.items())
def test_half_a_secret_never_stays(text: str, secret: str) -> None:
    """A secret that begins before the cut and ends behind it leaves nothing of itself, wherever the cut is."""
    for place in range(1024 - len(text) - 3, 1024, 3):
        clean = cleaned("x" * place + " " + text + " " + "y" * 2000, DEFAULT_REDACTION)
        assert secret[:4] not in clean.replace("1234", "")
        assert len(clean) <= 1024


def test_half_a_secret_never_stays_where_secrets_make_a_text_short() -> None:
    """Where so many secrets are taken out that the end of what was looked at comes into sight, no half of one does."""
    for shift in range(40):
        text = "z" * shift + ("token=" + "a" * 2000 + " ") * 7 + "card 4111 1111 1111 1111 " * 200
        clean = cleaned(text, DEFAULT_REDACTION)
        assert "4111" not in clean
        assert "aaa" not in clean
    assert cleaned("y" * 50_000, DEFAULT_REDACTION) == "y" * 1024
    assert cleaned("token=" + "s3cr3t" * 100_000, DEFAULT_REDACTION) == "token=<redacted>"


@pytest.mark.parametrize(
    "text",
    [
        "https://ada:{}@host/",
        "refused: eyJ{}.eyJ9.x",
        "<a>b</a><token n='1'>{}</token>",
        "<token><![CDATA[{}]]></token>",
    ],
)
def test_secret_whose_end_is_out_of_sight_is_taken_out(text: str) -> None:
    """A secret so long that what it is known by comes behind what is looked at leaves nothing of itself."""
    monitor = ErrorMonitor()
    long = text.format("hunter" * 5000)
    monitor.record(ValueError(long), operation="x", context={"note": long, long: 1})
    assert "hunter" not in monitor.to_json() + monitor.to_csv()
    assert cleaned("x://" + "y/" * 20_000, DEFAULT_REDACTION) == ("x://" + "y/" * 510)


@pytest.mark.parametrize(
    "piece",
    [
        "://",
        "a=",
        "eyJ",
        "eyJa.",
        "?&",
        "1 ",
        "12",
        "a_session_",
        "bearer ",
        "standard_",
        "basic ",
        "://a@",
        "=",
        "\u00e9",
        "password='",
        '"token" :',
        "a-a:",
        "a-",
        "token%3D",
        "standard_1",
        "4111 1111 1111 1111 ",
        "4111111111111111",
        "eyJa.a.",
        "bearer",
        "\\'",
        "b='",
        "password: | #",
        "password: |\n ",
        "%2541",
        "<a>b</a>",
        "password%3D%22",
        "password%3D%28&",
        "    ",
    ],
)
def test_patterns_are_linear(piece: str) -> None:
    """Four times the malice takes about four times the time, not sixteen."""

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        best = 1e9
        for _ in range(3):
            started = time.thread_time()  # of this thread only: the machine may be busy
            DEFAULT_REDACTION.clean(text)
            best = min(best, time.thread_time() - started)
        return best

    assert seconds(40_000) < 12 * seconds(10_000) + 0.02


@pytest.mark.parametrize(
    ("malice", "harmless"),
    [
        ("%3D" + "%41" * 4000, "%3D" + "a__" * 4000),
        ("%3D" + "%2541" * 2400, "%3D" + "a____" * 2400),
        ("=" + "a%2D" * 3000, "=" + "a___" * 3000),
        ("password: | " * 1000, "password: a " * 1000),
        ("\ninput_value=auth(" * 600, "\nother_value=auth(" * 600),
    ],
)
def test_no_text_costs_much_more_than_another(malice: str, harmless: str) -> None:
    """Percent-encoded keys, and open brackets that pydantic shows, are passed as fast as others of their length."""

    def seconds(text: str) -> float:
        best = 1e9
        for _ in range(3):
            started = time.thread_time()
            DEFAULT_REDACTION.clean(text)
            best = min(best, time.thread_time() - started)
        return best

    assert seconds(malice) < 10 * seconds(harmless) + 0.01


def test_keys_are_judged_once() -> None:
    """A redaction remembers the keys that it has met, a bounded number of short ones, and a copy of it knows none."""
    redaction = Redaction(keys=["phone"])
    for number in range(1500):
        assert redaction.sensitivity(f"home_phone_{number}") == redaction.sensitivity(f"home_phone_{number}") == 1
        assert not redaction.hides(f"{number}" * 100)
    copy = pickle.loads(pickle.dumps(redaction))
    assert copy == redaction
    assert copy.hides("home_phone")


def test_what_is_escaped_is_cut_to_length_too() -> None:
    """Half surrogate pairs, which are written as escapes, do not make a text longer than it may be."""
    assert cleaned("\ud83d" * 5000, DEFAULT_REDACTION) == ("\\ud83d" * 200)[:1024]


def test_a_megabyte_of_malice_is_recorded_at_once() -> None:
    """A message of ten megabytes costs no more than one of a few kilobytes: only its beginning is looked at."""
    monitor = ErrorMonitor()
    for piece in ("a=", "1 ", "x-key: ", "://a@", '"token" :'):
        record = monitor.record(
            ValueError(piece * 5_000_000), operation=piece * 100_000, context={"text": piece * 10**6}
        )
        assert len(record.message) <= 1024
        assert len(record.operation) <= 256
        assert record.message_length == 5_000_000 * len(piece)


def test_own_keys_and_patterns() -> None:
    """A redaction of one's own takes its keys and patterns."""
    import re

    redaction = Redaction(keys=["pet_name"], patterns=[re.compile(r"rex\d+")], exact_keys=())
    copy = Cleaner(redaction).context({"petName": "x", "password": "y", "text": "rex7 barks"})
    assert copy == {"petName": "<redacted>", "password": "y", "text": "<redacted> barks"}


def test_redactor_function_and_none() -> None:
    """A function of key and value may take the place of the redaction, and None means that nothing is taken out."""
    upper = ErrorMonitor(redact=lambda key, value: value.upper() if key == "name" else value)
    assert upper.log_chat_error("x", ValueError("text"), name="ada", age=3).context == {"name": "ADA", "age": 3}
    plain = ErrorMonitor(redact=None)
    record = plain.log_chat_error("x", ValueError("password=hunter2"), password="hunter2")
    assert (record.message, record.context) == ("password=hunter2", {"password": "hunter2"})


def test_redactor_that_fails_redacts_all() -> None:
    """A redactor that raises leaves nothing of what it was asked about."""
    monitor = ErrorMonitor(redact=lambda key, value: 1 / 0)
    record = monitor.log_chat_error("x", ValueError("hunter2"), name="hunter2")
    assert "hunter2" not in monitor.to_json()
    assert record.context == {"name": "<redacted>"}


def test_redactor_that_exits_redacts_and_that_is_interrupted_is_interrupted() -> None:
    """A redactor that exits redacts all; an interrupt that arrives in it comes out."""

    def exits(key: str, value: object) -> object:
        raise SystemExit

    def interrupted(key: str, value: object) -> object:
        raise KeyboardInterrupt

    record = ErrorMonitor(redact=exits).log_chat_error("x", ValueError("hunter2"), name="hunter2")
    assert (record.operation, record.message, record.context) == ("x", "<redacted>", {"name": "<redacted>"})
    for key in ("message", "name"):
        redact = lambda asked, value, key=key: interrupted(asked, value) if asked == key else value  # noqa: E731 - bound to its key
        with pytest.raises(KeyboardInterrupt):
            ErrorMonitor(redact=redact).log_chat_error("x", ValueError("x"), name="x")


def test_one_text_is_not_several_keys() -> None:
    """A single text where several keys or patterns belong is refused: each of its letters would be one."""
    for setting in ("keys", "patterns", "exact_keys"):
        with pytest.raises(TypeError, match=setting):
            Redaction(**{setting: "phone"})  # type: ignore[arg-type] # that is the point


def test_card_numbers_in_numbers_are_taken_out() -> None:
    """A whole number in a context that is a card's is taken out; another stays."""
    copy = Cleaner(DEFAULT_REDACTION).context({"a": 4111111111111111, "b": 4111111111111112, "c": [378282246310005]})
    assert copy == {"a": "<redacted>", "b": 4111111111111112, "c": ["<redacted>"]}
    assert Cleaner(None).context({"a": 4111111111111111}) == {"a": 4111111111111111}


class Login(NamedTuple):
    user: str
    password: str


def test_named_tuples_are_kept_by_their_names() -> None:
    """A named tuple in a context becomes a mapping, so that its sensitive fields are taken out."""
    copy = Cleaner(DEFAULT_REDACTION).context({"login": Login("ada", "hunter2"), "tries": [Login("eve", "hunter2")]})
    kept = {"user": "ada", "password": "<redacted>"}
    assert copy == {"login": kept, "tries": [{**kept, "user": "eve"}]}


class Rude:
    """Raises from everything that could give its text."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


class Colour(enum.Enum):
    RED = "red"


def test_hostile_values_become_markers() -> None:
    """Cycles, depth, breadth, odd types and rude objects end in markers and plain values."""
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    deep: Any = "bottom"
    for _ in range(5000):
        deep = [deep]
    context = {
        "loop": loop,
        "deep": deep,
        "wide": list(range(1000)),
        "wide_map": {str(number): number for number in range(1000)},
        "rude": Rude(SystemExit(3)),
        "nan": float("nan"),
        "inf": float("-inf"),
        "bytes": b"hunter2",
        "big": 10**5000,
        7: Colour.RED,
        "none": None,
        "flag": True,
        "half": "\ud83d",
    }
    copy = Cleaner(DEFAULT_REDACTION).context(context)
    assert copy["loop"] == {"loop": "<cycle>"}
    assert copy["deep"] == [[[["<truncated>"]]]]
    assert len(copy["wide"]) == 33
    assert copy["wide"][-1] == "<truncated>"
    assert copy["wide_map"]["<truncated>"] == 968
    assert copy["rude"] == "<str() failed>"
    assert (copy["nan"], copy["inf"], copy["bytes"], copy["7"]) == ("nan", "-inf", "<7 bytes>", "red")
    assert copy["big"].startswith("<int of ")
    assert (copy["none"], copy["flag"], copy["half"]) == (None, True, "\\ud83d")


def test_context_is_bounded_in_all() -> None:
    """At most about 200 values are kept of any context."""
    context = {str(a): {str(b): {str(c): c for c in range(32)} for b in range(32)} for a in range(32)}

    def count(value: Any) -> int:
        return sum(map(count, value.values())) if isinstance(value, dict) else 1

    assert count(Cleaner(None).context(context)) <= 260


def test_unreadable_context_is_none() -> None:
    """A mapping that raises when it is read is noted as such."""

    class Broken(dict[str, str]):
        def __iter__(self) -> Any:
            raise RuntimeError("no")

    assert Cleaner(None).context(Broken(a="b")) == {"context": "<copy failed>"}


def test_interrupt_out_of_a_text_is_swallowed() -> None:
    """An error's own text that raises an interrupt or an exit becomes a marker: what is recorded matters more."""
    for error in (KeyboardInterrupt(), SystemExit(3), GeneratorExit()):
        assert text_of(Rude(error)) == "<str() failed>"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text() | st.integers(), inner, max_size=5),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), VALUES, max_size=3))
def test_any_context_becomes_strict_json(context: dict[str, Any]) -> None:
    """Whatever a context holds, its copy is strict JSON, and comes back equal."""
    import json

    copy = Cleaner(DEFAULT_REDACTION).context(context)
    assert json.loads(json.dumps(copy, allow_nan=False)) == copy


def test_redactor_function_is_asked_by_the_key_that_leads_there() -> None:
    """A function that keeps what is under some keys keeps their texts, also in lists, and is asked of each once."""
    asked: list[tuple[str, object]] = []

    def known_only(key: str, value: object) -> object:
        asked.append((key, value))
        return value if key in ("name", "names", "inner", "operation") else "gone"

    context = {"name": "ada", "names": ["ada", 3], "inner": {"name": "eve", "phone": "555"}, "phone": "555"}
    record = ErrorMonitor(redact=known_only).record(ValueError("x"), operation="a", context=context)
    assert record.message == "gone"
    assert record.context == {
        "name": "ada",
        "names": ["ada", 3],
        "inner": {"name": "eve", "phone": "gone"},
        "phone": "gone",
    }
    assert asked.count(("name", "ada")) == asked.count(("names", "ada")) == asked.count(("phone", "555")) - 1 == 1
    assert "" not in {key for key, _ in asked}


def test_card_number_in_a_float_is_taken_out() -> None:
    """A float in a context that is a card's number is taken out; another stays, whatever its decimals are."""
    copy = Cleaner(DEFAULT_REDACTION).context(
        {"a": 4111111111111111.0, "b": 4111111111111112.0, "c": 0.4111111111111111}
    )
    assert copy == {"a": "<redacted>", "b": 4111111111111112.0, "c": 0.4111111111111111}


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("keys", "password", "a collection of strings"),
        ("exact_keys", b"key", "a collection of strings"),
        ("last_keys", 3, "a collection of strings"),
        ("patterns", "h.nter", "a collection of patterns"),
    ],
)
def test_one_text_in_the_place_of_several_is_refused(setting: str, value: Any, allowed: str) -> None:
    """A text is a sequence of letters, which nobody means by keys or patterns."""
    with pytest.raises(TypeError, match="must be") as caught:
        Redaction(**{setting: value})
    assert str(caught.value) == f"{setting} must be {allowed}, not {value!r}"
    with pytest.raises(TypeError, match="patterns must be strings or compiled patterns of strings, not 5"):
        Redaction(patterns=[5])  # type: ignore[list-item] # that is the point
    with pytest.raises(ValueError, match=r"patterns must be regular expressions, not '\(': missing"):
        Redaction(patterns=["("])


class Own(Redaction):
    """A redaction that may know more."""


@pytest.mark.parametrize("redact", [Own(), Redaction(patterns=["plain"]), lambda key, value: value])
def test_only_what_is_known_to_find_nothing_is_passed_over(redact: Any) -> None:
    """A text need not be looked at closely only where the redactor is the library's, without patterns of one's own."""
    assert finder(redact)("plain")
    for quick in (None, DEFAULT_REDACTION):
        assert finder(quick)("plain") is None
    assert finder(DEFAULT_REDACTION)("password=hunter2")


def test_the_text_of_a_text_is_its_own() -> None:
    """A text that claims to be another when asked is taken for what it is, and so is one that fails."""

    class Sly(str):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert text_of(Sly("plain")) == "plain"
    assert text_of(Sly("plain"), repr) == "'plain'"


def test_a_redactor_function_knows_a_message_by_its_key() -> None:
    """A function that redacts is told `message` where there is no key."""
    seen: list[tuple[str, Any]] = []
    cleaned("plain", lambda key, value: seen.append((key, value)) or value)
    assert seen == [("message", "plain")]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("4111111111111111 5500005555555559", "<redacted> <redacted>"),
        ("1 4111111111111111-10-4111-1111-1111-1111 0", "1 <redacted>-10-<redacted> 0"),
        ("no 4111 1111 1111 1111, nor 5500005555555559.", "no <redacted>, nor <redacted>."),
        ("41111111111111111111111", "41111111111111111111111"),
    ],
)
def test_card_numbers_are_taken_out_to_the_digit(text: str, clean: str) -> None:
    """Of a run of digits the card numbers go and the others stay, with all that stands between them."""
    assert DEFAULT_REDACTION.clean(text) == clean


def test_what_lost_its_end_at_the_window_is_dropped() -> None:
    """Of a text longer than is looked at, what is left of it short goes without its last part, which may be half."""
    inside = "token=" + "x" * 4086 + " end"
    assert len(inside) == 4096
    assert cleaned(inside, DEFAULT_REDACTION) == "token=<redacted> end"
    ends = "y" * 599 + " "
    longer = "token=" + "x" * (4096 - 607) + " " + ends + "beyond"
    assert cleaned(longer, DEFAULT_REDACTION) == "token=<redacted> " + ends[:88]


@pytest.mark.parametrize("own", [Redaction(keys=(*KEYS, "input")), Redaction(exact_keys=("key", "input"))])
def test_a_key_of_ones_own_that_pydantic_has_too(own: Redaction) -> None:
    """A sensitive key called `input` is redacted wherever it stands, not only where pydantic shows a secret."""
    for text in ('{"input": "hunter2"}', "{'input': 'hunter2'}", "input=hunter2"):
        assert "hunter2" not in own.clean(text)
