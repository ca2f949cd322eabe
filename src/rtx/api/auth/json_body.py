"""JSON request bodies, read strictly and by name, so that every answer to a wrong one says what is wrong and where.

Numbers keep the text that the client wrote: an amount never passes through a float. A key given twice is an error, not
a choice between two values.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from rtx.api.decimals import format_amount
from rtx.api.errors import (
    INVALID_JSON,
    INVALID_PARAMETER,
    MANDATORY_PARAM_EMPTY_OR_MALFORMED,
    TOO_MANY_PARAMETERS,
    UNREAD_PARAMETERS,
    ApiError,
)
from rtx.core.vocabulary import MAXIMUM_AMOUNT

_PLAIN_DECIMAL: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?", re.ASCII)
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)

Member = TypeVar("Member")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class JsonNumber:
    """A number as the client wrote it."""

    text: str


class _DuplicateKeyError(ValueError):
    """A JSON object has the same key twice."""


class JsonObject:
    """The members of a request's JSON object; each method reads one and raises :class:`ApiError` naming its field."""

    def __init__(self, members: dict[str, object], allowed: Sequence[str]) -> None:
        for name in members:
            if name not in allowed:
                shown = name if len(name) <= 50 else name[:50] + "…"
                text = f"Unknown field {json.dumps(shown)}; known are {', '.join(allowed)}."
                raise ApiError(UNREAD_PARAMETERS, text, field=shown)
        self._members = members

    def __contains__(self, name: str) -> bool:
        """Say whether the client gave the member at all."""
        return name in self._members

    def text(self, name: str, maximum_length: int) -> str:
        """Read a string of 1 to ``maximum_length`` characters without control characters."""
        value = self._required(name)
        if not isinstance(value, str):
            refuse_type(name, value, "a string")
        if not 1 <= len(value) <= maximum_length:
            refuse(name, f"must have 1 to {maximum_length} characters, has {len(value)}")
        if not _is_plain_text(value):
            refuse(name, "must not contain control characters or halves of surrogate pairs")
        return value

    def secret_text(self, name: str) -> str:
        """Read a string of any length and content; its value is never repeated in an answer."""
        value = self._required(name)
        if not isinstance(value, str):
            refuse_type(name, value, "a string")
        return value

    def decimal(self, name: str, scale: int, maximum: int = MAXIMUM_AMOUNT) -> int:
        """Read a decimal that is not negative, given as a string or as a number, as whole units of 10**-``scale``."""
        value = self._required(name)
        text = value.text if isinstance(value, JsonNumber) else value
        if not isinstance(text, str):
            refuse_type(name, value, 'a decimal string such as "1.5"')
        if _PLAIN_DECIMAL.fullmatch(text) is None:
            refuse(name, 'must be 1 to 20 digits, or as many on each side of a point, without a sign, such as "1.5"')
        whole, _, fraction = text.partition(".")
        if len(fraction.rstrip("0")) > scale:
            refuse(name, f"must have at most {scale} digits after the point")
        units = int(whole + fraction.ljust(scale, "0")[:scale])
        if units > maximum:
            refuse(name, f"must be at most {format_amount(maximum, scale)}")
        return units

    def integer(self, name: str, minimum: int, maximum: int) -> int:
        """Read a whole number from ``minimum`` to ``maximum``, given as a number or as a string of digits."""
        value = self._required(name)
        text = value.text if isinstance(value, JsonNumber) else value
        if not isinstance(text, str):
            refuse_type(name, value, "a whole number")
        if _INTEGER.fullmatch(text) is None or not minimum <= int(text) <= maximum:
            refuse(name, f"must be a whole number from {minimum} to {maximum}")
        return int(text)

    def boolean(self, name: str) -> bool:
        """Read true or false."""
        value = self._required(name)
        if not isinstance(value, bool):
            refuse_type(name, value, "true or false")
        return value

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """Read one of several words."""
        value = self._required(name)
        if not isinstance(value, str):
            refuse_type(name, value, "a string")
        if value not in choices:
            refuse(name, f"must be one of {', '.join(choices)}")
        return value

    def choices(self, name: str, choices: Sequence[str]) -> list[str]:
        """Read an array of one or more of several words, each once; returned in the order of ``choices``."""
        values = self._array(name, maximum_length=len(choices))
        if not values or len(set(values)) != len(values) or not set(values) <= set(choices):
            refuse(name, f"must be an array of one or more of {', '.join(choices)}, each once")
        return [choice for choice in choices if choice in values]

    def networks(self, name: str, maximum_length: int) -> list[Network]:
        """Read an array of IP addresses and networks in CIDR notation."""
        networks = []
        for value in self._array(name, maximum_length):
            try:
                networks.append(ipaddress.ip_network(value))
            except ValueError:
                refuse(name, "must hold IP addresses or networks without host bits, such as 192.0.2.7 or 192.0.2.0/24")
        return networks

    def optional(self, name: str, read: Callable[[str], Member], default: Member) -> Member:
        """Read a member that may be left out or be null."""
        return default if self._members.get(name) is None else read(name)

    def _required(self, name: str) -> object:
        if name not in self._members:
            raise ApiError(MANDATORY_PARAM_EMPTY_OR_MALFORMED, f"Field '{name}' is missing.", field=name)
        return self._members[name]

    def _array(self, name: str, maximum_length: int) -> list[str]:
        values = self._required(name)
        if not isinstance(values, list) or any(not isinstance(value, str) for value in values):
            refuse_type(name, values, "an array of strings")
        if len(values) > maximum_length:
            refuse(name, f"must have at most {maximum_length} entries, has {len(values)}")
        return cast("list[str]", values)


