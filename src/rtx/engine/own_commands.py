"""The leader's own commands: they go through the sequencer and into the journal like everybody's.

Only that they are not refused when the queue is full: a leader that has too much to do must be able to hand over.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

import msgspec

from rtx.core.commands import AnyCommand, encode_command
from rtx.link.client import new_command_id
from rtx.link.messages import APPLIED, SUBMIT, Request, Response
from rtx.link.server import Connection

REQUEST_ID: Final = "engine"
"""What the journal has as the request of a command that no request asked for."""


class OwnCommandFailedError(Exception):
    """The command was refused, or the engine takes nothing any more; it was not done, as far as is known."""


class Sequencing(Protocol):
    """Who takes requests."""

    def handle_own(self, connection: Connection, request: Request) -> None: ...


class OwnCommands:
    """A connection of the engine to itself."""

    def __init__(self, sequencer: Sequencing) -> None:
        self._sequencer = sequencer
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Response]] = {}

    async def submit(self, command: AnyCommand) -> int:
        """Have a command done and committed; returns its place in the journal.

        Raises :class:`OwnCommandFailedError`.
        """
        self._number += 1
        payload = msgspec.Raw(encode_command(command))
        request = Request(self._number, SUBMIT, payload, new_command_id(), REQUEST_ID)
        answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._waiting[request.number] = answer
        try:
            self._sequencer.handle_own(self, request)
            response = await answer
        finally:
            del self._waiting[request.number]
        if response.status != APPLIED:
            raise OwnCommandFailedError(f"{type(command).__name__} was not done (answer {response.status})")
        return response.sequence

    @property
    def is_closed(self) -> bool:
        """Never: it ends with the engine."""
        return False

    def send(self, responses: list[Response]) -> None:
        """Take answers; called by the sequencer."""
        for response in responses:
            answer = self._waiting.get(response.number)
            if answer is not None and not answer.done():
                answer.set_result(response)
