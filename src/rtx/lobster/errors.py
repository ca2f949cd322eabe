"""What can go wrong in a replay, in words for whoever typed the command."""

from __future__ import annotations

from pathlib import Path


class LobsterError(Exception):
    """A replay that cannot be; ``next_steps`` say what would help."""

    def __init__(self, what: str, *next_steps: str) -> None:
        super().__init__(what)
        self.next_steps = next_steps


class RecordError(LobsterError):
    """A recorded file cannot be read, or contradicts itself."""

    @classmethod
    def at(cls, path: Path, line: int, what: str) -> RecordError:
        """An error in a line (counted from 1) of a file."""
        return cls(f"{path}, line {line}: {what}", "the columns are described in LOBSTER's output structure")


class ReplayError(LobsterError):
    """The backend did not do what a message needs, or is not fit for a replay."""
