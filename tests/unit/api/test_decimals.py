"""Decimal strings and whole numbers are converted exactly, both ways."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtx.api.decimals import divide_rounded_down, format_amount, format_rate_ppm, parse_amount
from rtx.api.errors import ApiError
from rtx.core.vocabulary import MAXIMUM_AMOUNT

scales = st.integers(0, 18)
amounts = st.integers(0, MAXIMUM_AMOUNT)


@given(amounts, scales)
def test_what_is_written_is_read_back(amount: int, scale: int) -> None:
    assert parse_amount(format_amount(amount, scale), scale, "price") == amount


@given(st.integers(-MAXIMUM_AMOUNT, MAXIMUM_AMOUNT), scales)
def test_what_is_written_is_the_amount_with_all_its_digits(amount: int, scale: int) -> None:
    text = format_amount(amount, scale)
    assert Fraction(text) == Fraction(amount, 10**scale)
    assert len(text.partition(".")[2]) == scale


@given(st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,20})?", fullmatch=True, alphabet="0123456789."), scales)
def test_a_decimal_is_read_exactly_or_refused_for_its_precision(text: str, scale: int) -> None:
    exact = Fraction(text) * 10**scale
    if exact.denominator == 1:
        assert parse_amount(text, scale, "price") == int(exact)
    else:
        with pytest.raises(ApiError) as refusal:
            parse_amount(text, scale, "price")
        assert (refusal.value.code, refusal.value.message) == (-1111, "Parameter 'price' has too much precision.")


@given(st.text(max_size=30), scales)
def test_whatever_is_sent_is_read_or_refused(text: str, scale: int) -> None:
    try:
        amount = parse_amount(text, scale, "price")
    except ApiError as refusal:
        assert refusal.code in (-1100, -1105, -1111)  # noqa: PT017 - reading it is as good an outcome
    else:
        assert Fraction(text) * 10**scale == amount


@pytest.mark.parametrize(
    "text", ["NaN", "inf", "1e400", "-1", "+1", " 1", "1 ", "1.", ".1", "1.1.1", "\u0663", "1\n", "0" * 21]
)
def test_what_is_not_a_plain_decimal(text: str) -> None:
    with pytest.raises(ApiError) as refusal:
        parse_amount(text, 8, "quantity")
    assert refusal.value.code == -1100
    assert "'quantity'" in refusal.value.message


def test_shown_numbers_are_rounded_towards_zero() -> None:
    assert [divide_rounded_down(number, 4) for number in (7, -7, 8, -8)] == [1, -1, 2, -2]


def test_rates_have_eight_digits() -> None:
    assert format_rate_ppm(1500) == "0.00150000"
