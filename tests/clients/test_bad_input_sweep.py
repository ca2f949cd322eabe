"""Everything that can be wrong with a request, sent to a running backend: the right answer, and nothing changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from tests.clients.raw_http import FORM, Answer, exchange_bytes, now_ms, send, signed
from tests.clients.server import Account, Server

pytestmark = pytest.mark.clients

TEN_MEGABYTES: Final = 10 * 1024 * 1024
LIMIT_BYTES: Final = 65_536

ORDER: Final = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "40000",
}


@dataclass(frozen=True)
class Stage:
    """A user with an order in the book, another one's order, and a key that may only read."""

    port: int
    user: Account
    reader: Account
    own_order_id: int
    foreign_order_id: int

    def request(
        self, method: str, path: str, form: str, *, account: Account | None = None, in_body: bool = False
    ) -> Answer:
        """Send a form as it is."""
        headers = {"X-MBX-APIKEY": (account or self.user).api_key, "Content-Type": FORM}
        if in_body:
            return send(self.port, method, path, body=form.encode(), headers=headers)
        return send(self.port, method, f"{path}?{form}", headers=headers)

    def ask(self, method: str, path: str, parameters: dict[str, object] | str = "", **times: object) -> Answer:
        """Sign and send."""
        return self.request(method, path, signed(self.user, parameters, **times))

    def state(self) -> tuple[Any, ...]:
        """Position in the journal, book, balances and open orders."""
        book = send(self.port, "GET", "/api/v3/depth?symbol=BTCUSDT", headers={}).content
        return book, self.ask("GET", "/api/v3/account").content, self.ask("GET", "/api/v3/openOrders").content


def place(port: int, account: Account, **changes: str) -> int:
    answer = send(
        port,
        "POST",
        "/api/v3/order",
        body=signed(account, {**ORDER, **changes}).encode(),
        headers={"X-MBX-APIKEY": account.api_key, "Content-Type": FORM},
    )
    assert answer.status == 200, answer
    return int(answer.content["orderId"])


@pytest.fixture(scope="module")
def stage(server: Server) -> Iterator[Stage]:
    user, other = server.account({"USDT": "1000"}), server.account({"USDT": "1000"})
    reader = server.account({"USDT": "1000"}, permissions=("read",))
    own, foreign = (
        place(server.port, user, newClientOrderId="mine"),
        place(server.port, other, newClientOrderId="theirs"),
    )
    stage = Stage(server.port, user, reader, own, foreign)
    yield stage
    assert server.operator("GET", "/api/v1/admin/reconciliation")["clean"]
    for account in (user, other):
        stage.request("DELETE", "/api/v3/openOrders", signed(account, {"symbol": "BTCUSDT"}), account=account)


@pytest.fixture(autouse=True)
def nothing_changes(stage: Stage) -> Iterator[None]:
    """Whatever a test sends leaves no trace, and the backend goes on serving."""
    before = stage.state()
    assert before[2][0]["orderId"] == stage.own_order_id
    yield
    assert stage.state() == before


def test_the_order_that_is_to_be_spoilt_is_good(stage: Stage) -> None:
    assert stage.ask("POST", "/api/v3/order/test", dict(ORDER)) == Answer(200, {})


