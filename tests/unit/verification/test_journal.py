"""Executing a journal's rows again for a verification gives what an engine that replays them gets."""

from __future__ import annotations

from tests.integration.store.trading import Trading

from rtx.core.commands import ActivateRules
from rtx.core.events import Rejected
from rtx.core.exchange import Exchange
from rtx.core.rejections import Reason
from rtx.core.rules import LATEST_RULES
from rtx.verification.journal import execute


def test_rules_that_the_program_of_the_day_did_not_know_stay_refused() -> None:
    trading = Trading(epoch=1)
    refusal = Rejected(Reason.UNKNOWN_RULES, "version")
    trading.journal(ActivateRules(LATEST_RULES), [refusal])
    exchange = Exchange()
    assert execute(exchange, trading.entries[0]) == [refusal]
    assert exchange.rules < LATEST_RULES
