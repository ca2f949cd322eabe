"""Says in one line how a fault went, and lets nothing pass that is lost, doubled or wrong."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest
from tests.faults.load import Load
from tests.faults.verification import Verdict, verify

PROBLEMS_SHOWN: Final = 10


async def judge(
    what: str, load: Load, database_url: str, capsys: pytest.CaptureFixture[str], remark: str = ""
) -> Verdict:
    """Verify everything once the load has ended, and print the line, with the remark at its end."""
    verdict = await verify(load.venue, load, database_url)
    with capsys.disabled():
        print(
            f"\n{what}: {load.acknowledged} acknowledged, {len(verdict.lost)} lost, {len(verdict.doubled)} doubled, "
            f"{len(verdict.untold)} done without an answer, errors: {_listed(load.errors)}, "
            f"ledger and rtx verify {'not clean' if verdict.wrong else 'clean'}, "
            f"longest gap {load.longest_gap_s * 1000:.0f} ms{f', {remark}' if remark else ''}"
        )
    problems = verdict.lost + verdict.doubled + verdict.wrong
    assert not problems, f"{len(problems)} problems, of which the first: " + "\n".join(problems[:PROBLEMS_SHOWN])
    return verdict


def _listed(errors: Counter[str]) -> str:
    return ", ".join(f"{count} x {kind}" for kind, count in errors.most_common()) or "none"
