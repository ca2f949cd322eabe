"""Arms, renews and disarms dead-man's switches; what the exchange refuses is put into words."""

from __future__ import annotations

from typing import Final, NamedTuple

from rtx.api import errors
from rtx.api.context import ApiContext
from rtx.api.errors import ApiError
from rtx.api.refusals import refusal_of
from rtx.core.commands import CancelAllAfter
from rtx.core.events import CancelAllAfterSet
from rtx.core.rejections import Reason
from rtx.core.vocabulary import LONGEST_CANCEL_ALL_AFTER_US, MOST_SESSIONS
from rtx.link.client import CommandRejectedError, EngineError

OWN_SESSION: Final = ""
"""The switch that belongs to no WebSocket connection."""

TIMEOUT_MS_MIN: Final = 1_000
TIMEOUT_MS_MAX: Final = LONGEST_CANCEL_ALL_AFTER_US // 1_000


class SwitchGoneError(Exception):
    """What was to be renewed went off, or was disarmed by somebody."""


class SwitchSet(NamedTuple):
    """When the switch goes off (0: it is disarmed), and when that was set; Unix microseconds of the exchange."""

    deadline_us: int
    time_us: int


async def set_switch(
    context: ApiContext,
    account_id: int,
    timeout_us: int,
    *,
    session: str = OWN_SESSION,
    request_id: str,
    renews: bool = False,
) -> SwitchSet:
    """Arm the switch of a session anew, or disarm it (``timeout_us`` 0).

    Raises :class:`ApiError`, and :class:`SwitchGoneError` where it ``renews`` what is not armed.
    """
    command = CancelAllAfter(account_id, timeout_us, session, renews)
    try:
        applied = await context.engine.submit(
            command, request_id=request_id, timeout_s=context.settings.engine_timeout_s
        )
    except CommandRejectedError as rejection:
        raise _refusal(rejection) from None
    except EngineError as error:
        raise refusal_of(error) from None
    event = applied.events[0]
    assert isinstance(event, CancelAllAfterSet)
    return SwitchSet(event.deadline_us, applied.time_us)


async def armed_switches(context: ApiContext, account_id: int) -> dict[str, int]:
    """When each armed switch goes off, in Unix microseconds, by session. Raises :class:`ApiError`."""
    try:
        return dict(await context.engine.deadlines(account_id))
    except CommandRejectedError:
        # The engine is of a version from before there were any.
        raise errors.unavailable() from None
    except EngineError as error:
        raise refusal_of(error) from None


def _refusal(rejection: CommandRejectedError) -> ApiError | SwitchGoneError:
    if rejection.reason is Reason.UNKNOWN_DEADLINE:
        return SwitchGoneError()
    field = rejection.rejections[0].field
    if field == "session":
        return ApiError(
            errors.INVALID_PARAMETER,
            f"This account has {MOST_SESSIONS} dead-man's switches armed already, which is the most there can be.",
        )
    if field == "command":
        # The engine is of a version from before there were any.
        return errors.unavailable()
    return refusal_of(rejection)