DECIMAL: Final = "legal range is '^([0-9]{1,20})(\\.[0-9]{1,20})?$'."


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"symbol": "DOGEUSDT"}, -1121, "Invalid symbol."),
        ({"symbol": "DOTUSDT"}, -1013, "Market is closed."),
        ({"price": "40000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"quantity": "0.010001"}, -1013, "Filter failure: LOT_SIZE"),
        ({"symbol": "ETHUSDT", "quantity": "0.002", "price": "2400"}, -1013, "Filter failure: NOTIONAL"),
        ({"quantity": "1"}, -2010, "Account has insufficient balance for requested action."),
        ({"side": "SELL"}, -2010, "Account has insufficient balance for requested action."),
        ({"newClientOrderId": "mine"}, -2010, "Duplicate order sent."),
        ({"price": "NaN"}, -1100, f"Illegal characters found in parameter 'price'; {DECIMAL}"),
        ({"price": "1e400"}, -1100, f"Illegal characters found in parameter 'price'; {DECIMAL}"),
        ({"price": "1." + "0" * 40}, -1100, f"Illegal characters found in parameter 'price'; {DECIMAL}"),
        ({"quantity": "-0.01"}, -1100, f"Illegal characters found in parameter 'quantity'; {DECIMAL}"),
        ({"quantity": ""}, -1105, "Parameter 'quantity' was empty."),
        ({"quantity": "much"}, -1100, f"Illegal characters found in parameter 'quantity'; {DECIMAL}"),
        ({"side": "1"}, -1117, "Invalid side."),
        ({"type": "MARKET"}, -1106, "Parameter 'timeInForce' sent when not required."),
        ({"colour": "red"}, -1104, "Not all sent parameters were read; read '8' parameter(s) but was sent '9'."),
        ({"recvWindow": "60001"}, -1131, "recvWindow must be less than or equal to 60000."),
    ],
)
@pytest.mark.parametrize("in_body", [True, False])
def test_orders_with_one_thing_wrong(
    stage: Stage, changes: dict[str, str], code: int, text: str, in_body: bool
) -> None:
    answer = stage.request("POST", "/api/v3/order", signed(stage.user, {**ORDER, **changes}), in_body=in_body)
    assert answer == Answer(400, {"code": code, "msg": text})


def test_a_parameter_twice(stage: Stage) -> None:
    form = "&".join(f"{name}={value}" for name, value in ORDER.items()) + "&price=40001"
    assert stage.ask("POST", "/api/v3/order", form) == Answer(
        400, {"code": -1101, "msg": "Duplicate values for a parameter detected."}
    )


def test_somebody_elses_order(stage: Stage) -> None:
    theirs = {"symbol": "BTCUSDT", "orderId": stage.foreign_order_id}
    assert stage.ask("GET", "/api/v3/order", theirs) == Answer(400, {"code": -2013, "msg": "Order does not exist."})
    unknown = Answer(400, {"code": -2011, "msg": "Unknown order sent."})
    assert stage.ask("DELETE", "/api/v3/order", theirs) == unknown
    assert stage.ask("DELETE", "/api/v3/order", {"symbol": "BTCUSDT", "origClientOrderId": "theirs"}) == unknown
    replace = {**ORDER, "cancelReplaceMode": "STOP_ON_FAILURE", "cancelOrderId": stage.foreign_order_id}
    answer = stage.ask("POST", "/api/v3/order/cancelReplace", replace)
    assert (answer.status, answer.code) == (400, -2022)
    amend = {**theirs, "newQty": "0.005"}
    assert stage.ask("PUT", "/api/v3/order/amend/keepPriority", amend).status == 400
    assert stage.ask("GET", "/api/v3/myTrades", theirs).content == []


