"""API keys, kept in the worker so that an order costs no query and no decryption.

A kept key is thrown away when PostgreSQL notifies of a change to it, after a time to live, and all of them when the
connection that brings the notifications breaks; while there is none, nothing is kept. So a revoked key stops working
at once everywhere, and at the latest after the time to live. Only while the database is away, where nobody could revoke
a key, do those go on that were kept when it went; for any other key the request waits until the database is back. So
orders wait for it instead of failing.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final

from rtx.api.context import Network
from rtx.store.connection import CONNECTION_ERRORS

RETRY_INTERVAL_S: Final = 0.1
_MAXIMUM_KEYS: Final = 100_000


class ApiKey:
    """One usable key: whose it is, what signs with it and what it may do."""

    __slots__ = ("account_id", "ip_allow", "permissions", "secret")

    def __init__(
        self, account_id: int, secret: bytes, permissions: frozenset[str], ip_allow: tuple[Network, ...]
    ) -> None:
        """``permissions`` of "read" and "trade"; ``ip_allow`` empty means from anywhere."""
        self.account_id = account_id
        self.secret = secret
        self.permissions = permissions
        self.ip_allow = ip_allow

    def allows_address(self, address: str) -> bool:
        """Tell whether the key may be used from ``address``."""
        if not self.ip_allow:
            return True
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self.ip_allow)


class ApiKeyCache:
    """Looks keys up, and keeps what it found while it would hear of changes."""

    def __init__(
        self,
        load: Callable[[str], Awaitable[ApiKey | None]],
        clock_s: Callable[[], float],
        ttl_s: float,
        *,
        wait_s: float = 0.0,
    ) -> None:
        """``load`` reads and decrypts one key; ``clock_s`` is monotonic; ``wait_s``: for a database that is away."""
        self._load = load
        self._clock_s = clock_s
        self._ttl_s = ttl_s
        self._wait_s = wait_s
        self._is_listening = False
        self._generation = 0
        self._kept: dict[str, tuple[ApiKey, float]] = {}
        self._kept_before: dict[str, tuple[ApiKey, float]] = {}

    def kept(self, api_key: str) -> ApiKey | None:
        """Give the key if it is at hand."""
        return self._unexpired(self._kept, api_key)

    async def find(self, api_key: str) -> ApiKey | None:
        """Give the key, or None when there is none or its owner is disabled."""
        kept = self.kept(api_key)
        if kept is not None:
            return kept
        give_up_s = self._clock_s() + self._wait_s
        while True:
            generation = self._generation
            try:
                found = await self._load(api_key)
            except CONNECTION_ERRORS:
                kept_before = self._unexpired(self._kept_before, api_key)
                if kept_before is not None:
                    return kept_before
                if self._clock_s() >= give_up_s:
                    raise
                await asyncio.sleep(RETRY_INTERVAL_S)
                continue
            break
        if found is None:
            self._kept_before.pop(api_key, None)
        if found is not None and self._is_listening and generation == self._generation:
            if len(self._kept) >= _MAXIMUM_KEYS:
                self._kept.clear()
            self._kept[api_key] = (found, self._clock_s() + self._ttl_s)
        return found

    def listening(self) -> None:
        """Notifications arrive from now on."""
        self._is_listening = True
        self._kept_before.clear()

    def deaf(self) -> None:
        """Notifications may have been missed: keep nothing, but know what was kept for when the database is away."""
        self._is_listening = False
        self._generation += 1
        self._kept_before.update(self._kept)
        self._kept.clear()

    def changed(self, api_key: str) -> None:
        """A key changed ("" : any may have)."""
        self._generation += 1
        for keys in (self._kept, self._kept_before):
            if api_key:
                keys.pop(api_key, None)
            else:
                keys.clear()

    def _unexpired(self, keys: dict[str, tuple[ApiKey, float]], api_key: str) -> ApiKey | None:
        entry = keys.get(api_key)
        if entry is None:
            return None
        if self._clock_s() < entry[1]:
            return entry[0]
        del keys[api_key]
        return None
