"""Cancel on disconnect: a connection's own dead-man's switch, which the worker renews while the client is there.

The exchange keeps the switch, not the worker: when the worker dies without a word, nobody renews any more, and the
orders are cancelled after the grace. When the client goes, the switch is set to go off at once. When it is the exchange
that ends the connection, the client gets its whole grace to come back.

Every connection has a switch of its own name. A client that comes back names the one of its former connection, which is
then disarmed; from there on the worker that still holds that connection, if any, can neither renew nor set it off.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from rtx.api import errors
from rtx.api.cancel_all_after import service
from rtx.api.cancel_all_after.service import TIMEOUT_MS_MAX, TIMEOUT_MS_MIN, SwitchGoneError
from rtx.api.context import ApiContext
from rtx.api.errors import ApiError
from rtx.api.signed_requests import check_signature, check_timestamp, find_key
from rtx.cancellation import end_tasks
from rtx.store.connection import CONNECTION_ERRORS

RENEWALS_A_GRACE: Final = 3
RETRY_S: Final = 0.2
ATTEMPTS_AT_THE_END: Final = 3
END_TIMEOUT_S: Final = 5.0
"""How long the end of the worker waits for what its connections left to do."""

AT_ONCE_US: Final = 1

_PARAMETERS: Final = frozenset({"apiKey", "timestamp", "recvWindow", "signature", "graceMs", "replaces"})
_is_session = re.compile(r"ws-[0-9a-f]{32}").fullmatch
_is_number = re.compile(r"[0-9]{1,9}", re.ASCII).fullmatch

_log = structlog.get_logger("rtx.api.streams.cancel_on_disconnect")


class DisconnectSwitches:
    """The switches of a worker's connections."""

    def __init__(self, context: ApiContext) -> None:
        self.context = context
        self._endings: set[asyncio.Task[None]] = set()

    def of_connection(self, address: str, request_id: str) -> ConnectionSwitch:
        """A switch for a new connection, which comes from ``address``."""
        return ConnectionSwitch(self, address, request_id)

    def end(self, switch: ArmedSwitch, timeout_us: int) -> None:
        """Have a switch go off so much later, unless somebody disarmed it meanwhile; does not wait."""
        task = asyncio.create_task(self._end(switch, timeout_us))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        """Wait for what the connections left to do, but not for long: the exchange does the same after the grace."""
        if self._endings:
            await asyncio.wait(self._endings, timeout=END_TIMEOUT_S)
        await end_tasks(*self._endings)

    async def _end(self, switch: ArmedSwitch, timeout_us: int) -> None:
        for _ in range(ATTEMPTS_AT_THE_END):
            try:
                await switch.renew(self.context, timeout_us)
            except SwitchGoneError:
                return
            except ApiError as error:
                _log.warning("cancel_on_disconnect.not_ended", account_id=switch.account_id, error=error.message)
                await asyncio.sleep(RETRY_S)
            else:
                return


class ArmedSwitch:
    """A switch that is armed, or about to be."""

    def __init__(self, account_id: int, grace_ms: int, request_id: str) -> None:
        self.account_id = account_id
        self.grace_ms = grace_ms
        self.session = f"ws-{secrets.token_hex(16)}"
        self._request_id = request_id

    async def arm(self, context: ApiContext, grace_ms: int) -> int:
        """Arm it; gives its deadline in Unix microseconds. Raises :class:`ApiError`."""
        switch = await service.set_switch(
            context, self.account_id, grace_ms * 1_000, session=self.session, request_id=self._request_id
        )
        self.grace_ms = grace_ms
        return switch.deadline_us

    async def renew(self, context: ApiContext, timeout_us: int) -> None:
        """Move its deadline, or disarm it (0).

        Raises :class:`ApiError`, and :class:`SwitchGoneError` when it is not armed any more.
        """
        await service.set_switch(
            context, self.account_id, timeout_us, session=self.session, request_id=self._request_id, renews=True
        )

    async def replace(self, context: ApiContext, session: str) -> bool:
        """Disarm the switch of a former connection; False when it is not armed any more. Raises :class:`ApiError`."""
        try:
            await service.set_switch(
                context, self.account_id, 0, session=session, request_id=self._request_id, renews=True
            )
        except SwitchGoneError:
            return False
        return True


