"""``/api/v1/auth``: sign up, log in, stay logged in, log out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rtx.api.auth.json_body import json_response, read_json_object
from rtx.api.auth.service import MAXIMUM_EMAIL_LENGTH, Session
from rtx.api.context import client_address, context_of


async def register(request: Request) -> Response:
    """``{email, password}`` → 201 ``{userId}``."""
    body = await read_json_object(request, "email", "password")
    email = body.text("email", maximum_length=MAXIMUM_EMAIL_LENGTH)
    user_id = await context_of(request).auth.register(email, body.secret_text("password"))
    return json_response({"userId": user_id}, 201)


async def login(request: Request) -> Response:
    """``{email, password}`` → ``{accessToken, refreshToken, expiresIn}``, the latter in seconds."""
    body = await read_json_object(request, "email", "password")
    context = context_of(request)
    forwarded_for = request.headers.get("x-forwarded-for", "")
    address = client_address(request.scope.get("client"), forwarded_for, context.settings.trusted_proxies)
    email = body.text("email", maximum_length=MAXIMUM_EMAIL_LENGTH)
    return _session_response(await context.auth.login(email, body.secret_text("password"), address))


async def refresh(request: Request) -> Response:
    """``{refreshToken}`` → another pair; the token sent is used up."""
    body = await read_json_object(request, "refreshToken")
    return _session_response(await context_of(request).auth.refresh(body.secret_text("refreshToken")))


async def logout(request: Request) -> Response:
    """``{refreshToken}`` → ``{}``; the session's refresh tokens are revoked, its access token runs out by itself."""
    body = await read_json_object(request, "refreshToken")
    await context_of(request).auth.logout(body.secret_text("refreshToken"))
    return json_response({})


def _session_response(session: Session) -> Response:
    return json_response(
        {
            "accessToken": session.access_token,
            "refreshToken": session.refresh_token,
            "expiresIn": session.expires_in_s,
            "tokenType": "Bearer",
        }
    )


ROUTES = [
    Route("/api/v1/auth/register", register, methods=["POST"]),
    Route("/api/v1/auth/login", login, methods=["POST"]),
    Route("/api/v1/auth/refresh", refresh, methods=["POST"]),
    Route("/api/v1/auth/logout", logout, methods=["POST"]),
]