async def read_json_object(request: Request, *allowed: str) -> JsonObject:
    """Read the body of a request as a JSON object with no members but those allowed.

    Raises :class:`ApiError`: 415 for another content type, 400 for what is not JSON, not an object, or has a member
    that is unknown or doubled (and 413, by the application, for a body that is too large).
    """
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ApiError(INVALID_JSON, "The body must be JSON: send Content-Type: application/json.", 415)
    return parse_json_object(await request.body(), allowed)


def parse_json_object(body: bytes, allowed: Sequence[str]) -> JsonObject:
    """As :func:`read_json_object`, for a body that is there already."""
    if not body.strip():
        raise ApiError(INVALID_JSON, f"The body is empty: send a JSON object with {', '.join(allowed)}.")
    try:
        document = json.loads(
            body.decode(),
            object_pairs_hook=_object_without_duplicates,
            parse_int=JsonNumber,
            parse_float=JsonNumber,
            parse_constant=_refuse_constant,
        )
    except _DuplicateKeyError as error:
        name = str(error)[:50]
        raise ApiError(TOO_MANY_PARAMETERS, f"Field {json.dumps(name)} is given twice.", field=name) from None
    except UnicodeDecodeError as error:
        raise ApiError(INVALID_JSON, f"The body is not UTF-8 at byte {error.start}.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ApiError(INVALID_JSON, f"The body is not valid JSON: {error.msg} at {where}.") from None
    except (RecursionError, ValueError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(INVALID_JSON, f"The body is not valid JSON: {reason}.") from None
    if not isinstance(document, dict):
        raise ApiError(INVALID_JSON, f"The body must be a JSON object, not {_kind(document)}.")
    return JsonObject(document, allowed)


def json_response(content: object, http_status: int = 200) -> Response:
    """Answer with JSON that no cache may keep: these answers hold tokens, keys and what belongs to one user."""
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(content), http_status, headers, media_type="application/json")


def refuse(name: str, what_would_be_right: str) -> NoReturn:
    """Raise the answer to a field whose value is wrong."""
    raise ApiError(INVALID_PARAMETER, f"Field '{name}' {what_would_be_right}.", field=name)


def refuse_type(name: str, value: object, expected: str) -> NoReturn:
    """Raise the answer to a field of the wrong type."""
    refuse(name, f"must be {expected}, not {_kind(value)}")


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise _DuplicateKeyError(name)
        members[name] = value
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _is_plain_text(text: str) -> bool:
    return all(character >= " " and character != "\x7f" and not "\ud800" <= character <= "\udfff" for character in text)


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case JsonNumber():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
