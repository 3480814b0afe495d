"""What the embedded Appwrite server stores, finds and refuses: tables of values, queries, columns, indexes, bodies."""

from __future__ import annotations

import http.client
import json
from urllib.parse import quote

import pytest
from appwrite.operator import Operator

from booking_resilience.testing.appwrite_server import collation, dates, formats, php, search
from test_appwrite_server import GUEST, KEYS, ROWS, Wired, query

TABLE = ROWS.removesuffix("/rows")
NO_ARRAY = "because it is not an array, string, or object."
DATE = "Value must be valid date between 1000-01-01 00:00:00 and 9999-12-31 23:59:59."
LONG = "Value must be a valid signed 64-bit integer between -9,223,372,036,854,775,808 and 9,223,372,036,854,775,808"
SHORT = "Value must be a valid signed 32-bit integer between -2,147,483,648 and 2,147,483,647"
KINDS = {
    "varchar": {"size": 3},
    "text": {},
    "integer": {},
    "small": {"type": "integer", "min": 0, "max": 5},
    "bigint": {},
    "float": {},
    "low": {"type": "float", "max": 1.5},
    "boolean": {},
    "datetime": {},
    "enum": {"elements": ["a", "b"]},
    "email": {},
    "url": {},
    "ip": {},
    "point": {},
}


@pytest.fixture
def typed(appwrite_server):
    """A server with a column of each kind, and an array of each."""
    columns = {}
    for name, facts in KINDS.items():
        columns[name] = {"type": name, "required": False, **facts}
        if name not in ("point", "low", "small"):
            columns[f"{name}s"] = {**columns[name], "array": True}
    return Wired(appwrite_server, columns)


REFUSED = [
    ("varchar", "abcd", "type. Value must be a valid string and no longer than 3 chars"),
    ("varchar", 1, "type. Value must be a valid string and no longer than 3 chars"),
    ("text", 5, "type. Value must be a valid string and no longer than 16383 chars"),
    ("integer", 2**63, f"format. {LONG}"),
    ("integer", 1.0, f"format. {LONG}"),
    ("integer", "1", f"format. {LONG}"),
    ("integer", True, f"format. {LONG}"),
    ("small", 2**40, f"format. {SHORT}"),
    ("small", 6, "format. Value must be a valid range between 0 and 5"),
    ("bigint", 1.5, f"format. {LONG.removesuffix('8')}7"),
    ("float", "1", "format. Value must be a valid float"),
    ("float", True, "format. Value must be a valid float"),
    ("low", 1.6, "2"),
    ("boolean", 1, "type. Value must be a valid boolean"),
    ("boolean", "true", "type. Value must be a valid boolean"),
    ("datetime", "soon", f"type. {DATE}"),
    ("datetime", "0999-12-31", f"type. {DATE}"),
    ("datetime", 5, f"type. {DATE}"),
    ("enum", "A", "format. Value must be one of (a, b)"),
    ("enum", 1, "format. Value must be a valid string and no longer than 255 chars"),
    ("email", "a@b", "format. Value must be a valid email address"),
    ("email", "a@1.2.3.4", "format. Value must be a valid email address"),
    ("email", '"a b"@c.de', "format. Value must be a valid email address"),
    ("email", '"a@b"@c.de', "format. Value must be a valid email address"),
    ("email", 1, "format. Value must be a valid string and no longer than 254 chars"),
    ("url", "javascript:1", "format. Value must be a valid URL"),
    ("url", "http://ü.de", "format. Value must be a valid URL"),
    ("ip", "01.2.3.4", "format. Value must be a valid IP address"),
    ("ip", "fe80::1%eth0", "format. Value must be a valid IP address"),
    ("point", [1], "type. Point must be an array of two numeric values"),
]


@pytest.mark.parametrize(("name", "value", "says"), REFUSED)
def test_a_value_that_does_not_fit_is_refused_in_the_real_servers_words(typed, name, value, says):
    """Of a column, and of an array of its kind, which names the place."""
    status, _, body = typed.ask("POST", ROWS, {"rowId": "r1", "data": {name: value}})
    assert (status, body["type"]) == (400, "row_invalid_structure")
    assert body["message"].startswith(f'Invalid document structure: Attribute "{name}" has invalid ')
    assert body["message"].endswith(says)
    if name not in ("point", "low", "small"):
        body = typed.ask("POST", ROWS, {"rowId": "r1", "data": {f"{name}s": [None, value]}})[2]
        assert f"\"{name}s['1']\" has invalid " in body["message"]
        assert body["message"].endswith(says)


STORED = [
    ("varchar", "日本🚀", "日本🚀"),
    ("varchar", "a\0b", "a\0b"),
    ("varchar", "x  ", "x  "),
    ("integer", -(2**63), -(2**63)),
    ("bigint", 2**63 - 1, 2**63 - 1),
    ("float", -0.0, 0),
    ("float", 1e308, 1e308),
    ("float", 12345678901234567890, 1.2345678901234567e19),
    ("datetime", "Sun, 01 Mar 2026 10:00:00 +0000", "2026-03-01T10:00:00.000+00:00"),
    ("datetime", "2026-03-01 10:00:00 UTC", "2026-03-01T10:00:00.000+00:00"),
    ("datetime", "@1764000000", "2025-11-24T16:00:00.000+00:00"),
    ("datetime", "2026-02-30T00:00:00Z", "2026-03-02T00:00:00.000+00:00"),
    ("url", "ftp://x.y", "ftp://x.y"),
    ("email", "a.b+c@d-e.example", "a.b+c@d-e.example"),
    ("email", " a@b.c ", " a@b.c "),
    ("email", 'a."b".c@[1.2.3.4]', 'a."b".c@[1.2.3.4]'),
    ("url", "mailto:", "mailto:"),
    ("ip", "::1", "::1"),
    ("point", [1.5, 2], [1.5, 2]),
]


