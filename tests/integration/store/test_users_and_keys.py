"""Users, their refresh tokens and their API keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network

import asyncpg
import pytest
import pytest_asyncio

from rtx.store import api_keys, refresh_tokens, users
from rtx.store.connection import create_pool
from rtx.store.errors import EmailTakenError, RefreshTokenInvalidError, RefreshTokenReusedError

Pool = asyncpg.Pool
TTL_S = 60.0


@pytest_asyncio.fixture
async def pool(migrated_url: str) -> AsyncIterator[Pool[asyncpg.Record]]:
    async with await create_pool(migrated_url, application_name="test", maximum_size=4) as opened:
        yield opened


async def test_users_are_numbered_as_accounts_and_found_again(pool: Pool[asyncpg.Record]) -> None:
    alice = await users.create(pool, "Alice@example.com", "hash")
    operator = await users.create(pool, "root@example.com", "hash", "operator")
    assert (alice, operator) == (1001, 1002)
    found = await users.by_email(pool, "alice@EXAMPLE.com")
    assert found == await users.by_id(pool, alice)
    assert found is not None
    assert (found.email, found.role, found.disabled) == ("Alice@example.com", "user", False)
    assert await users.by_email(pool, "nobody@example.com") is None
    assert await users.by_id(pool, 7) is None


async def test_an_address_signs_up_once_in_whatever_case(pool: Pool[asyncpg.Record]) -> None:
    await users.create(pool, "alice@example.com", "hash")
    with pytest.raises(EmailTakenError):
        await users.create(pool, "ALICE@example.com", "hash")


async def test_users_are_changed(pool: Pool[asyncpg.Record]) -> None:
    alice = await users.create(pool, "alice@example.com", "hash")
    assert await users.set_password_hash(pool, alice, "other")
    assert await users.set_role(pool, alice, "operator")
    assert await users.set_disabled(pool, alice, True)
    found = await users.by_id(pool, alice)
    assert found is not None
    assert (found.password_hash, found.role, found.disabled) == ("other", "operator", True)
    assert not await users.set_password_hash(pool, 7, "other")
    assert not await users.set_role(pool, 7, "user")
    assert not await users.set_disabled(pool, 7, True)


async def test_a_refresh_token_is_used_once_and_gives_the_next(pool: Pool[asyncpg.Record]) -> None:
    alice = await users.create(pool, "alice@example.com", "hash")
    await refresh_tokens.issue(pool, b"first", alice, ttl_s=TTL_S)
    assert await refresh_tokens.rotate(pool, b"first", b"second", ttl_s=TTL_S) == alice
    assert await refresh_tokens.rotate(pool, b"second", b"third", ttl_s=TTL_S) == alice


async def test_a_second_use_ends_the_family_and_no_other(pool: Pool[asyncpg.Record]) -> None:
    alice = await users.create(pool, "alice@example.com", "hash")
    await refresh_tokens.issue(pool, b"first", alice, ttl_s=TTL_S)
    await refresh_tokens.issue(pool, b"elsewhere", alice, ttl_s=TTL_S)
    await refresh_tokens.rotate(pool, b"first", b"second", ttl_s=TTL_S)
    with pytest.raises(RefreshTokenReusedError):
        await refresh_tokens.rotate(pool, b"first", b"stolen", ttl_s=TTL_S)
    with pytest.raises(RefreshTokenInvalidError):
        await refresh_tokens.rotate(pool, b"second", b"third", ttl_s=TTL_S)
    assert await refresh_tokens.rotate(pool, b"elsewhere", b"elsewhere-2", ttl_s=TTL_S) == alice


async def test_of_two_uses_at_once_one_succeeds(pool: Pool[asyncpg.Record]) -> None:
    alice = await users.create(pool, "alice@example.com", "hash")
    await refresh_tokens.issue(pool, b"first", alice, ttl_s=TTL_S)
    results = await asyncio.gather(
        *(refresh_tokens.rotate(pool, b"first", b"next-%d" % number, ttl_s=TTL_S) for number in range(4)),
        return_exceptions=True,
    )
    assert results.count(alice) == 1
    assert sum(isinstance(result, RefreshTokenReusedError) for result in results) == 3


async def test_tokens_that_are_not_good(pool: Pool[asyncpg.Record]) -> None:
    alice = await users.create(pool, "alice@example.com", "hash")
    await refresh_tokens.issue(pool, b"expired", alice, ttl_s=-1.0)
    await refresh_tokens.issue(pool, b"logged out", alice, ttl_s=TTL_S)
    assert await refresh_tokens.revoke(pool, b"logged out")
    assert not await refresh_tokens.revoke(pool, b"logged out")
    assert not await refresh_tokens.revoke(pool, b"unknown")
    for token in (b"expired", b"logged out", b"unknown"):
        with pytest.raises(RefreshTokenInvalidError):
            await refresh_tokens.rotate(pool, token, b"next", ttl_s=TTL_S)
    assert await refresh_tokens.delete_expired(pool) == 1


async def test_a_disabled_user_gets_no_tokens_and_a_revocation_ends_all(pool: Pool[asyncpg.Record]) -> None:
    alice = await users.create(pool, "alice@example.com", "hash")
    await refresh_tokens.issue(pool, b"one", alice, ttl_s=TTL_S)
    await refresh_tokens.issue(pool, b"two", alice, ttl_s=TTL_S)
    await users.set_disabled(pool, alice, True)
    with pytest.raises(RefreshTokenInvalidError):
        await refresh_tokens.rotate(pool, b"one", b"next", ttl_s=TTL_S)
    await users.set_disabled(pool, alice, False)
    assert await refresh_tokens.revoke_all(pool, alice) == 2
    with pytest.raises(RefreshTokenInvalidError):
        await refresh_tokens.rotate(pool, b"two", b"next", ttl_s=TTL_S)


async def create_key(pool: Pool[asyncpg.Record], api_key: str, user_id: int) -> api_keys.ApiKey:
    return await api_keys.create(
        pool,
        api_key=api_key,
        user_id=user_id,
        label="bot",
        permissions=["read", "trade"],
        ip_allow=[ip_network("10.0.0.0/8"), ip_network("::1/128")],
        secret_encrypted=b"secret",
        encryption_key_id="1",
    )


async def test_keys_are_found_listed_and_deleted_by_their_owner(pool: Pool[asyncpg.Record]) -> None:
    alice = await users.create(pool, "alice@example.com", "hash")
    bob = await users.create(pool, "bob@example.com", "hash")
    created = [await create_key(pool, name, alice) for name in ("key-b", "key-a")]
    assert created[0].permissions == ("read", "trade")
    assert created[0].ip_allow == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert await api_keys.find(pool, "key-b") == created[0]
    assert await api_keys.of_user(pool, alice) == created
    assert await api_keys.of_user(pool, bob) == []
    assert not await api_keys.delete(pool, bob, "key-a")
    assert await api_keys.delete(pool, alice, "key-a")
    assert not await api_keys.delete(pool, alice, "key-a")
    assert await api_keys.find(pool, "key-a") is None
    assert "secret" not in repr(created[0])


async def test_every_change_of_a_key_is_announced(pool: Pool[asyncpg.Record], migrated_url: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    def on_announcement(_connection: object, _process_id: int, _channel: str, payload: object) -> None:
        heard.put_nowait(str(payload))

    listener = await asyncpg.connect(migrated_url)
    await listener.add_listener(api_keys.CHANNEL, on_announcement)
    alice = await users.create(pool, "alice@example.com", "hash")
    await create_key(pool, "one", alice)
    assert await heard.get() == "one"
    await create_key(pool, "two", alice)
    assert await heard.get() == "two"
    await users.set_disabled(pool, alice, True)
    assert {await heard.get(), await heard.get()} == {"one", "two"}
    found = await api_keys.find(pool, "one")
    assert found is not None
    assert found.user_disabled
    await api_keys.delete(pool, alice, "one")
    assert await heard.get() == "one"
    await listener.close()
