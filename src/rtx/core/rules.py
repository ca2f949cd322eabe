"""Versions of the matching rules: which there are, and what each changed.

A program computes by the rules that the journal has activated (:class:`~rtx.core.commands.ActivateRules`), not by the
newest that it knows. Programs of different versions therefore compute the same until the rules are changed on purpose,
and a replay computes every command by the rules of its day.

======== ==============================================================================================================
Version  What it changed
======== ==============================================================================================================
1        The rules at first. Waiting orders that the same trades trigger are worked on by stop price: first those that
         wait for a rise, by ascending stop price, then those that wait for a fall, by descending stop price.
2        Waiting orders that the same trades trigger are worked on in the order in which they were placed, whatever
         they wait for.
======== ==============================================================================================================
"""

from __future__ import annotations

from typing import Final

FIRST_RULES: Final = 1
"""What every exchange begins with."""

TRIGGERED_IN_ORDER_OF_PLACING: Final = 2
"""From these rules on, orders that the same trades trigger are worked on by order id."""

LATEST_RULES: Final = 2
"""The newest rules that this program knows; raised together with a row in the table above."""