@pytest.mark.parametrize(("name", "value", "stored"), STORED)
def test_a_value_that_fits_is_stored_as_the_real_server_stores_it(typed, name, value, stored):
    """Of a column and of an array; null is stored everywhere."""
    status, _, body = typed.ask("POST", ROWS, {"rowId": "r1", "data": {name: value}})
    assert (status, body.get(name)) == (201, stored)
    assert typed.ask("GET", f"{ROWS}/r1")[2][name] == stored
    if name != "point":
        body = typed.ask("PATCH", f"{ROWS}/r1", {"data": {f"{name}s": [value, None]}})[2]
        assert body[f"{name}s"] == [stored, None]
    assert typed.ask("PATCH", f"{ROWS}/r1", {"data": {name: None}})[2][name] is None


MOMENTS = [
    ("2026-12-01T09:00", "2026-12-01T09:00:00.000+00:00"),
    ("2026-12-01T09:00:00.999999-11:30", "2026-12-01T20:30:00.999+00:00"),
    ("20261201T090000Z", "2026-12-01T09:00:00.000+00:00"),
    ("12/01/2026", "2026-12-01T00:00:00.000+00:00"),
    ("01.12.2026", "2026-12-01T00:00:00.000+00:00"),
    ("1 December 2026 9pm", "2026-12-01T21:00:00.000+00:00"),
    ("Dec 1st, 2026", "2026-12-01T00:00:00.000+00:00"),
    ("2026-W05-1", "2026-01-26T00:00:00.000+00:00"),
    ("2026-12-01T23:59:60Z", "2026-12-02T00:00:00.000+00:00"),
    ("2026-12-01 10:00 Europe/Berlin", "2026-12-01T09:00:00.000+00:00"),
    ("2026-12-01 +1 week 2 days ago", "2026-11-22T00:00:00.000+00:00"),
    ("2026-12-01 - 1 day --2 hours", "2026-11-30T02:00:00.000+00:00"),
    ("2026-12-01T9:5:7Z", "2026-12-01T09:05:07.000+00:00"),
    ("2026-12-01 09.30 pm", "2026-12-01T21:30:00.000+00:00"),
    ("2026-12-01T09Z", "2026-12-01T09:00:00.000+00:00"),
    ("20261201090000", "2026-12-01T09:00:00.000+00:00"),
    ("2026-336", "2026-12-02T00:00:00.000+00:00"),
    ("26-12-01", "2026-12-01T00:00:00.000+00:00"),
    ("Dec-01-2026", "2026-12-01T00:00:00.000+00:00"),
    ("2026 Dec", "2026-12-01T00:00:00.000+00:00"),
    ("Tuesday, 01-Dec-26 09:00:00 UTC", "2026-12-01T09:00:00.000+00:00"),
    ("Wed, 01 Dec 2026 09:00:00 GMT", "2026-12-02T09:00:00.000+00:00"),
    ("Tue Dec 1 09:00:00 2026", "2026-12-01T09:00:00.000+00:00"),
    ("01/Dec/2026:09:00:00 +0100", "2026-12-01T08:00:00.000+00:00"),
    ("2026:12:01 09:00:00", "2026-12-01T09:00:00.000+00:00"),
    ("2026-12-01T09:00:00+15:00", "2026-11-30T18:00:00.000+00:00"),
    ("2026-12-01T09:00:00Z+1", "2026-12-01T09:00:00.000+00:00"),
    ("2026-12-01 09:00 tomorrow", "2026-12-02T00:00:00.000+00:00"),
    ("first day of 2026-12-15", "2026-12-01T00:00:00.000+00:00"),
    ("last day of 2026-02-01", "2026-02-28T00:00:00.000+00:00"),
    ("@-0.5", "1969-12-31T23:59:59.500+00:00"),
]


@pytest.mark.parametrize(("text", "stored"), MOMENTS)
def test_moments_are_read_as_php_reads_them(text, stored):
    """ISO 8601, RFC 850 and 2822, logs, Unix seconds, English; what PHP 8.2 says of each."""
    assert dates.stored(text) == stored


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "2026-13-01",
        "25:00",
        "10000-01-01T00:00:00Z",
        "-0001-01-01",
        "nope",
        "2026-12-01T09:00+99:00",
        "@x",
        "13pm",
        "2026-12-01T09:00:00,5Z",
        "2026-12-01 2026-12-01",
        "2026-W01 2026-01-01",
        "2026-12-001",
        "9:00 10:00",
        "2026-W60",
        "thurs",
        "1764000000",
    ],
)
def test_what_is_no_moment_is_refused(text):
    """A `ValueError`."""
    with pytest.raises(ValueError, match=r"\w"):
        dates.parse(text)


