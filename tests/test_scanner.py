"""The scanner: a secret in any documented form goes as a whole, and what is no secret stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from booking_resilience import DEFAULT_REDACTION, ErrorMonitor
from booking_resilience.monitor.cards import is_card
from booking_resilience.monitor.redact import Cleaner
from booking_resilience.monitor.scanner import SUSPECT, clean

SECRET = st.text("abcdefXYZ0123456789", min_size=12, max_size=40).map(lambda text: f"S3cr{text}")
ALWAYS = [
    "password", "passwd", "pwd", "passphrase", "secret", "apikey", "credential", "credentials", "cookie", "jwt",
    "bearer", "csrf", "xsrf", "cvv", "cvc", "iban", "api key", "appwrite key", "private key", "dev key", "card number",
    "passwords", "a session",
]  # fmt: skip
LAST = [
    "token",
    "auth",
    "authorization",
    "session",
    "signature",
    "sid",
    "tokens",
    "session id",
    "token value",
    "auth header",
    "jsessionid",
]
SPELLINGS = [
    lambda words: "_".join(words), lambda words: "-".join(words), lambda words: ".".join(words),
    lambda words: words[0] + "".join(word.title() for word in words[1:]), lambda words: "-".join(map(str.title, words)),
    lambda words: "_".join(words).upper(), lambda words: "user_" + "_".join(words),
]  # fmt: skip
FORMS = [
    "{key}={value}", "{key}: {value}", "{key} = '{value}'", "{key}=\"{value}\"", "{{'{key}': '{value}', 'n': 1}}",
    '{{"{key}": ["{value}"]}}', "{{'{key}': {{'deep': ('{value}', 2)}}}}", "User({key}='{value}', n=1)",
    "{key}=SecretStr('{value}')", "'{key}': 'an \\\'escaped {value}'",
    '{{"body": "{{\\"{key}\\": \\"{value}\\"}}"}}',
    "https://host/?a=1&{key}={value}&b=2", "[('{key}', '{value}')]", "[['{key}', '{value}']]",
    "[(b'{key}', b'{value}')]",
    "--{key} {value}", "{key}=hunter,{value}", "b'GET / HTTP/1.1\\r\\n{key}: {value}\\r\\nA: b'",
]  # fmt: skip
HEADS = ["Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Auth"]
SCHEMES = ["Token", "ApiKey", "Digest", "Negotiate", "Bearer", "Basic", "Bearer Bearer", "Whatever", "AWS4-HMAC-SHA256"]
NOISE = st.sampled_from(
    ["", "failed ", "slot 10:30 ", "a=1 ", "{'x': 'y'} ", "it's ", '"quoted" ', "(see below) ", "\n"]
)


@given(
    words=st.sampled_from([*ALWAYS, *LAST]).map(str.split), spelling=st.sampled_from(SPELLINGS),
    form=st.sampled_from(FORMS), value=SECRET, before=NOISE, after=NOISE,
)  # fmt: skip
def test_the_value_of_a_sensitive_key_goes_as_a_whole(
    words: list[str], spelling: object, form: str, value: str, before: str, after: str
) -> None:
    """In whatever form a sensitive key and its value stand, nothing of the value stays."""
    key = spelling(words)  # type: ignore[operator] # one of the functions above
    text = before + form.format(key=key, value=value) + " " + after
    assert value not in DEFAULT_REDACTION.clean(text)
    assert SUSPECT.search(text) is not None
    redirect = "https://host/?next=" + quote(f"https://a/?{key}={value}&b=2", safe="")
    assert value not in DEFAULT_REDACTION.clean(redirect)


@given(
    head=st.sampled_from(HEADS), scheme=st.sampled_from(SCHEMES), value=SECRET, other=SECRET,
    form=st.sampled_from(
        ["{}", "GET / HTTP/1.1\r\n{}\r\nAccept: */*", "curl -H '{}' https://host", 'curl -H "{}" x', "> {}"],
    ),
)  # fmt: skip
def test_a_raw_head_goes_to_the_end_of_its_value(head: str, scheme: str, value: str, other: str, form: str) -> None:
    """Of a raw head of credentials nothing stays, whatever the scheme, and what follows it does."""
    clean = DEFAULT_REDACTION.clean(form.format(f"{head}: {scheme} {value}; b={other}"))
    assert value not in clean
    assert other not in clean
    assert ("Accept: */*" in clean) == ("Accept" in form)
    assert ("https://host" in clean) == ("https://host" in form)


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nS3cret\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\\nS3cret",
        "sk_live_51S3cretAbcdefgh", "rk_test_51S3cretAbcdefgh", "whsec_S3cretAbcdefgh1234",
        "AKIAS3CRETS3CRETS3CR", "ghp_S3cretabcdefghijklmnopqrstuvwxyz0123",
        "github_pat_S3cretabcdefghijklmnop_1234", "AIzaS3cret" + "a" * 29, "ya29.S3cretabcdefgh", "Bearer 1|S3cret",
        "auth=Basic UzNjcmV0UzNjcmV0", "authorization=Digest username=\"S3cret\", response=\"S3cret\"",
        "standard_0123456789abcdefS3cret", "https://ada:S3cret/part@host/", "postgres%3A%2F%2Fada%3AS3cret%40host",
        "api%5Fkey=S3cret", "a_session_console=S3cret", "x a_session_S3cret",
        "1 validation error for Login\npassword\n  too short [type=x, input_value='S3cret', input_type=str]",
        "1 validation error\ncards.0.card_number\n  x [type=y, input_value=CardNumber('S3cret'), input_type=str]",
        "1 validation error for Booking of a session\n  x [type=y, input_value={'passwo...S3cret'}, input_type=dict]",
    ],
)  # fmt: skip
def test_credentials_are_known_by_their_form(text: str) -> None:
    """Credentials of known forms go, wherever they stand."""
    for around in ("{}", "refused: {}", "({}) was refused"):
        clean = DEFAULT_REDACTION.clean(around.format(text))
        assert "s3cret" not in clean.lower()
        assert "UzNj" not in clean


@pytest.mark.parametrize(
    "text",
    [
        "account_statement_download", "dynamic_pricing_recalculation", "standard_deviation", "at 1764417600123 ms",
        "ids 1700000000000, 1500000000000 and 9999999999999", "session_length=60, session_type=massage",
        "max_tokens=5 session=None token: null auth=True", "secretary: Anna", "author=Ada keyboard: de monkey=3",
        "the bearer of this", "Basic authentication failed", "['password', 'username'] are missing",
        "std::session::open",
        "at https://auth.example.org:8443/login", "password", "tokens used: 512", "order 6000 0000 0000 0001",
        "compare key1: a, key2: b", "Basic Authentication, a basic 60-minute massage",
        "input_value={'a': 1}", "user@example.org", "a=1&b=2;c=3", "data_session_start", "== token ==",
        "the session.\n\n        :type name: str",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    """Operations, timestamps, counts and words that only resemble keys stay as they are."""
    assert DEFAULT_REDACTION.clean(text) == text


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005",
        "6011111111111117", "3530111333300000", "30569309025904", "6200000000000005", "6759649826438453",
        "676200000013",
    ],
)  # fmt: skip
def test_card_numbers_of_every_issuer_go_however_they_are_spaced(number: str) -> None:
    """An issuer's number that passes Luhn's check goes, with spaces and dashes anywhere; one digit off it stays."""
    for text in (
        number,
        " ".join(number),
        f"{number[:4]}  {number[4:9]}\u2013{number[9:]}",
        "-".join((number[:6], number[6:])),
    ):
        assert DEFAULT_REDACTION.clean(f"card {text}.") == "card <redacted>."
    assert is_card(number)
    other = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert DEFAULT_REDACTION.clean(other) == other


@given(st.integers(10**12, 2 * 10**12 - 1))
def test_no_timestamp_in_milliseconds_is_a_card(number: int) -> None:
    """No card of 13 digits begins with 1."""
    assert DEFAULT_REDACTION.clean(f"at {number}") == f"at {number}"
    assert Cleaner(DEFAULT_REDACTION).context({"at": number}) == {"at": number}


@given(st.text())
def test_any_text_is_scanned_without_an_error(text: str) -> None:
    """Whatever the text is, it is scanned, and scanned again it stays the same or loses more."""
    assert isinstance(clean(text, DEFAULT_REDACTION.sensitivity), str)


def test_lists_of_pairs_are_mappings() -> None:
    """In a context a pair with a sensitive key loses its value; numbers under some keys stay."""
    context = {
        "headers": [
            ["Authorization", "Token S3cret"],
            ("X-Api-Key", "S3cret"),
            [b"cookie", "S3cret"],
            ["token", 5],
            ["password", 5],
            [b"key", "S3cret"],
        ]
    }
    kept = Cleaner(DEFAULT_REDACTION).context({**context, "cookies": {"a_session_console": "S3cret"}})
    assert "S3cret" not in json.dumps(kept)
    assert kept["headers"][0] == ["Authorization", "<redacted>"]
    assert kept["headers"][3:] == [["token", 5], ["password", "<redacted>"], ["<3 bytes>", "<redacted>"]]
    facts = {"max_tokens": 5, "session_length": "long", "auth": None, "sid": "x"}
    assert Cleaner(DEFAULT_REDACTION).context(facts) == {**facts, "sid": "<redacted>"}


def test_the_work_for_a_record_is_bounded() -> None:
    """At most 64 KiB of text are scanned for a record: what is beyond is dropped, not kept unscanned."""
    texts = {f"n{outer}": {f"n{inner}": "x: y " * 4000 + "S3cret" for inner in range(30)} for outer in range(6)}
    record = ErrorMonitor().record(ValueError("x"), operation="x", context=texts)
    values = [value for inner in record.context.values() if isinstance(inner, dict) for value in inner.values()]
    assert sum(str(value).startswith("x: y") for value in values) in range(10, 17)
    assert {str(value)[:4] for value in values} == {"x: y", "<tru"}


@pytest.mark.parametrize(
    "number", ["0.4111111111111111", "12.5555555555554444", "-0.378282246310005 s", "(3.6011111111111117)"]
)
def test_the_decimals_of_a_number_are_no_card(number: str) -> None:
    """A measured ratio or time stays, whatever its decimals add up to; what stands after a gap is looked at."""
    assert DEFAULT_REDACTION.clean(f"took {number}") == f"took {number}"
    assert DEFAULT_REDACTION.clean(number) == number
    assert "4111" not in DEFAULT_REDACTION.clean("item 5. 4111111111111111")
    assert "4111" not in DEFAULT_REDACTION.clean("0.5 4111 1111 1111 1111")
    assert "4111" not in DEFAULT_REDACTION.clean("4111111111111111.0")


@pytest.mark.parametrize(
    "text",
    ["--auth.header S3cret9", "--appwrite.key S3cret9 x", "BEARER=hunter,S3cret9", "Bearer=SecretStr('S3cret9')"],
)
def test_options_with_dots_and_bearer_as_a_key(text: str) -> None:
    """The value of an option whose name has dots goes, and so does the whole value of a key that is called bearer."""
    assert "S3cret9" not in DEFAULT_REDACTION.clean(text)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("IBAN: DE89 3704 0044 0532 0130 00 is unknown", "IBAN: <redacted> is unknown"),
        ('{"iban": "DE89 3704 0044 0532 0130 00"}', '{"iban": <redacted>}'),
        (r'{"dsn": "https:\/\/ada:S3cret@host\/x"}', r'{"dsn": "https:\/\/<redacted>@host\/x"}'),
        (r'{"a": "{\u0022password\u0022:\u0022S3cret\u0022,\u0022n\u0022:1}"}',
         r'{"a": "{\u0022password\u0022:<redacted>,\u0022n\u0022:1}"}'),
        ("{'password':\n  'S3cret', 'n': 1}", "{'password':\n  <redacted>, 'n': 1}"),
        ("password:\n  too short", "password:\n  too short"),
        ("password%253DS3cret", "password%253D<redacted>"),
        ('password = """S3cret\nand more""" # x', "password = <redacted> # x"),
        ("password=''", "password=<redacted>"),
        ("{'loc': ('body', 'password'), 'msg': 'too short', 'input': 'S3cret', 'n': 1}",
         "{'loc': ('body', 'password'), 'msg': 'too short', 'input': <redacted>, 'n': 1}"),
        ('[{"loc":["body","tokens",0],"input":["S3cret"]}]', '[{"loc":["body","tokens",0],"input":<redacted>}]'),
        ("{'loc': ('body', 'user'), 'input': 'ada'}", "{'loc': ('body', 'user'), 'input': 'ada'}"),
        ("db:\n  password: |\n    S3cret\n\n    S3cret\n  user: ada", "db:\n  password: <redacted>\n  user: ada"),
        ("token: |\nuser: ada", "token: <redacted>\nuser: ada"),
        ("<db:Password n='1'>S3cret</db:Password><b>x</b>", "<db:Password n='1'><redacted></db:Password><b>x</b>"),
        ("<token>5</token> and see <password> here", "<token>5</token> and see <password> here"),
        ("password='S3''cret', user='ada'", "password=<redacted>, user='ada'"),
        ('"{""password"": ""S3cret two"", ""n"": 1}"', '"{""password"": <redacted>, ""n"": 1}"'),
        ("export API_KEY=$'S3cret' x", "export API_KEY=<redacted> x"),
        ("\u201cpassword\u201d: S3cret x", "\u201cpassword\u201d: <redacted> x"),
        ("auth: true\nsession: null", "auth: true\nsession: null"),
        (r"/?a=1\u0026token=S3cret\u0026b=2", r"/?a=1\u0026token=<redacted>\u0026b=2"),
        ("?next=%2F%3Fcard%20number%3DS3cret%26n%3D1&b=2", "?next=%2F%3Fcard%20number%3D<redacted>%26n%3D1&b=2"),
        ("?next=Cookie%3A%20a%3DS3cret&b=2 failed", "?next=Cookie%3A%20<redacted>&b=2 failed"),
        ("at 4111%201111%201111%201111 x", "at <redacted> x"),
        ("a%20b%3D5 100%25 caf\\u00e9", "a%20b%3D5 100%25 caf\\u00e9"),
        ("bearer =S3cret", "bearer =<redacted>"),
        ("card=4111+1111+1111+1111&n=1", "card=<redacted>&n=1"),
        ("os.environ['API_KEY'] = 'S3cret'", "os.environ['API_KEY'] = <redacted>"),
        ("if x['password'] == y: use ['password']: z", "if x['password'] == y: use ['password']: z"),
        ("['login', '--password', 'S3cret = x', '--n']", "['login', '--password', <redacted>, '--n']"),
        ("['login', '--token', '--n', '5']", "['login', '--token', '--n', '5']"),
        ("login --password S3cret=x --n 5", "login --password <redacted> --n 5"),
        ("login --password = S3cret --n : 5", "login --password = <redacted> --n : 5"),
        ("login --api-key => 'S3cret' x", "login --api-key => <redacted> x"),
        ('"token=Bearer S3cret"|"auth=Basic S3cret"|"n=1"', '"token=<redacted>"|"auth=<redacted>"|"n=1"'),
        ("token=Basic S3cret'*'a=1 n=1", "token=<redacted> n=1"),
        ("`f(token='S3cret')`/`f(token='S3cret x')`", "`f(token=<redacted>)`/`f(token=<redacted>)`"),
        ("login --verbose token=S3cret", "login --verbose token=<redacted>"),
        ("password: !!str &it S3cret\nn: 1", "password: <redacted>\nn: 1"),
        ("password" + " " * 30 + ":" + " " * 30 + "S3cret x", "password" + " " * 30 + ":" + " " * 30 + "<redacted> x"),
        ('[\n        [\n                "password",\n                "S3cret"\n        ]\n]',
         '[\n        [\n                "password",\n                <redacted>\n        ]\n]'),
        ("password=S3,,S3cret;;S3cret, n=1", "password=<redacted>, n=1"),
        ("('password=S3'#S3cret', password=S3)!S3cret)", "('password=<redacted>', password=<redacted>)"),
        (r"'{\'q\': \'password=S3\'S3cret\'}'", r"'{\'q\': \'password=<redacted>\'}'"),
        ("PASSWORD='S3'\"'\"'S3cret x' login", "PASSWORD=<redacted> login"),
        ("https://ada:S3'cret@host/", "https://<redacted>@host/"),
        ('Cookie: a={"b": "c"}; d=\'S3cret\'; e="x\\"S3cret"; f=S3"cret\nA: b', "Cookie: <redacted>\nA: b"),
        ("curl -H \"Cookie: a='; b=S3cret\" -H 'Cookie: c=' -H 'D: e'",
         "curl -H \"Cookie: <redacted>\" -H 'Cookie: <redacted>' -H 'D: e'"),
        ("'Cookie: a=' was sent", "'Cookie: <redacted>' was sent"),
        (r"password=\"S3cret x", "password=<redacted>"),
        ("token=f(g(S3cret), S3cret) x", "token=<redacted> x"),
        ("token=f(S3cret (a) S3cret", "token=<redacted>"),
        ("token=f(')S3cret', \")S3cret\") x", "token=<redacted> x"),
        ('Cookie: "a b"\nwas sent', "Cookie: <redacted>\nwas sent"),
        ("{'a_session_console': 'S3cret', 'n': 1}", "{'<redacted>, 'n': 1}"),
        ("?a_session_console%3DS3cret&n=1", "?<redacted>&n=1"),
        (r"b'a: b\r\na_session_x-y\r\n'", r"b'a: b\r\n<redacted>\r\n'"),
    ],
)  # fmt: skip
def test_what_other_programs_write_goes_to_its_end(text: str, clean: str) -> None:
    """Values in JSON of PHP and .NET, FastAPI's errors, YAML, XML, SQL, CSV and encoded URLs go as a whole."""
    assert DEFAULT_REDACTION.clean(text) == DEFAULT_REDACTION.clean(clean) == clean
    assert (SUSPECT.search(text) is not None) or text == clean


