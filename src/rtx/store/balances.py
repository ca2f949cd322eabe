"""Balances as the API reads them."""

from __future__ import annotations

from typing import Final

import msgspec

from rtx.store.connection import Database


class Balance(msgspec.Struct, frozen=True, gc=False):
    """What an account has of one asset, in its smallest unit, as of journal row ``updated_sequence``."""

    asset_id: int
    available: int
    held: int
    updated_sequence: int


_OF_ACCOUNT: Final = """
    SELECT asset_id, available, held, updated_sequence FROM balances WHERE account_id = $1 ORDER BY asset_id
"""


async def find(database: Database, account_id: int) -> list[Balance]:
    """Return the account's balances by asset, of every asset that it ever had."""
    return [Balance(*row) for row in await database.fetch(_OF_ACCOUNT, account_id)]
