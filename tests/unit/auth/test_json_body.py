"""Every wrong body has an answer of its own that names what is wrong; no amount passes through a float."""

from __future__ import annotations

import ipaddress
import json

import pytest

from rtx.api.auth.json_body import JsonObject, parse_json_object
from rtx.api.errors import (
    INVALID_JSON,
    INVALID_PARAMETER,
    MANDATORY_PARAM_EMPTY_OR_MALFORMED,
    TOO_MANY_PARAMETERS,
    UNREAD_PARAMETERS,
    ApiError,
)

NAMES = ("amount", "text", "count", "flag", "words", "networks")


def parse(document: object) -> JsonObject:
    return parse_json_object(json.dumps(document).encode(), NAMES)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"{", "line 1, column 2"),
        (b'{"text": nope}', "line 1, column 10"),
        (b'{"amount": NaN}', "NaN"),
        (b'{"amount": -Infinity}', "-Infinity"),
        (b"\xff\xfe", "UTF-8 at byte 0"),
        (b"[1]", "not an array"),
        (b"1", "not a number"),
        (b"null", "not null"),
        (b"[" * 60_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_object(body: bytes, message: str) -> None:
    with pytest.raises(ApiError) as refusal:
        parse_json_object(body, NAMES)

    assert (refusal.value.code, refusal.value.http_status) == (INVALID_JSON, 400)
    assert message in refusal.value.message


def test_a_field_given_twice() -> None:
    with pytest.raises(ApiError, match="twice") as refusal:
        parse_json_object(b'{"amount": "1", "amount": "2"}', NAMES)

    assert (refusal.value.code, refusal.value.field) == (TOO_MANY_PARAMETERS, "amount")


def test_an_unknown_field_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ApiError, match=r"amuont.*amount, text") as refusal:
        parse({"amuont": "1"})

    assert (refusal.value.code, refusal.value.field) == (UNREAD_PARAMETERS, "amuont")


def test_a_missing_field() -> None:
    with pytest.raises(ApiError, match="missing") as refusal:
        parse({}).text("text", 10)

    assert (refusal.value.code, refusal.value.field) == (MANDATORY_PARAM_EMPTY_OR_MALFORMED, "text")


@pytest.mark.parametrize(
    ("written", "units"),
    [
        ('"1.5"', 150),
        ('"1.50000"', 150),
        ("1.5", 150),
        ('"0"', 0),
        ("0.01", 1),
        ('"007"', 700),
        # a float would make 46116860184273879.03999... or ...88.0 of these
        ("46116860184273879.04", 2**62),
        ('"46116860184273879.04"', 2**62),
        ("46116860184273878.99", 2**62 - 5),
    ],
)
def test_amounts_are_exact(written: str, units: int) -> None:
    assert parse_json_object(b'{"amount": %s}' % written.encode(), NAMES).decimal("amount", scale=2) == units


@pytest.mark.parametrize(
    "written",
    [
        '"1.505"',
        "1.505",
        "-1",
        '"-1"',
        '"+1"',
        "1e2",
        '"1e400"',
        '"NaN"',
        '"Infinity"',
        '""',
        '" 1"',
        '"1."',
        '".5"',
        '"1,5"',
        '"1_000"',
        '"0x10"',
        '"\\u0661"',
        "true",
        "null",
        "[]",
        "{}",
        '"46116860184273879.05"',
        '"' + "9" * 40 + '"',
        "9" * 5000,
        '"0.' + "0" * 39 + '1"',
    ],
)
def test_what_is_no_amount(written: str) -> None:
    body = parse_json_object(b'{"amount": %s}' % written.encode(), NAMES)
    with pytest.raises(ApiError, match="amount") as refusal:
        body.decimal("amount", scale=2)

    assert (refusal.value.code, refusal.value.field) == (INVALID_PARAMETER, "amount")


@pytest.mark.parametrize("written", ["1001", '"1001"'])
def test_whole_numbers(written: str) -> None:
    assert parse_json_object(b'{"count": %s}' % written.encode(), NAMES).integer("count", 1, 2000) == 1001


@pytest.mark.parametrize("written", ["0", "2001", "1.0", "1e3", '"x"', '""', "true", "null", "9" * 5000])
def test_what_is_no_whole_number_of_a_range(written: str) -> None:
    body = parse_json_object(b'{"count": %s}' % written.encode(), NAMES)
    with pytest.raises(ApiError, match="Field 'count' must be a whole number"):
        body.integer("count", 1, 2000)


@pytest.mark.parametrize("value", ["", "x" * 11, "a\x00b", "a\nb", "\x7f", "\ud800", 1, None, ["a"]])
def test_what_is_no_text(value: object) -> None:
    with pytest.raises(ApiError, match="Field 'text' must"):
        parse({"text": value}).text("text", 10)


def test_words_come_in_one_order_and_each_once() -> None:
    assert parse({"words": ["trade", "read"]}).choices("words", ["read", "trade"]) == ["read", "trade"]
    for wrong in ([], ["read", "read"], ["write"], "read", [1], None, ["read", "trade", "read"]):
        with pytest.raises(ApiError, match="Field 'words' must"):
            parse({"words": wrong}).choices("words", ["read", "trade"])


def test_networks() -> None:
    assert parse({"networks": ["192.0.2.7", "2001:db8::/32"]}).networks("networks", 5) == [
        ipaddress.ip_network("192.0.2.7/32"),
        ipaddress.ip_network("2001:db8::/32"),
    ]
    for wrong in (["192.0.2.7/24"], ["example.com"], ["192.0.2.1"] * 6, [3232235777], "192.0.2.7"):
        with pytest.raises(ApiError, match="Field 'networks' must"):
            parse({"networks": wrong}).networks("networks", 5)


def test_what_may_be_left_out_may_be_null() -> None:
    for body in (parse({}), parse({"flag": None})):
        assert body.optional("flag", body.boolean, True) is True
    body = parse({"flag": False})
    assert body.optional("flag", body.boolean, True) is False
