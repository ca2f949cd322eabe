"""Reads parameters by name and kind; whatever is wrong is refused in Binance's words.

Everywhere: absent and mandatory is -1102, present and empty -1105, of the wrong form -1100.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from rtx.api import errors
from rtx.api.errors import ApiError
from rtx.api.markets import Market, MarketDirectory

SYMBOL_PATTERN: Final = "^[A-Z0-9-_.]{1,20}$"
CLIENT_ORDER_ID_PATTERN: Final = r"^[\.A-Z\:/a-z0-9_-]{1,36}$"
NUMBER_PATTERN: Final = "^[0-9]{1,20}$"
SYMBOLS_PATTERN: Final = r'^\[("[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}){0,1}\]$'

_is_symbol = re.compile(r"[A-Z0-9\-_.]{1,20}", re.ASCII).fullmatch
_is_client_order_id = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}", re.ASCII).fullmatch
_is_number = re.compile(r"[0-9]{1,20}", re.ASCII).fullmatch

_MAXIMUM_NUMBER: Final = 2**63 - 1
_FIRST_MICROSECOND_TIMESTAMP: Final = 10**14

Parameters = Mapping[str, str]


def optional_text(parameters: Parameters, name: str) -> str | None:
    """Give the value or None; never an empty one."""
    value = parameters.get(name)
    if value == "":
        raise errors.empty_parameter(name)
    return value


def mandatory_text(parameters: Parameters, name: str) -> str:
    """Give the value, which is not empty."""
    value = parameters.get(name)
    if not value:
        raise errors.mandatory_parameter(name) if value is None else errors.empty_parameter(name)
    return value


async def market_named(directory: MarketDirectory, parameters: Parameters) -> Market:
    """Find the market of the mandatory parameter ``symbol``."""
    symbol = parameters.get("symbol")
    market = directory.by_symbol.get(symbol) if symbol else None
    if market is not None:
        return market
    return await market_of(directory, mandatory_text(parameters, "symbol"))


async def market_of(directory: MarketDirectory, symbol: str) -> Market:
    """Find the market with this symbol; -1100 for what cannot be a symbol, -1121 for one that no market has."""
    if not _is_symbol(symbol):
        raise errors.illegal_characters("symbol", SYMBOL_PATTERN)
    return await directory.find(symbol)


def optional_number(parameters: Parameters, name: str) -> int | None:
    """Give a whole number of at most 63 bits, or None."""
    value = optional_text(parameters, name)
    if value is None:
        return None
    if not _is_number(value):
        raise errors.illegal_characters(name, NUMBER_PATTERN)
    number = int(value)
    if number > _MAXIMUM_NUMBER:
        raise errors.overflowed(name)
    return number


def limit_of(parameters: Parameters, default: int, maximum: int) -> int:
    """Give ``limit``: at least 1, and no more than ``maximum`` whatever was asked for."""
    limit = optional_number(parameters, "limit")
    if limit is None:
        return default
    if limit == 0:
        raise errors.invalid_parameter("limit")
    return min(limit, maximum)


def optional_time_us(parameters: Parameters, name: str) -> int | None:
    """Give a time in microseconds; it may be written in milliseconds or in microseconds."""
    time = optional_number(parameters, name)
    if time is None or time >= _FIRST_MICROSECOND_TIMESTAMP:
        return time
    return time * 1000


def time_range_us(parameters: Parameters, hours_max: int | None = None) -> tuple[int | None, int | None]:
    """Give ``startTime`` and ``endTime`` in microseconds, inclusive; an ``endTime`` in ms covers its millisecond."""
    start_us = optional_time_us(parameters, "startTime")
    end = optional_number(parameters, "endTime")
    end_us = end if end is None or end >= _FIRST_MICROSECOND_TIMESTAMP else end * 1000 + 999
    if start_us is not None and end_us is not None:
        if start_us > end_us:
            raise ApiError(errors.OPTIONAL_PARAMS_BAD_COMBO, "Combination of optional parameters invalid.")
        if hours_max is not None and end_us - start_us > hours_max * 3_600_000_000 + 999:
            raise ApiError(errors.MORE_THAN_XX_HOURS, f"More than {hours_max} hours between startTime and endTime.")
    return start_us, end_us


def optional_boolean(parameters: Parameters, name: str, *, default: bool) -> bool:
    """Give ``true`` or ``false``, written in either case."""
    value = optional_text(parameters, name)
    if value is None:
        return default
    lowered = value.lower()
    if lowered not in ("true", "false"):
        raise errors.illegal_characters(name, "^(true|false)$")
    return lowered == "true"


def optional_client_order_id(parameters: Parameters, name: str) -> str | None:
    """Give a client order id or None."""
    value = parameters.get(name)
    if value is None:
        return None
    if not _is_client_order_id(value):
        raise errors.illegal_characters(name, CLIENT_ORDER_ID_PATTERN) if value else errors.empty_parameter(name)
    return value


def optional_symbols(parameters: Parameters, name: str = "symbols") -> list[str] | None:
    """Give the symbols of a JSON array, each once, or None."""
    value = optional_text(parameters, name)
    if value is None:
        return None
    try:
        symbols = msgspec.json.decode(value, type=list[str])
    except msgspec.DecodeError as error:
        raise errors.illegal_characters(name, SYMBOLS_PATTERN) from error
    if not symbols or not all(_is_symbol(symbol) for symbol in symbols):
        raise errors.illegal_characters(name, SYMBOLS_PATTERN)
    if len(set(symbols)) != len(symbols):
        raise ApiError(errors.DUPLICATE_SYMBOLS, "Symbol is present multiple times in the list.")
    return symbols
