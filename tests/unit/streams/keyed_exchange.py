"""An exchange with accounts that have API keys, as far as dead-man's switches are concerned."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from rtx.api.api_key_cache import ApiKey
from rtx.api.context import ApiContext, ApiSettings, Network
from rtx.core.commands import AnyCommand, CancelAllAfter
from rtx.core.events import Rejected
from rtx.core.exchange import Exchange
from rtx.core.rejections import RejectedError
from rtx.link.client import Applied, CommandRejectedError

ALICE, BOB = 1001, 1002
API_KEYS = {ALICE: "a" * 64, BOB: "b" * 64}
SECRET = b"secret"
NOW_US = 1_800_000_000_000_000


class KeyedExchange:
    """Journals what it is asked for in ``commands``. ``faults`` are raised first, one a command."""

    def __init__(self, clock_s: Callable[[], float] = lambda: 0.0) -> None:
        self.exchange = Exchange()
        self.commands: list[CancelAllAfter] = []
        self.faults: list[Exception] = []
        self.permissions = frozenset({"read", "trade"})
        self.ip_allow: tuple[Network, ...] = ()
        self.changed = asyncio.Event()
        self._clock_s = clock_s

    def clock_us(self) -> int:
        return NOW_US + int(self._clock_s() * 1_000_000)

    def context(self) -> ApiContext:
        """What endpoints find."""
        fields = SimpleNamespace(
            settings=ApiSettings(jwt_secrets=()), engine=self, api_keys=self, clock_us=self.clock_us
        )
        return cast("ApiContext", fields)

    async def find(self, api_key: str) -> ApiKey | None:
        for account_id, name in API_KEYS.items():
            if name == api_key:
                return ApiKey(account_id, SECRET, self.permissions, self.ip_allow)
        return None

    async def submit(self, command: AnyCommand, **_options: Any) -> Applied:
        await asyncio.sleep(0)
        assert isinstance(command, CancelAllAfter)
        if self.faults:
            raise self.faults.pop(0)
        self.commands.append(command)
        time_us = max(self.clock_us(), self.exchange.time_us + 1)
        try:
            events = self.exchange.apply(command, time_us)
        except RejectedError as error:
            raise CommandRejectedError([Rejected(error.reason, error.field)]) from None
        finally:
            self.changed.set()
        return Applied(len(self.commands), time_us, events)

    def signed(self, account_id: int = ALICE, **parameters: object) -> dict[str, object]:
        """Parameters as a client signs them."""
        all_of_them = {"apiKey": API_KEYS[account_id], "timestamp": self.clock_us() // 1_000, **parameters}
        payload = "&".join(f"{name}={value}" for name, value in sorted(all_of_them.items()))
        return all_of_them | {"signature": hmac.new(SECRET, payload.encode(), hashlib.sha256).hexdigest()}

    @property
    def sessions(self) -> dict[str, int]:
        """What Alice has armed, with the milliseconds that are left."""
        return {
            session: (deadline_us - self.exchange.time_us) // 1_000
            for (account_id, session), deadline_us in self.exchange.deadlines.items()
            if account_id == ALICE
        }
