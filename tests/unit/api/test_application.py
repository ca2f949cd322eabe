"""Whatever happens behind an endpoint, the client gets one precise answer, and the log and the metrics tell of it."""

from __future__ import annotations

import asyncio
import hmac
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import asyncpg
import pytest
import uvicorn
from prometheus_client import REGISTRY
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.integration.api_v1.backend import Answer, Client

from rtx.api.api_key_cache import ApiKey, ApiKeyCache
from rtx.api.application import Application
from rtx.api.book_reader import BookReader
from rtx.api.context import ApiContext, ApiSettings, context_of, request_id_of
from rtx.api.errors import ApiError
from rtx.api.markets import Asset, Market, MarketDirectory
from rtx.api.orders.endpoints import ROUTES
from rtx.api.requests import BinanceRequest, route
from rtx.api.secrets_at_rest import SecretBox
from rtx.api.telemetry import RequestLog
from rtx.core.commands import AnyCommand, MarketFilters
from rtx.core.events import Rejected
from rtx.core.rejections import Reason
from rtx.link.client import (
    Applied,
    CommandRejectedError,
    EngineFaultError,
    EngineOverloadedError,
    EngineTimeoutError,
    IdempotencyConflictError,
)
from rtx.link.messages import BookAnswer, Response

API_KEY, SECRET = "k" * 64, b"s" * 64


class BrokenEngine:
    """An engine that answers every command with an error."""

    is_connected = True

    def __init__(self) -> None:
        self.error: Exception = EngineTimeoutError()

    def begin(self, command: AnyCommand, **_more: Any) -> asyncio.Future[Response]:
        response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        response.set_exception(self.error)
        return response

    def conclude(self, response: Response) -> Applied:
        raise AssertionError("no command was done")

    async def submit(self, command: AnyCommand, **_more: Any) -> Applied:
        raise self.error

    async def book(self, market_id: int, limit: int) -> tuple[int, BookAnswer]:
        raise self.error

    async def deadlines(self, account_id: int) -> list[tuple[str, int]]:
        raise self.error

    async def state_hash(self) -> tuple[int, bytes]:
        raise self.error

    async def position(self, *, timeout_s: float = 10.0) -> int:
        raise self.error


def make_context(engine: BrokenEngine, find_key: Callable[[str], Any]) -> ApiContext:
    base, quote = Asset(1, "BTC", 8), Asset(2, "USDT", 8)
    market = Market(1, "BTCUSDT", base, quote, tick_size=1_000_000, lot_size=1_000, status=0, filters=MarketFilters())

    async def load_markets() -> tuple[list[Asset], list[Market]]:
        return [base, quote], [market]

    return ApiContext(
        settings=ApiSettings(jwt_secrets=("secret",), request_body_bytes_max=1000),
        history=cast("Any", None),
        pool=cast("Any", None),
        engine=engine,
        redis=cast("Any", None),
        secrets=SecretBox(["secret"]),
        markets=MarketDirectory(load_markets),
        api_keys=ApiKeyCache(find_key, time.monotonic, 60.0),
        books=BookReader(engine.book),
        auth=cast("Any", None),
        clock_us=lambda: time.time_ns() // 1000,
    )


async def greet(request: Request) -> JSONResponse:
    if request.method == "POST":
        return JSONResponse({"bytes": len(await request.body())})
    if "name" not in request.path_params:
        raise HTTPException(418, "A teapot.")
    if request.path_params["name"] == "nobody":
        raise ApiError(-9010, "Nobody is here.", 403, field="name")
    assert context_of(request).settings.request_body_bytes_max == 1000
    return JSONResponse({"name": request.path_params["name"], "requestId": request_id_of(request)})


def losing_connections(count: int) -> tuple[list[BinanceRequest], Callable[[BinanceRequest], Awaitable[bytes]]]:
    """A handler that meets so many lost connections before it answers, and the requests that it got."""
    requests: list[BinanceRequest] = []

    async def handle(request: BinanceRequest) -> bytes:
        requests.append(request)
        if len(requests) <= count:
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return b'{"read":true}'

    return requests, handle


