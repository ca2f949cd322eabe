"""ccxt's Binance as it is installed, told another address and nothing else of consequence."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import ccxt
import ccxt.pro
from tests.clients.server import Account, Server


def exchange_of(server: Server, account: Account | None = None) -> Any:
    """A `ccxt.binance` of an account, or of somebody unknown."""
    return _redirected(ccxt.binance(_credentials(account)), server)


def streaming_exchange_of(server: Server, account: Account | None = None) -> Any:
    """A `ccxt.pro.binance`, asynchronous and with streams."""
    return _redirected(ccxt.pro.binance(_credentials(account)), server)


def _credentials(account: Account | None) -> dict[str, object]:
    # Without its rate limiter ccxt does not wait 50 ms between two calls; what it sends is the same.
    keys = {} if account is None else {"apiKey": account.api_key, "secret": account.secret}
    return {**keys, "enableRateLimit": False}


def _redirected(exchange: Any, server: Server) -> Any:
    exchange.urls["api"] = _at(server, exchange.urls["api"])
    return exchange


def _at(server: Server, address: Any) -> Any:
    """The address, or every address of a tree of them, at ``server`` with the path it had."""
    if isinstance(address, dict):
        return {name: _at(server, value) for name, value in address.items()}
    parts = urlsplit(address)
    return (server.websocket_url if parts.scheme == "wss" else server.url) + parts.path
