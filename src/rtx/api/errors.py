"""Refusals as clients see them: Binance's code and text, with the HTTP status that goes with it.

Clients read both: ccxt chooses its exception class by the text first and by the code second, so the texts here are part
of the interface (Binance Spot API, errors.md). Codes from -9000 down are ours, for what Binance has no code for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

UNKNOWN: Final = -1000
DISCONNECTED: Final = -1001
UNAUTHORIZED: Final = -1002
TOO_MANY_REQUESTS: Final = -1003
TIMEOUT: Final = -1007
SERVER_BUSY: Final = -1008
INVALID_MESSAGE: Final = -1013
UNKNOWN_ORDER_COMPOSITION: Final = -1014
UNSUPPORTED_OPERATION: Final = -1020
INVALID_TIMESTAMP: Final = -1021
INVALID_SIGNATURE: Final = -1022
ILLEGAL_CHARS: Final = -1100
TOO_MANY_PARAMETERS: Final = -1101
MANDATORY_PARAM_EMPTY_OR_MALFORMED: Final = -1102
UNREAD_PARAMETERS: Final = -1104
PARAM_EMPTY: Final = -1105
PARAM_NOT_REQUIRED: Final = -1106
PARAM_OVERFLOW: Final = -1108
BAD_PRECISION: Final = -1111
NO_DEPTH: Final = -1112
TIF_NOT_REQUIRED: Final = -1114
INVALID_TIF: Final = -1115
INVALID_ORDER_TYPE: Final = -1116
INVALID_SIDE: Final = -1117
BAD_INTERVAL: Final = -1120
BAD_SYMBOL: Final = -1121
INVALID_SYMBOL_STATUS: Final = -1122
MORE_THAN_XX_HOURS: Final = -1127
OPTIONAL_PARAMS_BAD_COMBO: Final = -1128
INVALID_PARAMETER: Final = -1130
BAD_RECV_WINDOW: Final = -1131
BAD_STRATEGY_TYPE: Final = -1134
INVALID_JSON: Final = -1135
INVALID_TICKER_TYPE: Final = -1139
INVALID_CANCEL_RESTRICTIONS: Final = -1145
DUPLICATE_SYMBOLS: Final = -1151
INVALID_TIME_UNIT: Final = -1194
SYMBOL_DOES_NOT_MATCH_STATUS: Final = -1220
NEW_ORDER_REJECTED: Final = -2010
CANCEL_REJECTED: Final = -2011
NO_SUCH_ORDER: Final = -2013
BAD_API_KEY_FORMAT: Final = -2014
REJECTED_API_KEY: Final = -2015
CANCEL_REPLACE_PARTIALLY_FAILED: Final = -2021
CANCEL_REPLACE_FAILED: Final = -2022
ORDER_AMEND_REJECTED: Final = -2038

IDEMPOTENCY_KEY_REUSED: Final = -9001
"""The ``Idempotency-Key`` was already used for a different request."""

BODY_TOO_LARGE: Final = -9002
"""The request's head, query string or body is larger than the server takes."""

NOT_FOUND: Final = -9004
"""No such address."""

CANNOT_RESUME: Final = -9005
"""A stream cannot go on from where the client says it was."""