def test_words_name_moments_from_now_on():
    """Now, and midnights and weekdays near it."""
    now = dates.parse("now")
    assert abs((dates.parse("") - now).total_seconds()) < 60
    assert (dates.parse("tomorrow") - dates.parse("yesterday")).days == 2
    assert dates.parse("noon").hour == 12
    assert dates.parse("next monday").weekday() == dates.parse("last monday").weekday() == 0
    assert 23 <= (dates.parse("+1 day") - now).total_seconds() / 3600 <= 25


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Ä", "a", True),
        ("straße", "strase", True),
        ("x  ", "x", True),
        (" x", "x", False),
        ("🚀", "👨", True),
        ("é", "e\u0301", False),
        ("日", "本", False),
    ],
)
def test_text_is_equal_as_the_collation_says(left, right, same):
    """MariaDB's utf8mb4_general_ci: no letter case, no accents, no trailing blanks, one weight beyond U+FFFF."""
    assert (collation.collated(left) == collation.collated(right)) == same


def test_text_is_ordered_as_the_collation_says():
    """What is below the blank sorts before what ends there."""
    texts = ["b", "A_", "a", "Á1", "a\0b", "a b"]
    assert sorted(texts, key=collation.collated) == ["a\0b", "a", "a b", "Á1", "A_", "b"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("quick", "r0 r1"),
        ("QUI", "r0 r1"),
        ("uick", ""),
        ("lazy quick", "r0 r1 r2"),
        ('"brown fox"', "r0"),
        ('"fox brown"', ""),
        ("the", ""),
        ("", ""),
        ("+-*", ""),
        ("söme", "r2"),
    ],
)
def test_search_finds_words_prefixes_and_phrases(wanted, found):
    """Any of the words, the last one as a prefix; a phrase in its order; no stop words, nothing for nothing."""
    texts = {"r0": "The quick brown fox", "r1": "brown and quick", "r2": "some LAZY dog's tale"}
    finds = search.finder(wanted)
    assert [key for key, text in texts.items() if finds(text)] == found.split()


def test_search_needs_an_index_of_its_own(appwrite_server):
    """Without a full-text index on that column alone it is a 400 in the real server's words; nested, too."""
    wired = Wired(appwrite_server, {"a": {"type": "text", "required": False}, "b": {"type": "text", "required": False}})
    wired.ask("POST", ROWS, {"rowId": "r1", "data": {"a": "quick fox", "b": "dog"}})
    both = {"key": "both", "type": "fulltext", "columns": ["a", "b"]}
    assert wired.ask("POST", f"{TABLE}/indexes", both)[0] == 202
    assert wired.listed(query("search", "a", "quick")) == "general_query_invalid"
    assert wired.ask("POST", f"{TABLE}/indexes", {"key": "one", "type": "fulltext", "columns": ["a"]})[0] == 202
    assert wired.listed(query("search", "a", "quick")) == ["r1"]
    assert wired.listed(query("notSearch", "a", "quick")) == []
    nested = query("or", None, json.loads(query("search", "b", "dog")), json.loads(query("isNull", "a")))
    assert wired.listed(nested) == "general_query_invalid"


OPERATORS = [
    ("lessThan", "integer", [1, 2], "LessThan queries require exactly one value."),
    ("notEqual", "varchar", [], "NotEqual queries require exactly one value."),
    ("between", "float", [1], "Between queries require exactly two values."),
    ("contains", "varchar", [], "Contains queries require at least one value."),
    ("equal", "varchar", [1], 'Query value is invalid for attribute "varchar"'),
    ("equal", "integer", ["1"], 'Query value is invalid for attribute "integer"'),
    ("equal", "float", [True], 'Query value is invalid for attribute "float"'),
    ("equal", "boolean", [1], 'Query value is invalid for attribute "boolean"'),
    ("greaterThan", "datetime", ["nope"], 'Query value is invalid for attribute "datetime"'),
    ("startsWith", "integer", ["1"], 'Query value is invalid for attribute "integer"'),
    ("equal", "varchar", [None], 'Query value is invalid for attribute "varchar"'),
    ("equal", "$sequence", ["x"], 'Query value is invalid for attribute "$sequence"'),
    ("greaterThan", "$sequence", [0], 'Query value is invalid for attribute "$sequence"'),
    ("equal", "$sequence", ["1.5"], 'Query value is invalid for attribute "$sequence"'),
    ("equal", "$createdAt", ["x"], 'Query value is invalid for attribute "$createdAt"'),
    ("contains", "integer", [1], f'Cannot query contains on attribute "integer" {NO_ARRAY}'),
    ("containsAll", "datetime", ["now"], f'Cannot query contains on attribute "datetime" {NO_ARRAY}'),
    ("notContains", "boolean", [True], f'Cannot query notContains on attribute "boolean" {NO_ARRAY}'),
    *(
        (method, "varchars", ["a"] * (1 + (method == "between")),
         f'Cannot query {method} on attribute "varchars" because it is an array.')
        for method in ("equal", "notEqual", "lessThan", "between", "startsWith", "notEndsWith", "search")
    ),
    ("touches", "varchar", [[1, 2]], 'Spatial query "touches" cannot be applied on non-spatial attribute: varchar'),
    ("vectorDot", "varchar", [[1]], "Vector queries can only be used on vector attributes"),
    ("elemMatch", "varchar", [], "elemMatch is not supported by the database"),
    ("equal", "$permissions", ["x"], "Attribute not found in schema: $permissions"),
    ("equal", "a.b", ["x"], "Attribute not found in schema: a"),
    ("orderAsc", "varchar.a", [], "Cannot order by nested attribute: varchar"),
    ("orderDesc", "a.b", [], "Attribute not found in schema: a"),
    ("limit", None, ["x"], "Invalid limit: Value must be a valid number"),
    ("limit", None, ["\u0665"], "Invalid limit: Value must be a valid number"),
    ("limit", None, [], "Invalid limit: Value must be a valid number"),
    ("limit", None, [1.5], "Invalid limit: Value must be a valid range between 1 and 9,223,372,036,854,775,807"),
    ("offset", None, [-1], "Invalid offset: Value must be a valid range between 0 and 9,223,372,036,854,775,807"),
    ("select", None, [], "No attributes selected"),
    ("select", None, ["varchar", "varchar"], "Duplicate attributes selected"),
    ("or", None, [{"method": "isNull", "attribute": "text"}], "Or queries require at least two queries"),
    ("and", None, [{"method": "limit", "values": [1]}] * 2, "And queries can only contain filter queries"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "attribute", "values", "says"), OPERATORS)
