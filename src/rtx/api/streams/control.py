"""What clients say over a stream connection, and the answers (web-socket-streams.md, "Live Subscribing").

Errors carry code and text both at the top, as Binance's document has them, and inside ``error``, where Binance's
servers put them and ccxt looks for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from rtx.api.streams.resumption import ID_MAX

_ID_CHARACTERS_MAX: Final = 36
_INTEGER_RANGE: Final = range(-(2**63), 2**63)

UNKNOWN_PROPERTY: Final = 0
INVALID_VALUE: Final = 1
INVALID_REQUEST: Final = 2
INVALID_JSON: Final = 3
CANNOT_RESUME: Final = 4
"""Ours: a stream cannot go on from where the client says it was; the text says why. No stream was subscribed to."""

METHODS: Final = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
METHODS_WITH_NAMED_PARAMETERS: Final = ("cancelOnDisconnect.enable", "cancelOnDisconnect.disable")

RequestId = int | str | None


class ControlError(Exception):
    """A request that cannot be done."""

    def __init__(self, code: int, message: str, request_id: RequestId = None, *, has_id: bool = False) -> None:
        """``has_id``: whether the request named an id that can be given back."""
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.request_id = request_id
        self.has_id = has_id


class ControlRequest(msgspec.Struct, frozen=True):
    """One request. ``params`` holds names for (UN)SUBSCRIBE, a property and a value for SET_PROPERTY.

    ``resume`` is ours, with SUBSCRIBE: by stream name the last update id or trade id that the client holds. Ours are
    also the methods whose parameters have names (``named``).
    """

    method: str
    params: tuple[Any, ...]
    request_id: RequestId
    resume: Any = None
    named: Mapping[str, Any] = {}

    def names(self) -> list[str]:
        """The stream names in ``params``; raises :class:`ControlError`."""
        if not self.params or not all(isinstance(name, str) for name in self.params):
            raise self.refuse(INVALID_REQUEST, "Invalid request: params must be a list of stream names")
        return list(dict.fromkeys(self.params))

    def positions(self) -> dict[str, int]:
        """What ``resume`` says of the streams in ``params``; raises :class:`ControlError`."""
        if self.resume is None:
            return {}
        names = self.names()
        if not isinstance(self.resume, dict) or not all(_is_number(number) for number in self.resume.values()):
            message = (
                "Invalid request: resume must be an object of stream names with the last update or trade id of each"
            )
            raise self.refuse(INVALID_REQUEST, message)
        for name in self.resume:
            if name not in names:
                raise self.refuse(INVALID_REQUEST, f"Invalid request: resume names {name[:64]}, which params does not")
        return dict(self.resume)

    def property_name(self, *, parameter_count: int) -> str:
        """The property in ``params``; raises :class:`ControlError` also for a wrong number of them."""
        if not self.params or not isinstance(self.params[0], str):
            raise self.refuse(INVALID_REQUEST, "Invalid request: property name must be a string")
        if len(self.params) > parameter_count:
            raise self.refuse(INVALID_REQUEST, "Invalid request: too many parameters")
        if self.params[0] != "combined":
            raise self.refuse(UNKNOWN_PROPERTY, "Unknown property")
        return self.params[0]

    def property_value(self) -> bool:
        """The value to set; raises :class:`ControlError`."""
        self.property_name(parameter_count=2)
        if len(self.params) < 2 or not isinstance(self.params[1], bool):
            raise self.refuse(INVALID_VALUE, "Invalid value type: expected Boolean")
        return self.params[1]

    def refuse(self, code: int, message: str) -> ControlError:
        """An error that names this request."""
        return ControlError(code, message, self.request_id, has_id=True)


def parse_request(text: str | bytes) -> ControlRequest:
    """Read one message; raises :class:`ControlError`."""
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ControlError(INVALID_JSON, f"Invalid JSON: expected value at {_position(text, str(error))}") from None
    end = f"at line 1 column {len(text)}"
    if not isinstance(content, dict):
        raise ControlError(INVALID_REQUEST, f"Invalid request: expected an object {end}")
    request_id = content.get("id")
    if "id" not in content or not _is_valid_id(request_id):
        raise ControlError(INVALID_REQUEST, "Invalid request: request ID must be an unsigned integer")
    method = content.get("method")
    if method is None:
        message = f"Invalid request: missing field `method` {end}"
        raise ControlError(INVALID_REQUEST, message, request_id, has_id=True)
    if method in METHODS_WITH_NAMED_PARAMETERS:
        named = content.get("params", {})
        if not isinstance(named, dict):
            message = "Invalid request: params must be an object"
            raise ControlError(INVALID_REQUEST, message, request_id, has_id=True)
        return ControlRequest(method, (), request_id, named=named)
    if method not in METHODS:
        expected = ", ".join(f"`{name}`" for name in (*METHODS, *METHODS_WITH_NAMED_PARAMETERS))
        message = f"Invalid request: unknown variant `{_shown(method)}`, expected one of {expected} {end}"
        raise ControlError(INVALID_REQUEST, message, request_id, has_id=True)
    params = content.get("params", [])
    if not isinstance(params, list):
        message = "Invalid request: params must be a list"
        raise ControlError(INVALID_REQUEST, message, request_id, has_id=True)
    if params and method == "LIST_SUBSCRIPTIONS":
        raise ControlError(INVALID_REQUEST, "Invalid request: too many parameters", request_id, has_id=True)
    return ControlRequest(method, tuple(params), request_id, content.get("resume"))


def render_result(result: bool | list[str] | dict[str, object] | None, request_id: RequestId) -> str:
    """The answer to a request that was done."""
    return msgspec.json.encode({"result": result, "id": request_id}).decode()


def render_error(error: ControlError) -> str:
    """The answer to a request that was not done."""
    detail = {"code": error.code, "msg": error.message}
    answer: dict[str, Any] = {**detail, "error": detail}
    if error.has_id:
        answer["id"] = error.request_id
    return msgspec.json.encode(answer).decode()


def _is_valid_id(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, str):
        return len(value) <= _ID_CHARACTERS_MAX and value.isascii() and value.isalnum()
    return isinstance(value, int) and not isinstance(value, bool) and value in _INTEGER_RANGE


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= ID_MAX


def _shown(method: object) -> str:
    return str(method)[:64]


def _position(text: str | bytes, problem: str) -> str:
    """Line and column of a JSON error, which msgspec names as a byte."""
    data = text.encode(errors="replace") if isinstance(text, str) else text
    named = re.search(r"byte (\d+)", problem)
    before = data[: int(named[1]) if named else len(data)]
    return f"line {before.count(10) + 1} column {len(before) - before.rfind(10)}"