class ConnectionSwitch:
    """The switch of one connection. ``on_gone`` is called when it went off, or was replaced, behind our back."""

    def __init__(self, switches: DisconnectSwitches, address: str, request_id: str) -> None:
        self.on_gone: Callable[[], None] | None = None
        self._switches = switches
        self._context = switches.context
        self._address = address
        self._request_id = request_id
        self._armed: ArmedSwitch | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def enable(self, parameters: Mapping[str, Any]) -> dict[str, object]:
        """Arm the switch as a signed request asks, once more with another grace; raises :class:`ApiError`."""
        account_id, grace_ms, replaced = await self._read(parameters)
        before = self._armed
        if before is not None and before.account_id != account_id:
            raise ApiError(
                errors.INVALID_PARAMETER, "This connection cancels the orders of another account; disable that first."
            )
        # From here on the end of the connection concerns it, whether or not the answer arrives before.
        armed = self._armed = before or ArmedSwitch(account_id, grace_ms, self._request_id)
        result: dict[str, object] = {"session": armed.session, "graceMs": grace_ms}
        try:
            result["deadline"] = await armed.arm(self._context, grace_ms) // 1_000
            if replaced is not None:
                result["replaced"] = await armed.replace(self._context, replaced)
        except ApiError:
            if before is None:
                self._armed = None
                self._switches.end(armed, 0)
            raise
        if self._armed is armed:
            self._stop_renewing()
            self._renewing = asyncio.create_task(self._renew(armed))
        return result

    async def disable(self) -> None:
        """Disarm the switch, if it is armed; raises :class:`ApiError`, and then it stays armed."""
        if self._armed is not None:
            with contextlib.suppress(SwitchGoneError):
                await self._armed.renew(self._context, 0)
            self._stop_renewing()
            self._armed = None

    def connection_ended(self, *, by_exchange: bool) -> None:
        """Cancel the account's orders now, or after the grace where the exchange itself ended the connection."""
        self._stop_renewing()
        armed, self._armed = self._armed, None
        if armed is not None:
            self._switches.end(armed, armed.grace_ms * 1_000 if by_exchange else AT_ONCE_US)

    def _stop_renewing(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            self._renewing = None

    async def _renew(self, armed: ArmedSwitch) -> None:
        pause_s = armed.grace_ms / 1_000 / RENEWALS_A_GRACE
        next_s = pause_s
        while True:
            await asyncio.sleep(next_s)
            try:
                await armed.renew(self._context, armed.grace_ms * 1_000)
                next_s = pause_s
            except SwitchGoneError:
                self._armed = None
                if self.on_gone is not None:
                    self.on_gone()
                return
            except ApiError as error:
                _log.warning("cancel_on_disconnect.not_renewed", account_id=armed.account_id, error=error.message)
                next_s = min(RETRY_S, pause_s)

    async def _read(self, parameters: Mapping[str, Any]) -> tuple[int, int, str | None]:
        """Whose orders, the grace in milliseconds, and the session that this one takes the place of."""
        texts = {name: _text_of(name, value) for name, value in parameters.items()}
        api_key = texts.get("apiKey", "")
        try:
            key = await find_key(self._context, "trade", api_key.encode(errors="replace"), self._address)
        except CONNECTION_ERRORS:
            raise errors.unavailable() from None
        signature = texts.pop("signature", "")
        if not signature:
            raise errors.mandatory_parameter("signature")
        payload = "&".join(f"{name}={value}" for name, value in sorted(texts.items()))
        check_signature(key, payload.encode(errors="replace"), signature)
        check_timestamp(self._context, texts)
        unknown = sorted(texts.keys() - _PARAMETERS)
        if unknown:
            raise ApiError(
                errors.UNREAD_PARAMETERS,
                f"Unknown parameter '{unknown[0][:50]}'; known are {', '.join(sorted(_PARAMETERS))}.",
            )
        return key.account_id, _grace_ms(texts), _replaced_session(texts)


def _text_of(name: str, value: object) -> str:
    """A value as it is signed."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ApiError(
        errors.INVALID_PARAMETER, f"Parameter '{name[:50]}' must be a string or a whole number to be signed."
    )


def _grace_ms(texts: Mapping[str, str]) -> int:
    text = texts.get("graceMs")
    if text is None:
        raise errors.mandatory_parameter("graceMs")
    if not _is_number(text) or not TIMEOUT_MS_MIN <= int(text) <= TIMEOUT_MS_MAX:
        raise ApiError(
            errors.INVALID_PARAMETER,
            f"Parameter 'graceMs' must be a whole number from {TIMEOUT_MS_MIN} to {TIMEOUT_MS_MAX}.",
        )
    return int(text)


def _replaced_session(texts: Mapping[str, str]) -> str | None:
    text = texts.get("replaces")
    if text is not None and not _is_session(text):
        raise ApiError(
            errors.INVALID_PARAMETER,
            "Parameter 'replaces' must be the session of a former connection, as cancelOnDisconnect.enable gave it.",
        )
    return text
