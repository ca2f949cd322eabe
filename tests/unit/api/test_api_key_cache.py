"""Keys are kept only while a change to them would be heard of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rtx.api.api_key_cache import ApiKey, ApiKeyCache


class Store:
    """Keys, how often they were read, and a clock."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.keys = {"a": ApiKey(1001, b"secret", frozenset({"read"}), ())}
        self.reads = 0
        self.now_s = 0.0
        self.is_away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.was_missed = asyncio.Event()
        self.cache = ApiKeyCache(self.load, lambda: self.now_s, ttl_s=60.0, wait_s=wait_s)

    async def load(self, api_key: str) -> ApiKey | None:
        self.reads += 1
        if self.is_away:
            self.was_missed.set()
            raise ConnectionRefusedError
        found = self.keys.get(api_key)
        await self.may_answer.wait()
        return found


def deaf_for_a_moment(cache: ApiKeyCache) -> None:
    cache.deaf()
    cache.listening()


async def test_a_key_is_read_once_while_listening() -> None:
    store = Store()
    store.cache.listening()
    first = await store.cache.find("a")
    assert first is not None
    assert await store.cache.find("a") is first
    assert store.reads == 1


async def test_nothing_is_kept_while_nothing_is_heard() -> None:
    store = Store()
    await store.cache.find("a")
    await store.cache.find("a")
    assert store.reads == 2


async def test_changes_time_and_deafness_make_it_forget() -> None:
    store = Store()
    store.cache.listening()
    await store.cache.find("a")
    store.cache.changed("b")
    await store.cache.find("a")
    assert store.reads == 1
    ways: list[Callable[[], None]] = [
        lambda: store.cache.changed("a"),
        lambda: store.cache.changed(""),
        lambda: deaf_for_a_moment(store.cache),
        lambda: setattr(store, "now_s", store.now_s + 61),
    ]
    for forget in ways:
        reads = store.reads
        forget()
        await store.cache.find("a")
        assert store.reads == reads + 1


async def test_a_key_revoked_while_it_was_being_read_is_not_kept() -> None:
    store = Store()
    store.cache.listening()
    store.may_answer.clear()
    finding = asyncio.create_task(store.cache.find("a"))
    await asyncio.sleep(0)
    del store.keys["a"]
    store.cache.changed("a")
    store.may_answer.set()
    await finding
    assert await store.cache.find("a") is None


async def test_an_unknown_key_is_looked_for_every_time() -> None:
    store = Store()
    store.cache.listening()
    assert await store.cache.find("b") is None
    store.keys["b"] = store.keys["a"]
    assert await store.cache.find("b") is not None


async def test_keys_in_use_go_on_while_the_database_is_away_but_not_beyond_their_time() -> None:
    store = Store()
    store.cache.listening()
    known = await store.cache.find("a")
    store.is_away = True
    store.cache.deaf()
    assert await store.cache.find("a") is known
    with pytest.raises(ConnectionRefusedError):
        await store.cache.find("b")
    store.now_s += 61
    with pytest.raises(ConnectionRefusedError):
        await store.cache.find("a")


async def test_a_database_that_is_there_has_the_last_word_on_a_key() -> None:
    store = Store()
    store.cache.listening()
    key = await store.cache.find("a")
    store.cache.deaf()
    del store.keys["a"]
    assert await store.cache.find("a") is None
    store.is_away = True
    with pytest.raises(ConnectionRefusedError):
        await store.cache.find("a")
    assert key is not None
    store.is_away, store.keys["a"] = False, key
    store.cache.listening()
    await store.cache.find("a")
    deaf_for_a_moment(store.cache)
    store.is_away = True
    with pytest.raises(ConnectionRefusedError):
        await store.cache.find("a")


async def test_a_key_that_is_not_at_hand_is_waited_for_while_the_database_is_away() -> None:
    store = Store(wait_s=5.0)
    store.is_away = True
    finding = asyncio.create_task(store.cache.find("a"))
    await store.was_missed.wait()
    store.is_away = False
    assert await finding is store.keys["a"]
    store.is_away = True
    store.was_missed.clear()
    finding = asyncio.create_task(store.cache.find("a"))
    await store.was_missed.wait()
    store.now_s += 5.0
    with pytest.raises(ConnectionRefusedError):
        await finding