OUR_ROUTES = [Route("/hello/{name}", greet), Route("/hello", greet, methods=["GET", "POST"])]


class Setting:
    """An application over a broken engine, and what it logged."""

    def __init__(self) -> None:
        self.engine = BrokenEngine()
        self.key_error: Exception | None = None
        self.log = io.BytesIO()
        self.context = make_context(self.engine, self.find_key)
        self.application: Application = Application(self.context, [*ROUTES, *OUR_ROUTES], [], RequestLog(self.log))

    async def find_key(self, _api_key: str) -> ApiKey:
        if self.key_error is not None:
            raise self.key_error
        return ApiKey(1001, SECRET, frozenset({"read", "trade"}), ())

    @property
    def client(self) -> Client:
        return Client(self.application)

    async def place_order(self, headers: dict[str, str] | None = None) -> Answer:
        form = (
            f"symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=1&timestamp={time.time_ns() // 10**6}"
        )
        signature = hmac.new(SECRET, form.encode(), "sha256").hexdigest()
        return await self.client.request(
            "POST",
            "/api/v3/order",
            body=f"{form}&signature={signature}".encode(),
            headers={"X-MBX-APIKEY": API_KEY} | (headers or {}),
        )

    async def lines(self) -> list[dict[str, Any]]:
        await asyncio.sleep(0)
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@pytest.fixture
async def setting() -> Setting:
    made = Setting()
    await made.context.markets.read()
    return made


@pytest.mark.parametrize(
    ("error", "status", "code", "text"),
    [
        (EngineTimeoutError(), 504, -1007, "execution status unknown"),
        (EngineOverloadedError(), 503, -1008, "Server is currently overloaded with other requests."),
        (EngineFaultError(), 503, -1001, "Please try again."),
        (IdempotencyConflictError(), 409, -9001, "different request"),
        (
            CommandRejectedError([Rejected(Reason.INSUFFICIENT_BALANCE)]),
            400,
            -2010,
            "Account has insufficient balance for requested action.",
        ),
        (CommandRejectedError([Rejected(Reason.INVALID_FIELD, "price")]), 400, -1013, "Invalid price."),
        (CommandRejectedError([Rejected(Reason.INVALID_FIELD, "side")]), 400, -1130, "'side'"),
        (ConnectionResetError("gone"), 503, -1001, "Please try again."),
        (ZeroDivisionError("a fault of ours"), 500, -1000, "unknown error"),
    ],
)
async def test_what_the_engine_says_reaches_the_client(
    setting: Setting, error: Exception, status: int, code: int, text: str
) -> None:
    setting.engine.error = error
    answer = await setting.place_order()
    assert (answer.status, answer.json["code"]) == (status, code)
    assert text in answer.json["msg"]
    assert ("retry-after" in answer.headers) == (status == 503)


@pytest.mark.parametrize("reason", list(Reason))
async def test_every_reason_has_a_code_and_a_text(setting: Setting, reason: Reason) -> None:
    setting.engine.error = CommandRejectedError([Rejected(reason, "field")])
    answer = await setting.place_order()
    assert answer.status == 400
    assert answer.json["code"] < -1000
    assert answer.json["msg"]


@pytest.mark.parametrize(
    "error", [OSError("refused"), asyncpg.InterfaceError("closed"), asyncpg.CannotConnectNowError("starting")]
)
async def test_without_the_database_a_request_may_be_tried_again(setting: Setting, error: Exception) -> None:
    setting.key_error = error
    answer = await setting.place_order()
    assert (answer.status, answer.json["code"]) == (503, -1001)


async def test_what_only_reads_is_tried_again_over_another_connection(setting: Setting) -> None:
    for method, losses, status, calls in (("GET", 1, 200, 2), ("GET", 2, 503, 2), ("POST", 1, 503, 1)):
        requests, handle = losing_connections(losses)
        application = Application(
            setting.context, [route(method, "/api/v3/read", handle)], [], RequestLog(io.BytesIO())
        )
        answer = await Client(application).request(method, "/api/v3/read", body=b"")
        assert (answer.status, len(requests)) == (status, calls)