LIST, MAPPING = {"api_keys": ["aaaaaaaa", "S3cret"]}, {"credentials": {"user": "ada", "pin": "S3cret"}}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/login?next=%2Fa%3Fpassword%3Dcorrect%2520horse%26b%3D2", "/login?next=%2Fa%3Fpassword%3D<redacted>%26b%3D2"),
        ("u=https%3A%2F%2Fbob%3Ap%2520w%40h", "u=https%3A%2F%2F<redacted>%40h"),
        (r"postgres:\/\/bob:qB%5CyE%22%3Dsc7D@db\/x", r"postgres:\/\/<redacted>@db\/x"),
        ("payload=" + quote_plus(json.dumps(MAPPING)), "payload=%7B%22credentials%22%3A+<redacted>%7D"),
        ("payload=" + quote_plus(json.dumps(LIST)), "payload=%7B%22api_keys%22%3A+<redacted>%7D"),
        ("a=Bearer+S3cretS3cret&b=2", "a=Bearer+<redacted>&b=2"),
        *((f"/cb?token={value}&z=1 failed: 503 for booking 17", "/cb?token=<redacted>&z=1 failed: 503 for booking 17")
          for value in ("ab%7Bcd", "%22abcd", "%28abcd", "x%5B1")),
        ("/?api%5Fkey=ab%7Bc%26d&z=1 failed", "/?api%5Fkey=<redacted>&z=1 failed"),
        (r'{"password": "abc\u0022", "user": "bob"}', '{"password": <redacted>, "user": "bob"}'),
        (r'{"url": "?password=ab\u003ccd\u0026y=2"}', r'{"url": "?password=<redacted>\u0026y=2"}'),
        ('password%3D"my secret pw"', "password%3D<redacted>"),
        ('password%3D"my secret pw" failed', "password%3D<redacted> failed"),
        ("%3Fpassword%3Dmy%20secret%20phrase%26next%3D1", "%3Fpassword%3D<redacted>%26next%3D1"),
        ("password%3Dab%0Acd failed", "password%3D<redacted> failed"),
        ("password%3Dab%2Ccd%3D9%26n=1", "password%3D<redacted>%26n=1"),
        ("password%3Dab%5Cncd&n=1", "password%3D<redacted>&n=1"),
        ("password%3D%22ab%26cd%22", "password%3D<redacted>"),
        ("password%3D%22ab%20cd&n=1 failed", "password%3D<redacted>&n=1 failed"),
        ("{'url': '?next=%3Fpassword%3DS3cret', 'n': 1}", "{'url': '?next=%3Fpassword%3D<redacted>', 'n': 1}"),
        ("%7B%22token%22%3A5%2C%22n%22%3A1%7D", "%7B%22token%22%3A5%2C%22n%22%3A1%7D"),
        ("%7B%22token%22:%22ab%20cd%22,%22n%22:1%7D", "%7B%22token%22:<redacted>,%22n%22:1%7D"),
    ],
)  # fmt: skip
def test_escapes_end_only_what_was_escaped_with_them(text: str, clean: str) -> None:
    """A value goes to the end that its own layer of escapes has: the escapes inside it end nothing."""
    assert DEFAULT_REDACTION.clean(text) == DEFAULT_REDACTION.clean(clean) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("- password: |\n    sec1\n  user: bob\n  id: 7\n", "- password: <redacted>\n  user: bob\n  id: 7\n"),
        ("ERROR config: password: |\n  line1\n\n  line2\n\nend", "ERROR config: password: <redacted>\n\nend"),
        ('"password": |\n  line1\n  line2\nend', '"password": <redacted>\nend'),
        ("password: | # comment\n  line1\nend", "password: <redacted>\nend"),
        ("password: !!str |\r\n  line1\r\nend", "password: <redacted>\r\nend"),
        ("cookie: >-\n  line1\n  line2", "cookie: <redacted>"),
        ("a: 1\nb:\n  password: |\n    line1\n  user: bob", "a: 1\nb:\n  password: <redacted>\n  user: bob"),
        ("\n  password: |\n    line1\n  user: bob", "\n  password: <redacted>\n  user: bob"),
    ],
)
def test_blocks_of_yaml_go_with_all_their_lines(text: str, clean: str) -> None:
    """All lines that are indented deeper than the line of the key belong to its block, and no other does."""
    assert DEFAULT_REDACTION.clean(text) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (r"<password>S3cret<\/password>", r"<password><redacted><\/password>"),
        ("<password><![CDATA[S3cret]]></password>", "<password><redacted></password>"),
        ("if a > b and c </token> d", "if a > b and c </token> d"),
        ("a -> b</session> x", "a -> b</session> x"),
        ("session -> b</session> x", "session -> b</session> x"),
        ("List<a>b</key>", "List<a>b</key>"),
    ],
)
def test_an_element_of_xml_has_both_its_tags(text: str, clean: str) -> None:
    """The content of a sensitive element goes; what only looks like the end of one stays."""
    assert DEFAULT_REDACTION.clean(text) == clean
    assert SUSPECT.search(text) is not None