def test_a_query_that_cannot_be_is_refused_in_the_real_servers_words(typed, method, attribute, values, says):
    """Each operator by the kind of its column, the number of its values and what they are."""
    status, _, body = typed.ask("GET", f"{ROWS}?queries[0]={http_quoted(query(method, attribute, *values))}")
    assert (status, body["type"], body["message"]) == (400, "general_query_invalid", f"Invalid query: {says}")


def test_a_pattern_that_the_database_cannot_read_is_its_error(typed):
    """A 500, also of a table without rows, as of every query that MariaDB refuses too late."""
    for pattern in ("[", "*", "(a", "a{99999999999999999999}"):
        status, _, body = typed.ask("GET", f"{ROWS}?queries[0]={http_quoted(query('regex', 'varchar', pattern))}")
        assert (status, body["type"]) == (500, "general_unknown")


def test_an_integer_that_is_increased_by_a_fraction_stays_whole(typed):
    """The answer tells the sum, the column keeps it rounded; a float keeps it as it is."""
    typed.ask("POST", ROWS, {"rowId": "r1", "data": {"integer": 1, "float": 1}})
    for key, told, kept in (("integer", 1.75, 2), ("float", 1.75, 1.75)):
        assert typed.ask("PATCH", f"{ROWS}/r1/{key}/increment", {"value": 0.75})[2][key] == told
        assert typed.ask("GET", f"{ROWS}/r1")[2][key] == kept


def test_a_number_grows_no_larger_than_its_column_can_keep(typed):
    """Then the answer is that of a bound, which isn't named; nothing has changed."""
    typed.ask("POST", ROWS, {"rowId": "r1", "data": {"small": 1, "integer": 1, "float": 1}})
    for key, value in (("small", 2**31 - 1), ("integer", 2**63 - 1)):
        status, _, body = typed.ask("PATCH", f"{ROWS}/r1/{key}/increment", {"value": value})
        assert (status, body["type"]) == (400, "column_limit_exceeded")
        assert body["message"].endswith("has reached the maximum value of ")
        assert typed.ask("GET", f"{ROWS}/r1")[2][key] == 1
    assert typed.ask("PATCH", f"{ROWS}/r1/float/increment", {"value": 1e300})[0] == 200


def test_data_that_hold_no_row_trip_the_server(typed):
    """JSON in a text that is a number or a text is a 500; what PHP takes for empty is no data."""
    for text, status in (("5", 500), ("true", 500), ('"x"', 500), ("0", 400), ("null", 400), ('""', 400), ("[]", 400)):
        assert typed.ask("POST", ROWS, {"rowId": "r1", "data": text})[0] == status, text
        assert typed.ask("PATCH", f"{ROWS}/r1", {"data": text})[0] == status, text


def test_operators_in_data_are_refused_and_not_stored_as_text(typed):
    """By every route that takes data; other JSON in a text is text."""
    text = {"text": Operator.string_concat("x")}
    staged = {"action": "update", "databaseId": "d", "tableId": "t", "rowId": "r1", "data": text}
    typed.ask("POST", ROWS, {"rowId": "r1", "data": {"text": '{"method":"none"}'}})
    place = typed.ask("POST", "/v1/tablesdb/transactions", {})[2]["$id"]
    for method, path, body in (
        ("POST", ROWS, {"rowId": "r2", "data": text}),
        ("POST", ROWS, {"rows": [text]}),
        ("PATCH", f"{ROWS}/r1", {"data": {"integer": Operator.increment(2)}}),
        ("PUT", f"{ROWS}/r1", {"data": text}),
        ("PATCH", ROWS, {"data": text}),
        ("PUT", ROWS, {"rows": [text]}),
        ("POST", f"/v1/tablesdb/transactions/{place}/operations", {"operations": [staged]}),
    ):
        assert typed.ask(method, path, body)[0] == 501, (method, path)
    assert typed.ask("GET", ROWS)[2]["rows"][0]["text"] == '{"method":"none"}'


