"""What the store refuses or finds wrong, as types that callers act on; anything else is the database's own error."""

from __future__ import annotations


class StoreError(Exception):
    """Base of the errors of :mod:`rtx.store`."""


class StaleEpochError(StoreError):
    """Another engine holds a newer epoch: nothing of the batch was written, and this engine must stop leading."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"epoch {epoch} is no longer the newest: nothing was written")
        self.epoch = epoch


class SequenceTakenError(StoreError):
    """The journal has these sequence numbers already: somebody else wrote. Nothing of the batch was written."""


class CommandKnownError(StoreError):
    """The journal has a command of the batch already, under the same command id. Nothing of the batch was written."""


class ProjectionError(StoreError):
    """The batch does not fit the tables (it changes an order that is not there, or makes a balance negative).

    Memory and tables disagree. Nothing of the batch was written, and trying again cannot help.
    """


class JournalCorruptError(StoreError):
    """A journal row does not follow from the one before it; ``sequence`` names the row."""

    def __init__(self, sequence: int, problem: str) -> None:
        super().__init__(f"journal row {sequence}: {problem}")
        self.sequence = sequence
        self.problem = problem


class EmailTakenError(StoreError):
    """A user with this e-mail address (in whatever case) exists."""


class RefreshTokenInvalidError(StoreError):
    """The refresh token is unknown, expired or revoked, or its user is disabled."""


class RefreshTokenReusedError(RefreshTokenInvalidError):
    """The refresh token was used before: it may be stolen, so all tokens that came from the same login are revoked."""
