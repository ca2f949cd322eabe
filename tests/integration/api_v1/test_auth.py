"""Sign-up, login and sessions, as a browser or a program goes through them."""

from __future__ import annotations

import asyncio

import pytest
from tests.integration.api_v1.backend import PASSWORD, Backend, Client

from rtx.api.auth.login_throttle import EMAIL_AT_ADDRESS_FAILURES_MAX
from rtx.store import users

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def log_in(client: Client, email: str, password: str = PASSWORD) -> dict[str, str]:
    answer = await client.post("/api/v1/auth/login", {"email": email, "password": password})
    assert answer.status == 200, answer.body
    session: dict[str, str] = answer.json
    return session


async def refresh(client: Client, token: str) -> tuple[int, dict[str, str]]:
    answer = await client.post("/api/v1/auth/refresh", {"refreshToken": token})
    return answer.status, answer.json


async def test_sign_up_then_log_in(backend: Backend) -> None:
    client = backend.client()
    registered = await client.post("/api/v1/auth/register", {"email": "Ann@Example.com", "password": PASSWORD})
    logged_in = await client.post("/api/v1/auth/login", {"email": "ann@example.com", "password": PASSWORD})

    assert (registered.status, list(registered.json)) == (201, ["userId"])
    assert registered.json["userId"] >= 1001
    assert logged_in.status == 200
    assert logged_in.json["expiresIn"] == 900
    assert logged_in.headers["cache-control"] == "no-store"
    listed = await backend.client(logged_in.json["accessToken"]).get("/api/v1/api-keys")
    assert (listed.status, listed.json) == (200, [])


async def test_an_email_address_registers_once_however_it_is_written(backend: Backend) -> None:
    await backend.new_user("bob@example.com")
    again = await backend.client().post("/api/v1/auth/register", {"email": "BOB@example.com", "password": PASSWORD})

    assert (again.status, again.json["field"]) == (409, "email")


async def test_of_two_registrations_at_once_one_succeeds(backend: Backend) -> None:
    content = {"email": "twice@example.com", "password": PASSWORD}
    answers = await asyncio.gather(*(backend.client().post("/api/v1/auth/register", content) for _ in range(2)))

    assert sorted(answer.status for answer in answers) == [201, 409]


@pytest.mark.parametrize(
    "email",
    [
        "",
        "nobody",
        "a@b",
        "a b@example.com",
        "a@@example.com",
        "@example.com",
        "a@example..com",
        "a@-example.com",
        "x" * 250 + "@example.com",
        "a\x00@example.com",
        "a\ud800@example.com",
    ],
)
async def test_what_is_no_email_address(backend: Backend, email: str) -> None:
    answer = await backend.client().post("/api/v1/auth/register", {"email": email, "password": PASSWORD})

    assert (answer.status, answer.json["field"]) == (400, "email")


@pytest.mark.parametrize("password", ["", "short", "x" * 1025, "half a pair \ud800", 12345678, None])
async def test_what_is_no_password_and_is_not_repeated(backend: Backend, password: object) -> None:
    content = {"email": "nobody@example.com", "password": password}
    answer = await backend.client().post("/api/v1/auth/register", content)

    assert (answer.status, answer.json["field"]) == (400, "password")
    assert not password or str(password) not in answer.json["msg"]


async def test_a_wrong_password_and_an_unknown_user_read_the_same(backend: Backend) -> None:
    await backend.new_user("carol@example.com")
    answers = [
        await backend.client().post("/api/v1/auth/login", {"email": email, "password": password})
        for email, password in [
            ("carol@example.com", "wrong " + PASSWORD),
            ("nobody@example.com", PASSWORD),
            ("carol@example.com", "half a pair \ud800"),
            ("carol@example.com", ""),
        ]
    ]

    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1


async def test_guessing_is_slowed_down_and_says_for_how_long(backend: Backend) -> None:
    await backend.new_user("dave@example.com")
    guesser = backend.client()
    guesser.address = "198.51.100.7"
    for _ in range(EMAIL_AT_ADDRESS_FAILURES_MAX):
        answer = await guesser.post("/api/v1/auth/login", {"email": "dave@example.com", "password": "a guess"})
        assert answer.status == 401
    refused = await guesser.post("/api/v1/auth/login", {"email": "dave@example.com", "password": PASSWORD})

    assert refused.status == 429
    assert 0 < int(refused.headers["retry-after"]) <= 300
    await log_in(backend.client(), "dave@example.com")