def http_quoted(text):
    """Return a text as it stands in a path."""
    return quote(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5", "Invalid query. Must be an array, got integer"),
        ("null", "Invalid query. Must be an array, got NULL"),
        ('"x"', "Invalid query. Must be an array, got string"),
        ("1.5", "Invalid query. Must be an array, got double"),
        ("[]", "Invalid query method: "),
        ('{"method":5}', "Invalid query method. Must be a string, got integer"),
        ('{"method":"EQUAL"}', "Invalid query method: EQUAL"),
        ('{"method":"equal","attribute":[]}', "Invalid query attribute. Must be a string, got array"),
        ('{"method":"equal","attribute":"text","values":"x"}', "Invalid query values. Must be an array, got string"),
        ('{"method":"equal","attribute":"text"', "Invalid query: Syntax error"),
    ],
)
def test_what_is_no_query_is_refused_in_the_real_servers_words(typed, text, says):
    """By PHP's names of types."""
    body = typed.ask("GET", f"{ROWS}?queries[0]={http_quoted(text)}")[2]
    assert (body["type"], body["message"]) == ("general_query_invalid", says)


PERMISSIONS = [
    ('read("user")', 'Role "user" must have an ID value.'),
    ('read("any:x")', 'Role "any" can not have an ID value.'),
    ('read("guests/x")', 'Role "guests" can not have a dimension value.'),
    ('read("users/old")', 'Role "users" dimension value is invalid. Must be one of: verified, unverified.'),
    ('read("team:a/b/c")', "Only one dimension can be provided"),
    ('read("team:a/")', "Dimension must not be empty"),
    ('read("nobody")', 'Role "nobody" is not allowed. Must be one of: any, guests, users, user, team, member, label.'),
    ("read(any)", 'Invalid permission string format: "read(any)".'),
    ('create("any")', 'Permission "create("any")" is not allowed. Must be one of: read, update, delete, write.'),
    (5, "Every permission must be of type string."),
]


@pytest.mark.parametrize(("permission", "says"), PERMISSIONS)
def test_a_permission_that_cannot_be_is_refused(typed, permission, says):
    """In the real server's words."""
    body = typed.ask("POST", ROWS, {"rowId": "r1", "data": {"text": "x"}, "permissions": [permission]})[2]
    assert body["message"].removesuffix(" or null") == f"Invalid `permissions` param: {says}"


def test_write_is_spread_out_and_repetitions_go(typed):
    """`write` of a row is update and delete."""
    given = ['read("any")', 'write("any")', 'read("any")', 'update("any")']
    body = typed.ask("POST", ROWS, {"rowId": "r1", "data": {"text": "x"}, "permissions": given})[2]
    assert body["$permissions"] == ['read("any")', 'update("any")', 'delete("any")']


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("columns/varchar", {"key": "TEXT", "size": 5, "required": False}, 409, "column_already_exists"),
        ("columns/varchar", {"key": "k", "size": 16_382, "required": False}, 400, "general_argument_invalid"),
        ("columns/string", {"key": "k", "size": 16_384, "required": False}, 202, None),
        ("columns/text", {"key": "k", "required": True, "default": "x"}, 400, "column_default_unsupported"),
        ("columns/varchar", {"key": "k", "size": 1, "required": False, "default": "xx"}, 400, "column_value_invalid"),
        ("columns/varchar", {"key": "k", "size": 149, "required": False, "encrypt": True}, 400, "general_bad_request"),
        ("columns/varchar", {"key": "k", "size": 150, "required": False, "encrypt": True}, 202, None),
        ("columns/integer", {"key": "k", "required": False, "min": 5, "max": 1}, 400, "column_value_invalid"),
        ("columns/float", {"key": "k", "required": False, "min": 5, "default": 1}, 400, "column_value_invalid"),
        ("columns/boolean", {"key": "k", "required": False, "default": 1}, 400, "general_argument_invalid"),
        ("columns/text", {"key": "k", "required": False, "default": "x", "array": True}, 400,
         "column_default_unsupported"),
        ("columns/enum", {"key": "k", "required": False, "elements": []}, 202, None),
        ("columns/enum", {"key": "k", "required": False, "elements": ["a"], "default": "b"}, 400,
         "column_value_invalid"),
        ("columns/email", {"key": "k", "required": False, "default": "x"}, 400, "general_argument_invalid"),
        ("columns/relationship", {"relatedTableId": "nope", "type": "oneToOne"}, 404, "table_not_found"),
        ("columns/relationship", {"relatedTableId": "t", "type": "many"}, 400, "general_argument_invalid"),
        ("indexes", {"key": "i", "type": "key", "columns": []}, 400, "column_index_invalid"),
        ("indexes", {"key": "i", "type": "key", "columns": ["integer", "Integer"]}, 400, "column_unknown"),
        ("indexes", {"key": "i", "type": "key", "columns": ["integer", "integer"]}, 400, "column_index_invalid"),
        ("indexes", {"key": "i", "type": "key", "columns": ["text"]}, 400, "column_index_invalid"),
        ("indexes", {"key": "i", "type": "key", "columns": ["text"], "lengths": [768]}, 202, None),
        ("indexes", {"key": "i", "type": "key", "columns": ["varchar"], "lengths": [4]}, 400, "column_index_invalid"),
        ("indexes", {"key": "i", "type": "key", "columns": ["integer"], "lengths": [4]}, 400, "column_index_invalid"),
        ("indexes", {"key": "i", "type": "fulltext", "columns": ["integer"]}, 400, "column_index_invalid"),
        ("indexes", {"key": "i", "type": "unique", "columns": ["varchars"]}, 400, "column_index_invalid"),
        ("indexes", {"key": "i", "type": "spatial", "columns": ["varchar"]}, 400, "column_index_invalid"),
        ("indexes", {"key": "i", "type": "key", "columns": ["varchar"], "orders": ["UP"]}, 400,
         "general_argument_invalid"),
    ],
)  # fmt: skip
def test_a_column_or_index_that_cannot_be_is_refused(typed, path, body, status, kind):
    """With the type that the real server's errors have."""
    found, _, answer = typed.ask("POST", f"{TABLE}/{path}", body)
    assert (found, answer["type"] if kind else None) == (status, kind), answer


