"""The constants that the money path uses are the enumerations that give them their names."""

from enum import IntEnum

import pytest

from rtx.core import vocabulary
from rtx.core.vocabulary import MarketStatus, OrderStatus, OrderType, SelfTradePrevention, Side, TimeInForce


@pytest.mark.parametrize("enumeration", [Side, OrderType, TimeInForce, OrderStatus, SelfTradePrevention, MarketStatus])
def test_constants_have_the_numbers_of_their_enumeration(enumeration: type[IntEnum]) -> None:
    for member in enumeration:
        name = "STP_NONE" if member is SelfTradePrevention.NONE else member.name
        assert getattr(vocabulary, name) == member.value
