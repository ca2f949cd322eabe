"""`rtx operator create`: the first operator has nobody to ask over the API."""

from __future__ import annotations

import asyncio
import os
import sys

import typer

from rtx.api.auth.passwords import PasswordNotAcceptedError, hash_password
from rtx.cli.database import UNDEFINED_TABLE, database_url, fail_unreachable, first_line
from rtx.cli.messages import fail
from rtx.store import users
from rtx.store.connection import DATABASE_ERRORS, create_pool
from rtx.store.errors import EmailTakenError

PASSWORD_VARIABLE = "RTX_OPERATOR_PASSWORD"  # noqa: S105 - the name of a variable


def run_create_operator(email: str) -> int:
    """Make the operator; prints the user id."""
    if "@" not in email.strip("@"):
        fail(f"{email!r} is no e-mail address", "it should look like ada@example.com")
    url = database_url()
    try:
        password_hash = hash_password(_read_password())
    except PasswordNotAcceptedError as error:
        fail(f"the password {error}")
    try:
        user_id = asyncio.run(_create(url, email, password_hash))
    except EmailTakenError:
        fail(f"a user with the address {email} exists already", "choose another address for the operator")
    except DATABASE_ERRORS as error:
        if getattr(error, "sqlstate", "") == UNDEFINED_TABLE:
            fail("the database has no tables yet", "run `rtx migrate` first")
        fail_unreachable(url, first_line(error))
    print(f"operator {email} has user id {user_id}")
    return 0


async def _create(url: str, email: str, password_hash: str) -> int:
    pool = await create_pool(url, application_name="rtx-operator", maximum_size=1)
    try:
        return await users.create(pool, email, password_hash, role="operator")
    finally:
        await pool.close()


def _read_password() -> str:
    given = os.environ.get(PASSWORD_VARIABLE)
    if given:
        return given
    if sys.stdin.isatty():
        prompted: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return prompted
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        fail("no password was given", f"write it to standard input, or set {PASSWORD_VARIABLE}")
    return line