def test_a_unique_index_over_rows_that_clash_fails(typed):
    """Its state says so, and rows go on as before; over rows that don't it works."""
    for number, text in enumerate(("a", "Á ", "b")):
        typed.ask("POST", ROWS, {"rowId": f"r{number}", "data": {"varchar": text, "integer": number}})
    for key in ("varchar", "integer"):
        typed.ask("POST", f"{TABLE}/indexes", {"key": key, "type": "unique", "columns": [key]})
    states = [typed.ask("GET", f"{TABLE}/indexes/{key}")[2]["status"] for key in ("varchar", "integer")]
    assert states == ["failed", "available"]
    assert typed.ask("POST", ROWS, {"rowId": "r4", "data": {"varchar": "a"}})[0] == 201
    assert typed.ask("POST", ROWS, {"rowId": "r5", "data": {"integer": 1}})[0] == 409


def test_columns_and_tables_can_be_changed(typed):
    """A column's default, size and key; what is there must fit; an index keeps its column; a table's name."""
    typed.ask("POST", ROWS, {"rowId": "r1", "data": {"varchar": "abc"}})
    change = {"required": False, "default": None, "size": 2}
    assert typed.ask("PATCH", f"{TABLE}/columns/varchar/varchar", change)[2]["type"] == "column_invalid_resize"
    for size in ("many", [5], {"a": 1}):
        answer = typed.ask("PATCH", f"{TABLE}/columns/varchar/varchar", {**change, "size": size})[2]
        assert answer["type"] == "general_argument_invalid"
    change = {"required": False, "default": "x", "size": 5, "newKey": "name"}
    assert typed.ask("PATCH", f"{TABLE}/columns/varchar/varchar", change)[2]["key"] == "name"
    assert typed.ask("GET", f"{ROWS}/r1")[2]["name"] == "abc"
    assert typed.ask("POST", ROWS, {"rowId": "r2", "data": {"text": "y"}})[2]["name"] == "x"
    assert typed.ask("PATCH", f"{TABLE}/columns/integer/name", {"required": False, "default": None})[0] == 400
    for key, columns in (("i", ["name"]), ("j", ["name", "integer"])):
        body = {"key": key, "type": "unique", "columns": columns}
        assert typed.ask("POST", f"{TABLE}/indexes", body)[0] == 202
    assert typed.ask("DELETE", f"{TABLE}/columns/name")[0] == 204
    indexes = typed.ask("GET", f"{TABLE}/indexes")[2]["indexes"]
    assert [(index["key"], index["columns"]) for index in indexes] == [("j", ["integer"])]
    assert typed.ask("PUT", TABLE, {"name": "New", "enabled": False})[2]["name"] == "New"
    assert typed.ask("GET", f"{ROWS}/r1", headers=GUEST)[2]["type"] == "table_not_found"
    assert typed.ask("PUT", "/v1/tablesdb/d", {"name": "New"})[2]["name"] == "New"


def test_a_relationship_is_kept_by_its_id(appwrite_server):
    """It is nested in the answer to a write, absent otherwise unless it is selected; bulk requests refuse it."""
    wired = Wired(appwrite_server)
    wired.create("other")
    assert (
        wired.ask("POST", f"{TABLE}/columns/relationship", {"relatedTableId": "t", "type": "manyToOne", "key": "rel"})[
            0
        ]
        == 202
    )
    status, body = wired.create("r1", rel="other")
    assert (status, body["rel"]["$id"]) == (201, "other")
    assert "rel" not in wired.ask("GET", f"{ROWS}/r1")[2]
    selected = wired.ask("GET", f"{ROWS}/r1?queries[0]={http_quoted(query('select', None, '*', 'rel.*'))}")[2]
    assert selected["rel"]["$id"] == "other"
    assert wired.create("r2", rel=5)[1]["type"] == "relationship_value_invalid"
    assert wired.ask("POST", ROWS, {"rows": [{"slot": "S"}]})[2]["type"] == "general_bad_request"