async def test_refresh_tokens_rotate_and_each_is_good_once(backend: Backend) -> None:
    await backend.new_user("erin@example.com")
    first = await log_in(backend.client(), "erin@example.com")
    status, second = await refresh(backend.client(), first["refreshToken"])

    assert status == 200
    assert second["refreshToken"] != first["refreshToken"]
    assert (await backend.client(second["accessToken"]).get("/api/v1/api-keys")).status == 200


async def test_using_a_refresh_token_again_ends_its_session_but_no_other(backend: Backend) -> None:
    await backend.new_user("frank@example.com")
    stolen = await log_in(backend.client(), "frank@example.com")
    other = await log_in(backend.client(), "frank@example.com")
    _, current = await refresh(backend.client(), stolen["refreshToken"])

    reused, _ = await refresh(backend.client(), stolen["refreshToken"])
    ended, _ = await refresh(backend.client(), current["refreshToken"])
    untouched, _ = await refresh(backend.client(), other["refreshToken"])

    assert (reused, ended, untouched) == (401, 401, 200)


async def test_logout_ends_the_session_and_may_be_repeated(backend: Backend) -> None:
    await backend.new_user("grace@example.com")
    session = await log_in(backend.client(), "grace@example.com")
    content = {"refreshToken": session["refreshToken"]}

    assert (await backend.client().post("/api/v1/auth/logout", content)).status == 200
    assert (await backend.client().post("/api/v1/auth/logout", content)).status == 200
    status, answer = await refresh(backend.client(), session["refreshToken"])
    assert (status, answer["field"]) == (401, "refreshToken")


async def test_a_disabled_user_is_out_at_once(backend: Backend) -> None:
    user_id, client = await backend.new_user("heidi@example.com")
    session = await log_in(backend.client(), "heidi@example.com")
    await users.set_disabled(backend.pool, user_id, True)

    assert (await client.get("/api/v1/api-keys")).status == 401
    assert (await refresh(backend.client(), session["refreshToken"]))[0] == 401
    refused = await backend.client().post("/api/v1/auth/login", {"email": "heidi@example.com", "password": PASSWORD})
    assert refused.status == 401


@pytest.mark.parametrize("token", ["", "nonsense", "é\x00", "x" * 10_000])
async def test_what_is_no_refresh_token(backend: Backend, token: str) -> None:
    status, _ = await refresh(backend.client(), token)
    assert status == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer nonsense", "nonsense"])
async def test_without_a_good_access_token_the_answer_says_what_to_send(backend: Backend, header: str) -> None:
    answer = await backend.client().request("GET", "/api/v1/api-keys", headers={"authorization": header})

    assert (answer.status, answer.code) == (401, -1002)
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_every_wrong_body_has_its_own_answer(backend: Backend) -> None:
    client = backend.client()
    good = b'{"email": "ivan@example.com", "password": "%s"}' % PASSWORD.encode()
    cases: list[tuple[bytes, dict[str, str], int, int]] = [
        (b"", {}, 400, -1135),
        (b'{"email": ', {}, 400, -1135),
        (b"[]", {}, 400, -1135),
        (b'{"email": "ivan@example.com"}', {}, 400, -1102),
        (good[:-1] + b', "role": "operator"}', {}, 400, -1104),
        (good[:-1] + b', "email": "x@example.com"}', {}, 400, -1101),
        (b'{"email": 1, "password": "x"}', {}, 400, -1130),
        (good, {"content-type": "application/x-www-form-urlencoded"}, 415, -1135),
        (b"{" + b" " * 10_000_000 + b"}", {}, 413, -9002),
    ]
    for body, headers, status, code in cases:
        answer = await client.request("POST", "/api/v1/auth/register", body=body, headers=headers)
        assert (answer.status, answer.code) == (status, code), (body[:80], answer.body)
    assert (await client.request("POST", "/api/v1/auth/register", body=good)).status == 201
