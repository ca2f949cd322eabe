"""Whole numbers inside, decimal strings outside, and no float in between.

An amount is a whole number of the smallest unit of its asset, 10**-scale; outside it is written with exactly ``scale``
digits after the point. Binance takes a decimal as ``[0-9]{1,20}(.[0-9]{1,20})?`` and refuses everything else.
"""

from __future__ import annotations

import re
from typing import Final

from rtx.api import errors

DECIMAL_PATTERN: Final = r"^([0-9]{1,20})(\.[0-9]{1,20})?$"

_is_decimal = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?", re.ASCII).fullmatch

RATE_SCALE: Final = 8
"""Digits after the point of rates (commissions)."""


def format_amount(amount: int, scale: int) -> str:
    """Write ``amount`` smallest units with ``scale`` digits after the point: ``format_amount(150, 2) == "1.50"``."""
    if scale == 0:
        return str(amount)
    if amount < 0:
        return "-" + format_amount(-amount, scale)
    digits = str(amount)
    if len(digits) <= scale:
        return "0." + digits.zfill(scale)
    return digits[:-scale] + "." + digits[-scale:]


def parse_amount(text: str, scale: int, name: str) -> int:
    """Read a decimal as whole smallest units; ``name`` is the parameter to name in the refusal.

    Raises :class:`~rtx.api.errors.ApiError`: -1105 for nothing, -1100 for what is not a plain decimal (a sign,
    an exponent, NaN, more than 20 digits on a side), -1111 for more digits after the point than the asset has.
    """
    if not _is_decimal(text):
        raise errors.illegal_characters(name, DECIMAL_PATTERN) if text else errors.empty_parameter(name)
    whole, _, fraction = text.partition(".")
    if len(fraction) > scale:
        fraction = fraction.rstrip("0")
        if len(fraction) > scale:
            raise errors.too_much_precision(name)
    return int(whole + fraction.ljust(scale, "0"))


def divide_rounded_down(numerator: int, denominator: int) -> int:
    """Divide towards zero: what is shown is never more, in size, than what is there."""
    quotient = abs(numerator) // denominator
    return quotient if numerator >= 0 else -quotient


def format_rate_ppm(rate_ppm: int) -> str:
    """Write a rate in parts per million as Binance writes rates: ``format_rate_ppm(1500) == "0.00150000"``."""
    return format_amount(rate_ppm * 10 ** (RATE_SCALE - 6), RATE_SCALE)