class ApiError(Exception):
    """A refusal, rendered as ``{"code": code, "msg": message}`` under ``http_status``.

    ``field`` (ours only) names the member of a JSON body at fault, ``data`` is cancel-replace's report of its halves,
    ``headers`` go out with the answer.
    """

    def __init__(
        self,
        code: int,
        message: str,
        http_status: int = 400,
        *,
        field: str | None = None,
        data: msgspec.Raw | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.http_status = http_status
        self.field = field
        self.data = data
        self.headers = headers or {}

    def body(self) -> bytes:
        """Render the JSON body."""
        content: dict[str, object] = {"code": self.code, "msg": self.message}
        if self.field is not None:
            content["field"] = self.field
        if self.data is not None:
            content["data"] = self.data
        return _encode(content)


_encode = msgspec.json.Encoder().encode


def invalid_symbol() -> ApiError:
    """No market has this symbol."""
    return ApiError(BAD_SYMBOL, "Invalid symbol.")


def mandatory_parameter(name: str) -> ApiError:
    """A mandatory parameter is absent, empty or malformed."""
    return ApiError(
        MANDATORY_PARAM_EMPTY_OR_MALFORMED,
        f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.",
    )


def either_parameter(first: str, second: str) -> ApiError:
    """One of two parameters has to be given."""
    return ApiError(
        MANDATORY_PARAM_EMPTY_OR_MALFORMED, f"Param '{first}' or '{second}' must be sent, but both were empty/null!"
    )


def empty_parameter(name: str) -> ApiError:
    """An optional parameter was given without a value."""
    return ApiError(PARAM_EMPTY, f"Parameter '{name}' was empty.")


def illegal_characters(name: str, legal: str) -> ApiError:
    """A value does not match the pattern of its parameter."""
    return ApiError(ILLEGAL_CHARS, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def not_required(name: str) -> ApiError:
    """A parameter was given that does not go with the others."""
    return ApiError(PARAM_NOT_REQUIRED, f"Parameter '{name}' sent when not required.")


def invalid_parameter(name: str) -> ApiError:
    """A value is of the right form and makes no sense."""
    return ApiError(INVALID_PARAMETER, f"Data sent for parameter '{name}' is not valid.")


def too_much_precision(name: str) -> ApiError:
    """A decimal has more digits after the point than the asset has."""
    return ApiError(BAD_PRECISION, f"Parameter '{name}' has too much precision.")


def overflowed(name: str) -> ApiError:
    """A number is beyond what the exchange can hold."""
    return ApiError(PARAM_OVERFLOW, f"Parameter '{name}' overflowed.")


def duplicate_parameter() -> ApiError:
    """The same parameter was given twice."""
    return ApiError(TOO_MANY_PARAMETERS, "Duplicate values for a parameter detected.")


def unread_parameters(read: int, sent: int) -> ApiError:
    """Parameters were given that the endpoint does not know."""
    return ApiError(
        UNREAD_PARAMETERS, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
    )


def invalid_signature() -> ApiError:
    """The HMAC does not match."""
    return ApiError(INVALID_SIGNATURE, "Signature for this request is not valid.")


def invalid_timestamp(*, ahead: bool) -> ApiError:
    """The request is too old, or from the future."""
    if ahead:
        return ApiError(INVALID_TIMESTAMP, "Timestamp for this request was 1000ms ahead of the server's time.")
    return ApiError(INVALID_TIMESTAMP, "Timestamp for this request is outside of the recvWindow.")


def bad_api_key_format() -> ApiError:
    """There is no API key, or it cannot be one."""
    return ApiError(BAD_API_KEY_FORMAT, "API-key format invalid.", 401)


def rejected_api_key() -> ApiError:
    """The API key is unknown, or its permissions or addresses do not allow this."""
    return ApiError(REJECTED_API_KEY, "Invalid API-key, IP, or permissions for action.", 401)


def execution_unknown() -> ApiError:
    """The engine did not answer in time; the command may or may not have been executed."""
    return ApiError(
        TIMEOUT,
        "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
        504,
    )


def overloaded() -> ApiError:
    """The engine's queue is full; nothing was done."""
    return ApiError(
        SERVER_BUSY,
        "Server is currently overloaded with other requests. Please try again in a few minutes.",
        503,
        headers={"Retry-After": "1"},
    )


def unavailable() -> ApiError:
    """A part behind the API cannot be reached; nothing was done."""
    return ApiError(
        DISCONNECTED,
        "Internal error; unable to process your request. Please try again.",
        503,
        headers={"Retry-After": "1"},
    )


def unknown_error() -> ApiError:
    """Something broke; the log has it under the request id."""
    return ApiError(UNKNOWN, "An unknown error occurred while processing the request.", 500)


def idempotency_key_reused() -> ApiError:
    """The idempotency key stands for another request."""
    return ApiError(IDEMPOTENCY_KEY_REUSED, "This Idempotency-Key was already used for a different request.", 409)


def body_too_large(limit_bytes: int) -> ApiError:
    """The body is larger than the server takes; the connection is closed after the answer."""
    return ApiError(
        BODY_TOO_LARGE,
        f"Request body is too large; the limit is {limit_bytes} bytes.",
        413,
        headers={"Connection": "close"},
    )


def cut_short() -> ApiError:
    """The client went away before it had sent the whole body; nobody reads this but the log."""
    return ApiError(DISCONNECTED, "The request ended before its body did.", 400)


def query_too_large(limit_bytes: int) -> ApiError:
    """The query string is larger than the server takes."""
    return ApiError(BODY_TOO_LARGE, f"Query string is too large; the limit is {limit_bytes} bytes.", 414)


def head_too_large(limit_bytes: int) -> ApiError:
    """Address and headers are larger than the server takes; the connection is closed after the answer."""
    return ApiError(
        BODY_TOO_LARGE,
        f"Request head is too large; the limit is {limit_bytes} bytes.",
        431,
        headers={"Connection": "close"},
    )


def not_found() -> ApiError:
    """No endpoint has this path."""
    return ApiError(NOT_FOUND, "No such endpoint.", 404)


def method_not_allowed(allowed: str) -> ApiError:
    """The endpoint does not take this method; ``allowed`` lists those it takes."""
    return ApiError(UNSUPPORTED_OPERATION, "This operation is not supported.", 405, headers={"Allow": allowed})
