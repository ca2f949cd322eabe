"""A whole backend in the test's own event loop: database, engine, link and API, without a socket for HTTP.

Nothing is faked but the network between client and API: requests go into the ASGI application as dictionaries.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis

from rtx.api.application import create_application
from rtx.api.auth.passwords import hash_password
from rtx.api.context import ApiContext, ApiSettings
from rtx.api.directories import make_context
from rtx.engine.service import EngineService
from rtx.link.client import EngineClient
from rtx.link.handshake import derive_key
from rtx.settings import Settings
from rtx.store import users
from rtx.store.connection import create_pool

JWT_SECRET = "the secret of the tests, which is long enough for everything"
PASSWORD = "correct horse battery staple"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> int:
        code: int = self.json["code"]
        return code


@dataclass
class Client:
    """Sends requests to an ASGI application; ``token`` goes out as the bearer token when there is one."""

    application: Callable[..., Any]
    token: str = ""
    address: str = "192.0.2.1"
    headers: dict[str, str] = field(default_factory=dict)

    async def request(
        self,
        method: str,
        path: str,
        content: object = None,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send ``content`` as JSON, or ``body`` as it is."""
        sent = {"content-type": "application/json"} | self.headers | (headers or {})
        if self.token:
            sent.setdefault("authorization", f"Bearer {self.token}")
        if body is None:
            body = b"" if content is None else json.dumps(content).encode()
        sent.setdefault("content-length", str(len(body)))
        url = urlsplit(path)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": url.path,
            "raw_path": url.path.encode(),
            "root_path": "",
            "query_string": url.query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
            "client": (self.address, 50_000),
            "server": ("192.0.2.100", 8080),
        }
        messages: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        await self.application(scope, receive, send)
        start = messages[0]
        return Answer(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in messages[1:]),
        )

    async def get(self, path: str) -> Answer:
        return await self.request("GET", path)

    async def post(self, path: str, content: object) -> Answer:
        return await self.request("POST", path, content)

    async def put(self, path: str, content: object) -> Answer:
        return await self.request("PUT", path, content)

    async def delete(self, path: str) -> Answer:
        return await self.request("DELETE", path)


@dataclass
class Backend:
    """A running backend; ``link`` is the connection to its engine, ``operator`` is logged in."""

    application: Callable[..., Any]
    context: ApiContext
    pool: asyncpg.Pool
    link: EngineClient
    stop_engine: Callable[[], Awaitable[None]]
    operator: Client

    def client(self, token: str = "") -> Client:
        """A client without a token, or with this one."""
        return Client(self.application, token)

    async def log_in(self, email: str, password: str = PASSWORD) -> Client:
        """A client with the access token of a user."""
        answer = await self.client().post("/api/v1/auth/login", {"email": email, "password": password})
        assert answer.status == 200, answer.body
        return self.client(answer.json["accessToken"])

    async def new_user(self, email: str) -> tuple[int, Client]:
        """Register a user and log in: id and client."""
        answer = await self.client().post("/api/v1/auth/register", {"email": email, "password": PASSWORD})
        assert answer.status == 201, answer.body
        return answer.json["userId"], await self.log_in(email)


@asynccontextmanager
async def running_backend(database_url: str, redis_url: str) -> AsyncIterator[Backend]:
    """Run a backend on a migrated database until the block ends."""
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        jwt_secret=JWT_SECRET,
        engine_host="127.0.0.1",
        engine_holder="test-engine",
    )
    async with AsyncExitStack() as stack:
        stop_engine, port = await stack.enter_async_context(_running_engine(settings))
        pool = await create_pool(database_url, application_name="rtx-test", minimum_size=2)
        stack.push_async_callback(pool.close)
        redis = Redis.from_url(redis_url)
        stack.push_async_callback(redis.aclose)
        link = await stack.enter_async_context(_connected_client(port))
        api_settings = ApiSettings(
            jwt_secrets=(JWT_SECRET,), engine_timeout_s=5.0, engine_holder=settings.engine_holder
        )
        context = make_context(api_settings, pool=pool, redis_client=redis, engine=link)
        application = create_application(context)
        await stack.enter_async_context(lifespan(application))
        await users.create(pool, "operator@example.com", hash_password(PASSWORD), role="operator")
        # Answered as soon as the engine leads.
        await link.position()
        backend = Backend(application, context, pool, link, stop_engine, Client(application))
        backend.operator = await backend.log_in("operator@example.com")
        yield backend


@asynccontextmanager
async def _running_engine(settings: Settings) -> AsyncIterator[tuple[Callable[[], Awaitable[None]], int]]:
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    engine = EngineService(settings, "test")
    task = asyncio.create_task(engine.run(listening.set_result))

    async def stop() -> None:
        engine.stop()
        await task

    try:
        yield stop, await listening
    finally:
        await stop()


@asynccontextmanager
async def _connected_client(port: int) -> AsyncIterator[EngineClient]:
    async def locate() -> tuple[str, int]:
        return "127.0.0.1", port

    connected = asyncio.Event()
    link = EngineClient(derive_key(JWT_SECRET), locate, on_connected=connected.set)
    link.start()
    try:
        await connected.wait()
        yield link
    finally:
        await link.stop()


@asynccontextmanager
async def lifespan(application: Callable[..., Any]) -> AsyncIterator[None]:
    """Start an ASGI application up, and shut it down in the end."""
    to_application: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    from_application: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    task = asyncio.create_task(application({"type": "lifespan"}, to_application.get, from_application.put))
    await to_application.put({"type": "lifespan.startup"})
    assert (await from_application.get())["type"] == "lifespan.startup.complete"
    try:
        yield
    finally:
        await to_application.put({"type": "lifespan.shutdown"})
        await task
