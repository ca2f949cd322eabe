"""The endpoints of Binance's API as this application runs them: an exact path, named parameters, JSON bytes back.

They do not go through Starlette: on the order path its routing, request and response objects would cost as much as the
order itself. Everything else does (see :mod:`rtx.api.application`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote_plus

from rtx.api import errors
from rtx.api.context import ApiContext
from rtx.api.errors import ApiError
from rtx.link.messages import Response

Permission = Literal["read", "trade"]

SIGNATURE_PARAMETERS: Final = frozenset({"timestamp", "recvWindow", "signature"})

_MAXIMUM_PARAMETERS: Final = 100


class BinanceRequest:
    """One request, authenticated if its endpoint asks for that, with only parameters that the endpoint knows."""

    __slots__ = ("account_id", "context", "headers", "parameters", "request_id", "route", "time_divisor")

    def __init__(
        self,
        context: ApiContext,
        route: BinanceRoute,
        parameters: dict[str, str],
        headers: Mapping[bytes, bytes],
        request_id: str,
        account_id: int,
        time_divisor: int,
    ) -> None:
        """``account_id`` is 0 on public endpoints; times in µs are divided by ``time_divisor`` on their way out."""
        self.context = context
        self.route = route
        self.parameters = parameters
        self.headers = headers
        self.request_id = request_id
        self.account_id = account_id
        self.time_divisor = time_divisor


Handler = Callable[[BinanceRequest], Awaitable[bytes]]
"""Answers with the JSON body of a 200, or raises :class:`~rtx.api.errors.ApiError`."""


class Begun(NamedTuple):
    """A request that waits for nothing but the engine: ``finish`` makes the answer when ``response`` is done.

    ``finish`` gives and raises what a :data:`Handler` does.
    """

    response: asyncio.Future[Response]
    finish: Callable[[asyncio.Future[Response]], bytes]


Beginner = Callable[[BinanceRequest], Begun | None]
"""A handler in two halves, without a task that waits between them; None where it would have to wait earlier."""


@dataclass(frozen=True, slots=True)
class BinanceRoute:
    """An endpoint: who may call it and which parameters it knows.

    ``permission`` None makes it public; otherwise the request has to be signed by a key that has the permission, and
    the parameters of the signature are known without being named. ``begin`` does the same as ``handler``, for the
    endpoints where it pays (see :mod:`rtx.api.order_entry_protocol`).
    """

    method: str
    path: str
    handler: Handler
    permission: Permission | None
    parameters: frozenset[str]
    begin: Beginner | None = None


def route(
    method: str,
    path: str,
    handler: Handler,
    parameters: Iterable[str] = (),
    *,
    permission: Permission | None = None,
    begin: Beginner | None = None,
) -> BinanceRoute:
    """Declare an endpoint; see :class:`BinanceRoute`."""
    known = frozenset(parameters)
    known = known | SIGNATURE_PARAMETERS if permission else known
    return BinanceRoute(method, path, handler, permission, known, begin)


def parse_parameters(query: bytes, body: bytes) -> dict[str, str]:
    """Read the parameters of a query string and a form body; those of the query stand where both have one.

    Raises -1101 where one of the two names a parameter twice and -1100 where a value is not UTF-8.
    """
    try:
        if not body:
            return _parse_form(query)
        if not query:
            return _parse_form(body)
        return _parse_form(body) | _parse_form(query)
    except UnicodeDecodeError as error:
        raise ApiError(errors.ILLEGAL_CHARS, "Illegal characters found in a parameter.") from error


def _parse_form(form: bytes) -> dict[str, str]:
    if not form:
        return {}
    text = form.decode("utf-8")
    pairs = text.split("&")
    if len(pairs) > _MAXIMUM_PARAMETERS:
        raise ApiError(
            errors.TOO_MANY_PARAMETERS,
            f"Too many parameters; expected '{_MAXIMUM_PARAMETERS}' and received '{len(pairs)}'.",
        )
    is_escaped = "%" in text or "+" in text
    parameters = {}
    count = 0
    for pair in pairs:
        if not pair:
            continue
        count += 1
        name, _, value = pair.partition("=")
        if is_escaped:
            name = unquote_plus(name, errors="strict")
            value = unquote_plus(value, errors="strict")
        parameters[name] = value
    if len(parameters) != count:
        raise errors.duplicate_parameter()
    return parameters
