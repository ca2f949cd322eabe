"""The clocks that an engine runs by."""

from __future__ import annotations

import sys
import time

import pytest

from rtx.engine.surroundings import production_surroundings
from rtx.settings import Settings


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a clock that counts suspension")
def test_a_suspended_machine_does_not_stretch_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    suspended_s = 0.0

    def clock_gettime(clock: int) -> float:
        return 1_000.0 + (suspended_s if clock == time.CLOCK_BOOTTIME else 0.0)

    monkeypatch.setattr(time, "clock_gettime", clock_gettime)
    monkeypatch.setattr(time, "monotonic", lambda: clock_gettime(time.CLOCK_MONOTONIC))
    surroundings = production_surroundings(Settings("postgresql://nowhere/rtx", "redis://nowhere", "a secret"))
    before_s = surroundings.monotonic_s()
    suspended_s = 5.0
    assert surroundings.monotonic_s() == before_s + 5.0
