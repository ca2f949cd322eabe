"""The list of all nouns: which modules have endpoints, and what they need open while the worker runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from starlette.routing import BaseRoute

import rtx.api.accounts.endpoints
import rtx.api.admin.endpoints
import rtx.api.api_keys.endpoints
import rtx.api.auth.endpoints
import rtx.api.cancel_all_after.endpoints
import rtx.api.health.endpoints
import rtx.api.market_data.endpoints
import rtx.api.orders.endpoints
import rtx.api.proofs.endpoints
import rtx.api.streams.endpoints
from rtx.api import directories
from rtx.api.requests import BinanceRoute

if TYPE_CHECKING:
    from rtx.api.application import Lifespan


def routes() -> Sequence[BinanceRoute | BaseRoute]:
    """All endpoints."""
    return [
        *rtx.api.orders.endpoints.ROUTES,
        *rtx.api.market_data.endpoints.ROUTES,
        *rtx.api.accounts.endpoints.ROUTES,
        *rtx.api.auth.endpoints.ROUTES,
        *rtx.api.health.endpoints.ROUTES,
        *rtx.api.api_keys.endpoints.ROUTES,
        *rtx.api.cancel_all_after.endpoints.ROUTES,
        *rtx.api.admin.endpoints.ROUTES,
        *rtx.api.proofs.endpoints.ROUTES,
        *rtx.api.streams.endpoints.ROUTES,
    ]


def lifespans() -> Sequence[Lifespan]:
    """What is open while the worker runs, in the order of opening."""
    return [directories.lifespan, *rtx.api.streams.endpoints.LIFESPANS]