async def test_one_line_a_request_and_no_secrets_in_it(setting: Setting) -> None:
    answer = await setting.place_order({"X-Request-Id": "the-request"})
    line = (await setting.lines())[0]
    assert line.pop("duration_ms") >= 0
    assert line.pop("timestamp").startswith("20")
    assert line == {
        "level": "error",
        "event": "request",
        "request_id": "the-request",
        "method": "POST",
        "path": "/api/v3/order",
        "status": 504,
        "client": "192.0.2.1",
        "account_id": 1001,
        "code": -1007,
    }
    logged = setting.log.getvalue()
    assert API_KEY.encode() not in logged
    assert b"signature" not in logged
    assert answer.headers["x-request-id"] == "the-request"


async def test_metrics_by_route_and_code(setting: Setting) -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    order = {"method": "POST", "route": "/api/v3/order"}
    unknown = {"method": "unknown", "route": "unknown", "status": "404"}
    before = value("rtx_http_requests_total", **order, status="504")
    errors_before = value("rtx_http_errors_total", **order, code="-1007")
    durations_before = value("rtx_http_request_duration_seconds_count", **order)
    unknown_before = value("rtx_http_requests_total", **unknown)
    await setting.place_order()
    for path in ("/one", "/two"):
        assert (await setting.client.get(path)).status == 404
    setting.application.metrics.flush()
    assert value("rtx_http_requests_total", **order, status="504") == before + 1
    assert value("rtx_http_errors_total", **order, code="-1007") == errors_before + 1
    assert value("rtx_http_request_duration_seconds_count", **order) == durations_before + 1
    assert value("rtx_http_requests_total", **unknown) == unknown_before + 2


async def test_starlette_endpoints_answer_the_same_way(setting: Setting) -> None:
    client = setting.client
    found = await client.request("GET", "/hello/ann", headers={"X-Request-Id": "r1"})
    assert found.json == {"name": "ann", "requestId": "r1"}
    assert found.headers["x-request-id"] == "r1"
    refused = await client.get("/hello/nobody")
    assert (refused.status, refused.json) == (403, {"code": -9010, "msg": "Nobody is here.", "field": "name"})
    assert (await client.get("/hello")).json == {"code": -1000, "msg": "A teapot."}
    assert (await client.request("PUT", "/hello")).status == 405
    assert (await client.request("POST", "/hello", body=b"x" * 1000)).json == {"bytes": 1000}
    assert (await client.request("POST", "/hello", body=b"x" * 1001)).status == 413
    assert [line["path"] for line in await setting.lines()][:2] == ["/hello/ann", "/hello/nobody"]


@asynccontextmanager
async def served(application: Application) -> AsyncIterator[str]:
    """Serve over a real socket, as in production; gives the base address."""
    config = uvicorn.Config(
        cast("Any", application),
        host="127.0.0.1",
        port=0,
        lifespan="off",
        log_level="error",
        http="httptools",
        ws="none",
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        await server.shutdown()


async def ten_megabytes() -> AsyncIterator[bytes]:
    for _ in range(160):
        yield b"x" * 65_536


@pytest.mark.parametrize("path", ["/api/v3/order", "/hello"])
@pytest.mark.parametrize("has_length", [True, False])
async def test_ten_megabytes_are_refused_with_an_answer(setting: Setting, path: str, has_length: bool) -> None:
    content = io.BytesIO(b"x" * (160 * 65_536)) if has_length else ten_megabytes()
    async with served(setting.application) as address, aiohttp.ClientSession() as session:
        async with session.post(address + path, data=content) as answer:
            assert answer.status == 413
            assert await answer.json() == {
                "code": -9002,
                "msg": "Request body is too large; the limit is 1000 bytes.",
            }
            assert answer.headers["connection"] == "close"
        async with session.post(address + "/hello", data=b"small") as answer:
            assert await answer.json() == {"bytes": 5}