MULTIPART = (
    b'--B\r\nContent-Disposition: form-data; name="rowId"\r\n\r\nr1\r\n--B\r\nContent-Disposition: form-data; '
    b'name="data"\r\n\r\n{"text":"x"}\r\n--B--\r\n'
)
BODIES = [
    (b'{"rowId":"r1","data":{"text":"x"}}', "application/json", 201),
    (b'{"rowId":"r1","data":{"text":"x"}}', "application/json;", 201),
    (b'{"rowId":"r1","data":{"text":"x"}}', "Application/JSON", 400),
    (b'{"rowId":"r1","data":{"text":"x"}}', "text/json", 400),
    (b'{"rowId":"r1","data":{"text":"x"}}', "", 400),
    (b'\xef\xbb\xbf{"rowId":"r1","data":{"text":"x"}}', "application/json", 400),
    ('{"rowId":"r1","data":{"text":"x"}}'.encode("utf-16"), "application/json", 400),
    (b'{"rowId":"r1","data":{"text":"\xff"}}', "application/json", 400),
    (b'{"rowId":"r1","data":{"text":"\\ud83d"}}', "application/json", 400),
    (b'{"rowId":"r1","data":{"text":NaN}}', "application/json", 400),
    (b"null", "application/json", 400),
    (b"0", "application/json", 400),
    (b"[]", "application/json", 400),
    (b"true", "application/json", 500),
    (b"5", "application/json", 500),
    (b'"x"', "application/json", 500),
    (b'{"rowId":"r1","x":' + b"[" * 510 + b"]" * 510 + b',"data":{"text":"x"}}', "application/json", 201),
    (b'{"rowId":"r1","x":' + b"[" * 600 + b"]" * 600 + b',"data":{"text":"x"}}', "application/json", 400),
    (b'{"rowId":"r0","rowId":"r1","data":{"text":"y","text":"x"}}', "application/json", 201),
    (b"rowId=r1&data[text]=x", "application/x-www-form-urlencoded", 201),
    (b"x", "multipart/form-data", 400),
    (MULTIPART, "multipart/form-data; boundary=B", 201),
]


@pytest.mark.parametrize(("raw", "kind", "status"), BODIES)
def test_bodies_are_read_as_php_reads_them(typed, raw, kind, status):
    """Content types to the letter, UTF-8 without a mark, 512 levels, the last of equal keys; forms, too."""
    connection = http.client.HTTPConnection("127.0.0.1", typed.port, timeout=10)
    connection.request("POST", ROWS, raw, {**KEYS, "content-type": kind})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == status, body
    if status == 201:
        assert typed.ask("GET", f"{ROWS}/r1")[2]["text"] == "x"


def test_headers_are_those_of_the_real_server(typed):
    """Only errors forbid caching; a preflight echoes its origin; the root leads to the console."""
    _, found, _ = typed.ask("GET")
    assert (found["X-Content-Type-Options"], found["Cache-Control"]) == ("nosniff", None)
    assert typed.ask("GET", f"{ROWS}/nope")[1]["Cache-Control"] == "no-cache, no-store, must-revalidate"
    status, found, body = typed.ask("OPTIONS", ROWS, headers={"Origin": "http://evil.test"})
    assert (status, body, found["Access-Control-Allow-Origin"]) == (204, b"", "http://evil.test")
    assert typed.ask("GET", headers={**KEYS, "Origin": "http://localhost:3000"})[1]["Access-Control-Allow-Origin"]
    assert typed.ask("GET", "/")[1]["Location"] == "/console/"
    assert typed.ask("HEAD", f"{ROWS}/nope")[::2] == (404, b"")
    status, found, _ = typed.ask("POST", ROWS, headers={**KEYS, "content-type": "multipart/form-data"})
    assert (status, found["Server"], found["Content-Type"]) == (400, None, None)
    assert typed.ask("GET", "/v1/ping")[::2] == (200, b"Pong!")


def test_a_list_may_be_kept_for_a_while(typed):
    """With `ttl` a list is answered from memory, stale as it is, as the real server does."""
    path = f"{ROWS}?ttl=60"
    assert typed.ask("GET", path)[2]["total"] == 0
    typed.ask("POST", ROWS, {"rowId": "r1", "data": {"text": "x"}})
    assert typed.ask("GET", path)[2]["total"] == 0
    assert typed.ask("GET")[2]["total"] == 1
    assert typed.ask("GET", f"{ROWS}?ttl=x")[2]["type"] == "general_argument_invalid"


def test_php_reads_queries_and_numbers_its_way():
    """Brackets make arrays; numbers have commas and round away from zero; types have PHP's names."""
    assert php.parse_query("a[]=1&a[]=2&b[x][y]=3&c=4&c=5&=6&d.e=%20") == {
        "a": {"0": "1", "1": "2"}, "b": {"x": {"y": "3"}}, "c": "5", "d_e": " ",
    }  # fmt: skip
    assert [php.formatted(value) for value in (1234, -1.5, 2.5, 1e22)] == [
        "1,234",
        "-2",
        "3",
        "10,000,000,000,000,000,000,000",
    ]
    assert [php.type_of(value) for value in (1, 1.0, True, None, "", [], {})] == [
        "integer", "double", "boolean", "NULL", "string", "array", "array",
    ]  # fmt: skip
    assert php.decode("123456789012345678901") == 1.2345678901234568e20
    assert formats.is_url("mailto:a@b.example")
    assert not formats.is_url("http://a_b.example")


FOUND = [
    (query("containsAll", "varchar", "a%", "zz"), "r0 r1"),
    (query("containsAll", "varchar", "_b"), "r1"),
    (query("contains", "varchar", "%"), "r2"),
    (query("contains", "varchar", "B"), "r1"),
    (query("regex", "varchar", "^A"), "r0 r1"),
    (query("regex", "integer", 2), "r1"),
    (query("regex", "boolean", True), "r0"),
    (query("startsWith", "boolean", True), "r0"),
    (query("startsWith", "integer", 1), "r0 r1"),
    (query("notContains", "varchar", "b"), "r0 r2"),
    (query("notBetween", "integer", 1, 5), "r1"),
    (query("notEqual", "integer", 1), "r1"),
    (query("contains", "varchars", "X"), ""),
    (query("contains", "integers", 1), "r0"),
    (query("notContains", "varchars", "x"), "r1"),
    (query("equal", "datetime", "2026-01-01T02:00:00+02:00"), "r0"),
    (query("notEqual", "datetime", "2026-01-01"), ""),
    (query("greaterThan", "$createdAt", "2000-01-01"), "r0 r1 r2"),
    (query("equal", "$sequence", "1", 3), "r0 r2"),
    (query("orderDesc", "varchars"), "r1 r0 r2"),
    (query("orderAsc", "varchar"), "r2 r0 r1"),
]


