"""Parameters, signed payloads and client addresses are read as they were meant."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtx.api.context import client_address
from rtx.api.errors import ApiError
from rtx.api.requests import parse_parameters
from rtx.api.signed_requests import signed_payload

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=10)


@given(st.dictionaries(names, st.text(max_size=10), max_size=20))
def test_any_encoded_form_is_read_back(parameters: dict[str, str]) -> None:
    form = urlencode(parameters).encode()
    assert parse_parameters(form, b"") == parameters
    assert parse_parameters(b"", form) == parameters


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(form: bytes) -> None:
    try:
        parameters = parse_parameters(form, b"")
    except ApiError as refusal:
        assert refusal.code in (-1100, -1101)  # noqa: PT017 - reading it is as good an outcome
    else:
        assert parameters == dict(parse_qsl(form.decode(), keep_blank_values=True))


def test_the_query_stands_before_the_body() -> None:
    assert parse_parameters(b"a=1&b=2", b"b=3&c=4") == {"a": "1", "b": "2", "c": "4"}


@pytest.mark.parametrize("form", [b"a=1&a=1", b"a=1&b=2&a=3", b"a&a=1", b"a=1&%61=2"])
def test_a_parameter_twice(form: bytes) -> None:
    with pytest.raises(ApiError) as refusal:
        parse_parameters(b"", form)
    assert refusal.value.code == -1101


@pytest.mark.parametrize(
    ("form", "payload"),
    [
        (b"", b""),
        (b"a=1&b=2", b"a=1&b=2"),
        (b"a=1&b=2&signature=ff", b"a=1&b=2"),
        (b"a=1&signature=ff&b=2", b"a=1&b=2"),
        (b"signature=ff&a=1&b=2", b"a=1&b=2"),
        (b"signature=ff", b""),
        (b"a=1&mysignature=ff", b"a=1&mysignature=ff"),
    ],
)
def test_the_signature_itself_is_not_signed(form: bytes, payload: bytes) -> None:
    assert signed_payload(form) == payload


PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.66, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "192.0.2.66, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("fd00::1", "2001:db8::5", "2001:db8::5"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "198.51.100.1, nonsense", "nonsense"),
    ],
)
def test_only_trusted_proxies_speak_for_others(peer: str, forwarded_for: str, address: str) -> None:
    assert client_address((peer, 1), forwarded_for, PROXIES) == address


def test_a_transport_without_addresses() -> None:
    assert client_address(None, "198.51.100.1", PROXIES) == ""
