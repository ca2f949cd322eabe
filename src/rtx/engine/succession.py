"""Which engine the book is handed to: the rules that a leader goes by when it is ordered to go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rtx.store.replicas import FOLLOWING, ReplicaReport

REPORT_AGE_S_MAX: Final = 3.0
"""An engine that has said nothing for longer is taken for gone."""

LAG_ROWS_MAX: Final = 10_000
"""An engine that is further behind would keep everybody waiting."""


class NoSuccessorError(Exception):
    """Nobody is fit to take over; the message says why, for each who was meant."""


def choose_successor(
    target: str, replicas: Sequence[ReplicaReport], *, leader: str, leader_colour: str, rules: int
) -> ReplicaReport:
    """The engine that an order for ``target`` (a colour or a holder) means, the least behind of several.

    ``leader`` is the holder that goes, ``rules`` the version of the matching rules in force. Raises
    :class:`NoSuccessorError`.
    """
    if target == leader:
        raise NoSuccessorError(f"{leader} leads already")
    if target == leader_colour:
        raise NoSuccessorError(f"{target} leads already (by {leader}); name a holder to move within a colour")
    meant = [report for report in replicas if target in {report.holder, report.colour} and report.holder != leader]
    if not meant:
        raise NoSuccessorError(f"there is no engine {target}")
    fit = [report for report in meant if not _objection(report, rules)]
    if not fit:
        objections = "; ".join(f"{report.holder} {_objection(report, rules)}" for report in meant)
        raise NoSuccessorError(f"no engine of {target} can take over: {objections}")
    return min(fit, key=lambda report: (report.lag_rows, report.lag_ms, report.holder))


def _objection(report: ReplicaReport, rules: int) -> str:
    """Why an engine is not fit; "" when it is."""
    if report.seen_s > REPORT_AGE_S_MAX:
        return f"was last heard of {report.seen_s:.0f} s ago"
    if report.state != FOLLOWING:
        return f"is {report.state}" + (f" ({report.reason})" if report.reason else "")
    if report.rules_latest < rules:
        return f"knows rules up to {report.rules_latest} and rules {rules} are in force"
    if report.lag_rows > LAG_ROWS_MAX:
        return f"is {report.lag_rows} rows behind"
    return ""