def test_filters_find_what_the_database_finds(typed):
    """Patterns, nulls that fit nothing, arrays by letter case, moments in any zone, orders by the collation."""
    for data in (
        {"varchar": "a", "integer": 1, "boolean": True, "varchars": ["x"], "integers": [1], "datetime": "2026-01-01"},
        {"varchar": "AB", "integer": 12, "varchars": ["y"]},
        {"varchar": "%"},
    ):
        assert typed.ask("POST", ROWS, {"rowId": f"r{len(typed.listed())}", "data": data})[0] == 201
    for text, expected in FOUND:
        assert (typed.listed(text), text) == (expected.split(), text)
    assert typed.ask("GET", f"{ROWS}?queries[]={quote(query('equal', '$sequence', '²'))}")[0] == 400


def test_a_table_can_be_made_with_columns_and_indexes(appwrite_server):
    """The answer shows none, as recorded; they are there; a bad one leaves no table."""
    wired = Wired(appwrite_server)
    columns = [
        {"key": "a", "type": "string", "size": 10, "required": True},
        {"key": "m", "type": "string", "format": "email"},
        {"key": "f", "type": "double"},
    ]
    body = {
        "tableId": "made",
        "name": "Made",
        "columns": columns,
        "indexes": [{"key": "i", "type": "unique", "columns": ["a"]}],
    }
    status, _, answer = wired.ask("POST", "/v1/tablesdb/d/tables", body)
    assert (status, answer["columns"], answer["indexes"]) == (201, [], [])
    answer = wired.ask("GET", "/v1/tablesdb/d/tables/made")[2]
    assert [column["type"] for column in answer["columns"]] == ["string", "string", "double"]
    assert answer["indexes"][0]["status"] == "available"
    for wrong in ({"key": "r", "type": "relationship"}, {"key": "x", "type": "zz"}, {"key": "x"}, {"type": "integer"}):
        body = {"tableId": "bad", "name": "Bad", "columns": [wrong]}
        assert wired.ask("POST", "/v1/tablesdb/d/tables", body)[0] == 400
        assert wired.ask("GET", "/v1/tablesdb/d/tables/bad")[0] == 404


def test_guests_give_rights_to_themselves_only(appwrite_server):
    """And a create that the table grants to others says to whom."""
    wired = Wired(appwrite_server)
    body = {"name": "T", "permissions": ['create("users")']}
    assert wired.ask("PUT", TABLE, body)[0] == 200
    row = {"rowId": "r1", "data": {"slot": "S"}}
    message = wired.ask("POST", ROWS, row, GUEST)[2]["message"]
    wanted = 'Missing "create" permission for role "users". Only "["any","guests"]" scopes are allowed and '
    assert message == wanted + '"["users"]" was given.'
    assert wired.ask("PUT", TABLE, {"name": "T", "permissions": ['write("any")']})[0] == 200
    refused = wired.ask("POST", ROWS, {**row, "permissions": ['read("user:u1")']}, GUEST)[2]["message"]
    assert refused == "Permissions must be one of: (any, guests)"
    assert wired.ask("POST", ROWS, {**row, "permissions": ['read("any")']}, GUEST)[0] == 201
    jwt = {**GUEST, "x-appwrite-jwt": "nonsense"}
    assert wired.ask("GET", headers=jwt)[2]["message"] == "Failed to verify JWT. Invalid token: Incomplete segments"


def test_what_nobody_thought_of_is_told_as_such(appwrite_server):
    """An error of the server's own is a 500 that says whose it is, and the server goes on."""
    wired = Wired(appwrite_server)

    def fail(*_):
        raise ZeroDivisionError("mine")

    routes = appwrite_server.api._groups["rows"]
    kept, routes.list = routes.list, fail
    status, _, body = wired.ask("GET")
    assert (status, body["message"]) == (
        500,
        "The embedded Appwrite server cannot handle this: ZeroDivisionError('mine')",
    )
    routes.list = kept
    assert wired.ask("GET")[0] == 200


def test_a_row_has_room_for_so_many_bytes(appwrite_server):
    """A column that would make rows wider than the database allows is refused, and so is one too many."""
    wired = Wired(appwrite_server)
    path = f"{TABLE}/columns/varchar"
    assert wired.ask("POST", path, {"key": "wide", "size": 15_000, "required": False})[0] == 202
    status, _, body = wired.ask("POST", path, {"key": "wider", "size": 1_500, "required": False})
    text = "The maximum number or size of columns for table 't' has been reached."
    assert (status, body["type"], body["message"]) == (400, "column_limit_exceeded", text)
    assert wired.ask("POST", f"{TABLE}/columns/text", {"key": "long", "required": False})[0] == 202