def test_a_value_that_pydantic_shows_goes_to_its_end() -> None:
    """The value's own text doesn't end it, even where it reads like what pydantic writes after it."""
    text = "1 error\npassword\n  x [type=y, input_value='ab, input_type=cd', input_type=str]\nnext, input_type=int"
    shown = "1 error\npassword\n  x [type=y, input_value=<redacted>, input_type=str]\nnext, input_type=int"
    assert DEFAULT_REDACTION.clean(text) == shown


PIECES = [
    "password", "token", "auth", " ", "S3cret", "=", ":", "%3D", "%253D", "%22", "%26", "%20", r"\u003d", r"\u0022",
    r"\/", r"\\/", "/", "<", ">", "</", "+", "%3A", "%2C", '"', "'", ",", "&", "4111", "1111", "%31", "--", "eyJ", ".",
    "(", "[", "{", "\n", "|", "@", "%2F", "bearer", "-----BEGIN A-----", "a_session_", "%5F",
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example(r"<password>S3cret<\/password>")
def test_a_text_that_is_no_suspect_stays(text: str) -> None:
    """What the quick test passes over is a text that the scanner would leave as it is."""
    assert SUSPECT.search(text) is not None or clean(text, DEFAULT_REDACTION.sensitivity) == text


ENCODINGS: dict[str, Callable[[str], str]] = {
    "as it is": str, "a part of a URL": lambda text: quote(text, safe=""), "a path": quote, "a form": quote_plus,
    "JSON": lambda text: json.dumps({"body": text, "n": 1}), "JSON of PHP": lambda text: text.replace("/", r"\/"),
    "JSON of .NET": lambda text: json.dumps(text).replace("<", r"\u003c").replace(">", r"\u003e").replace(
        "&", r"\u0026").replace("'", r"\u0027"),
    "a redirect": lambda text: f"https://host/?next={quote(text, safe='')}&page=7",
}  # fmt: skip
HOLDERS: dict[str, Callable[[str], str]] = {
    "JSON": lambda value: json.dumps({"password": value, "n": 1}), "repr": lambda value: repr({"password": value}),
    "query": lambda value: f"https://host/?password={quote(value, safe='')}&n=1",
    "userinfo": lambda value: f"postgres://ada:{quote(value, safe='')}@db/x",
    "assignment": lambda value: f"password={json.dumps(value)} n=1",
}  # fmt: skip


@given(
    st.text('hunterHUNTER23456789 =&,;:/%+#@{}[]()<>"', min_size=4, max_size=16).map("Zq{}Zq".format),
    st.sampled_from(sorted(HOLDERS)), st.lists(st.sampled_from(sorted(ENCODINGS)), max_size=2),
)  # fmt: skip
def test_nothing_of_a_secret_stays_however_its_text_is_encoded(value: str, holder: str, encodings: list[str]) -> None:
    """Whatever is in a secret, neither its beginning nor its end stays, in layers of encodings; what follows does."""
    text = HOLDERS[holder](value)
    for encoding in encodings:
        text = ENCODINGS[encoding](text)
    kept = DEFAULT_REDACTION.clean(f"before {text} after 503")
    assert "Zq" not in kept
    assert kept.startswith("before ")
    assert kept.endswith(" after 503")
