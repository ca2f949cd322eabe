"""API keys: shown once, kept encrypted, gone at once."""

from __future__ import annotations

import pytest
from tests.integration.api_v1.backend import Backend

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/v1/api-keys"


async def test_a_key_is_made_listed_without_its_secret_and_deleted(backend: Backend) -> None:
    user_id, client = await backend.new_user("ann@example.com")
    content = {"label": "my bot", "permissions": ["trade", "read"], "ipAllow": ["192.0.2.7", "2001:db8::/32"]}
    made = await client.post(PATH, content)

    assert made.status == 201
    assert made.headers["cache-control"] == "no-store"
    secret = made.json["secretKey"]
    shown = {name: value for name, value in made.json.items() if name != "secretKey"}
    assert (len(secret), len(shown["apiKey"])) == (64, 64)
    assert shown["label"] == "my bot"
    assert shown["permissions"] == ["read", "trade"]
    assert shown["ipAllow"] == ["192.0.2.7", "2001:db8::/32"]
    assert (await client.get(PATH)).json == [shown]

    cached = await backend.context.api_keys.find(shown["apiKey"])
    assert cached is not None
    assert (cached.account_id, cached.secret) == (user_id, secret.encode())
    assert cached.permissions == frozenset({"read", "trade"})

    assert (await client.delete(f"{PATH}/{shown['apiKey']}")).status == 200
    assert (await client.get(PATH)).json == []
    assert await backend.context.api_keys.find(shown["apiKey"]) is None


async def test_the_secret_is_not_in_the_database_as_it_is(backend: Backend) -> None:
    _, client = await backend.new_user("bob@example.com")
    made = (await client.post(PATH, {"label": "bot", "permissions": ["read"]})).json

    row = await backend.pool.fetchrow("SELECT api_keys::text AS text FROM api_keys WHERE api_key = $1", made["apiKey"])
    assert row is not None
    assert made["secretKey"] not in row["text"]
    assert made["secretKey"].encode().hex() not in row["text"]


async def test_a_key_is_deleted_by_query_too(backend: Backend) -> None:
    _, client = await backend.new_user("carol@example.com")
    made = (await client.post(PATH, {"label": "bot", "permissions": ["read"]})).json

    assert (await client.delete(f"{PATH}?apiKey={made['apiKey']}")).status == 200
    assert (await client.get(PATH)).json == []


async def test_nobody_sees_or_deletes_the_keys_of_others(backend: Backend) -> None:
    _, owner = await backend.new_user("dave@example.com")
    _, other = await backend.new_user("erin@example.com")
    made = (await owner.post(PATH, {"label": "bot", "permissions": ["read"]})).json

    assert (await other.get(PATH)).json == []
    assert (await other.delete(f"{PATH}/{made['apiKey']}")).status == 404
    assert len((await owner.get(PATH)).json) == 1


@pytest.mark.parametrize("path", [PATH, f"{PATH}?apiKey="])
async def test_a_deletion_names_its_key(backend: Backend, path: str) -> None:
    answer = await backend.operator.delete(path)
    assert (answer.status, answer.json["field"]) == (400, "apiKey")


@pytest.mark.parametrize("name", ["x", "%00", "a" * 5000, "..%2f", "é"])
async def test_a_deletion_of_what_is_no_key(backend: Backend, name: str) -> None:
    assert (await backend.operator.delete(f"{PATH}?apiKey={name}")).status in (404, 414)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"label": ""}, "label"),
        ({"label": "x" * 65}, "label"),
        ({"label": 5}, "label"),
        ({"permissions": []}, "permissions"),
        ({"permissions": ["withdraw"]}, "permissions"),
        ({"permissions": "read"}, "permissions"),
        ({"ipAllow": ["192.0.2.1/24"]}, "ipAllow"),
        ({"ipAllow": ["anywhere"]}, "ipAllow"),
        ({"ipAllow": "192.0.2.1"}, "ipAllow"),
        ({"expires": "never"}, "expires"),
    ],
)
async def test_what_is_wrong_with_a_key_is_named(backend: Backend, change: dict[str, object], field: str) -> None:
    answer = await backend.operator.post(PATH, {"label": "bot", "permissions": ["read"]} | change)
    assert (answer.status, answer.json["field"]) == (400, field)
