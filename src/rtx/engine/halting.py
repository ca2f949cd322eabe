"""Which faults an engine does not try to get over by itself."""

from __future__ import annotations

from typing import Final

from rtx.engine.recovery import ReplayDivergedError
from rtx.engine.standby import DivergedError
from rtx.store.errors import JournalCorruptError, ProjectionError

HALTING_ERRORS: Final = (DivergedError, JournalCorruptError, ReplayDivergedError, ProjectionError)
"""Journal, tables and this program disagree: trading must not go on, and trying again cannot help."""
