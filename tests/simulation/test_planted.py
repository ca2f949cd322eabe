"""The simulation finds bugs: each of these, planted, shows within some seeds, all of which are clean without it."""

from __future__ import annotations

from typing import Final

import pytest
from tests.simulation.planted import PLANTED
from tests.simulation.simulation import Sabotage, run

SEEDS_MAX: Final = 400
"""Fewer than test_simulation shows to be clean."""


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: str(plant.__name__))
def test_a_planted_bug_is_found(plant: Sabotage) -> None:
    assert any(run(seed, sabotage=plant).violations for seed in range(SEEDS_MAX))
