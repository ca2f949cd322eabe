"""What the exchange charges; the only place where an amount is rounded."""

from __future__ import annotations

from rtx.core.vocabulary import FEE_RATE_DENOMINATOR


def fee_amount(received: int, rate_ppm: int) -> int:
    """Fee on ``received`` smallest units at ``rate_ppm`` parts per million, rounded down: in the trader's favour."""
    return received * rate_ppm // FEE_RATE_DENOMINATOR