def test_signatures_keys_and_times(stage: Stage) -> None:
    good = signed(stage.user, dict(ORDER))
    wrong_signature = Answer(400, {"code": -1022, "msg": "Signature for this request is not valid."})
    rejected = Answer(401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."})
    assert stage.request("POST", "/api/v3/order", good.replace("40000", "39999")) == wrong_signature
    assert stage.request("POST", "/api/v3/order", good[:-1]) == wrong_signature
    assert stage.request("POST", "/api/v3/order", signed(stage.reader, dict(ORDER))) == wrong_signature
    assert stage.request("POST", "/api/v3/order", signed(stage.reader, dict(ORDER)), account=stage.reader) == rejected
    stranger = Account(0, "x" * 64, "x" * 64)
    assert stage.request("POST", "/api/v3/order", signed(stranger, dict(ORDER)), account=stranger) == rejected
    for timestamp in (now_ms() - 6000, now_ms() + 5000, 1):
        answer = stage.ask("POST", "/api/v3/order", dict(ORDER), timestamp=timestamp)
        assert (answer.status, answer.code) == (400, -1021)
    unsigned = send(stage.port, "POST", "/api/v3/order", body=b"symbol=BTCUSDT", headers={"Content-Type": FORM})
    assert (unsigned.status, unsigned.code) == (401, -2014)


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/api/v3/order", FORM),
        ("/api/v1/auth/login", "application/json"),
        ("/api/v1/auth/register", "application/json"),
    ],
)
@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_of_ten_megabytes(stage: Stage, path: str, content_type: str, is_announced: bool) -> None:
    part = b"a" * LIMIT_BYTES
    body = part * (TEN_MEGABYTES // LIMIT_BYTES) if is_announced else iter([part] * (TEN_MEGABYTES // LIMIT_BYTES))
    headers = {"X-MBX-APIKEY": stage.user.api_key, "Content-Type": content_type}
    answer = send(stage.port, "POST", path, body=body, headers=headers)
    text = f"Request body is too large; the limit is {LIMIT_BYTES} bytes."
    assert answer == Answer(413, {"code": -9002, "msg": text})


def test_ten_megabytes_for_nobody(stage: Stage) -> None:
    answer = send(stage.port, "POST", "/nowhere", body=b"a" * TEN_MEGABYTES, headers={"Content-Type": FORM})
    assert (answer.status, answer.code) == (404, -9004)


@pytest.mark.parametrize(
    "body", [b'{"email": "a@example.com"', b"[]", b"null", b"\xff\xfe", b"", b'{"email": 1, "password": []}']
)
def test_json_that_is_none_or_not_what_is_asked_for(stage: Stage, body: bytes) -> None:
    answer = send(stage.port, "POST", "/api/v1/auth/login", body=body, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status < 500
    assert answer.code < 0
    assert answer.content["msg"]


def test_json_where_a_form_belongs(stage: Stage) -> None:
    answer = send(
        stage.port,
        "POST",
        "/api/v3/order",
        body=json.dumps(ORDER).encode(),
        headers={"X-MBX-APIKEY": stage.user.api_key, "Content-Type": "application/json"},
    )
    assert (answer.status, answer.code) == (415, -1135)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /api/v3/time HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /api/v3/time HTTP/1.1\r\nHost : x\r\nno colon here\r\n\r\n",
        b"POST /api/v3/order HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v3/order HTTP/1.1\r\nHost: x\r\nContent-Length: five\r\n\r\nhello",
        b"POST /api/v3/order HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /api/v3/order HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        b"POST /api/v3/order HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_bytes_that_are_no_http(stage: Stage, request_bytes: bytes) -> None:
    assert exchange_bytes(stage.port, request_bytes).startswith(b"HTTP/1.1 400 ")


def test_a_long_header(stage: Stage) -> None:
    head = b"GET /api/v3/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: " + b"a" * 30_000
    assert exchange_bytes(stage.port, head + b"\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("header", [b"X-Long: ", b"X-Many: one\r\n"])
def test_a_head_of_ten_megabytes(stage: Stage, header: bytes) -> None:
    rest = header * (TEN_MEGABYTES // len(header)) if header.endswith(b"\n") else header + b"a" * TEN_MEGABYTES
    try:
        received = exchange_bytes(stage.port, b"GET /api/v3/ping HTTP/1.1\r\n" + rest + b"\r\n\r\n")
    except ConnectionError:  # closed while this was still sending
        return
    assert received.startswith(b"HTTP/1.1 431 ")
    assert b'{"code":-9002,"msg":"Request head is too large; the limit is 65536 bytes."}' in received


def test_a_body_that_never_ends_is_no_order(stage: Stage) -> None:
    form = signed(stage.user, dict(ORDER)).encode()
    head = (
        f"POST /api/v3/order HTTP/1.1\r\nHost: x\r\nX-MBX-APIKEY: {stage.user.api_key}\r\n"
        f"Content-Type: {FORM}\r\nContent-Length: {len(form) + 1}\r\n\r\n"
    )
    assert b"orderId" not in exchange_bytes(stage.port, head.encode() + form, half_close=True)


def test_requests_one_behind_the_other(stage: Stage) -> None:
    one = b"GET /api/v3/ping HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /api/v3/depth?symbol=DOGEUSDT HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    received = exchange_bytes(stage.port, one * 5 + last)
    assert received.count(b"HTTP/1.1 200") == 5
    assert received.count(b"HTTP/1.1 400") == 1
    assert b'{"code":-1121,"msg":"Invalid symbol."}' in received
