"""Lease, handovers, reports and notifications in memory, for simulations; believed because of the contract suite."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from rtx.store.handovers import HandoverOrder, HandoverPendingError
from rtx.store.lease import Acquired, Candidate, Lease, Release
from rtx.store.protocols import LeaseBackend
from rtx.store.replicas import DIVERGED, STOPPED, ReplicaReport

DAY_S = 86_400.0


@dataclass
class FakeOrder:
    """A handover, asked for or a leader's own."""

    handover_id: int
    target: str
    state: str
    expires_s: float
    from_epoch: int
    stopped_s: float | None = None
    to_epoch: int | None = None
    to_holder: str = ""
    reason: str = ""
    pause_ms: float | None = None


class FakeLease:
    """A lease judged by ``clock_s``, with the orders to hand it over."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self.clock_s = clock_s
        self.orders: list[FakeOrder] = []
        self.watches: list[FakeWatch] = []
        self._lease: Lease | None = None
        self._expires_s = float("-inf")
        self._successor_until_s = float("-inf")
        self._renewed_s = float("-inf")
        self._is_released = False
        self._fallback_colour = ""
        self.ended_holders: set[str] = set()
        """Those whose last report says that they have stopped or diverged."""

    async def acquire(self, candidate: Candidate, ttl_s: float) -> Acquired | None:
        now_s = self.clock_s()
        if self._expires_s > now_s or not self._may_take(candidate, now_s):
            return None
        epoch = self.epoch + 1
        away_s = now_s - self._renewed_s
        if self._lease is not None and self._lease.colour != candidate.colour:
            self._fallback_colour = self._lease.colour
        self._lease = Lease(
            epoch,
            candidate.holder,
            candidate.address,
            candidate.colour,
            candidate.version,
            ttl_s,
            int(now_s * 1_000_000),
        )
        self._expires_s, self._is_released = now_s + ttl_s, False
        if epoch == 1:
            self._renewed_s = now_s
        for order in self.orders:
            is_meant = order.state == "requested" and order.expires_s > now_s and _means(order, candidate)
            if order.state == "released" or is_meant:
                order.state, order.to_epoch, order.to_holder = "taken", epoch, candidate.holder
                order.pause_ms = 0.0 if order.stopped_s is None else (now_s - order.stopped_s) * 1_000
        self._notify()
        return Acquired(epoch, 0 if epoch == 1 else max(0, int(away_s * 1_000_000)))

    async def renew(self, epoch: int, ttl_s: float) -> bool:
        if epoch != self.epoch or self._is_released:
            return False
        self._renewed_s = self.clock_s()
        self._expires_s = self._renewed_s + ttl_s
        self._fallback_colour = ""
        return True

    async def release(self, epoch: int, release: Release | None = None) -> bool:
        if epoch != self.epoch or self._lease is None:
            return False
        release = release or Release()
        now_s = self._expires_s = self._renewed_s = self.clock_s()
        stopped_s = None if release.stopped_s is None else now_s - release.stopped_s
        is_carried_out = self._carry_out(release.handover_id, stopped_s)
        is_named = release.handover_id is None or is_carried_out
        self._lease = msgspec.structs.replace(self._lease, successor=release.successor if is_named else "")
        self._successor_until_s = now_s + release.successor_s
        self._is_released = True
        if stopped_s is not None and not is_carried_out:
            self.orders.append(FakeOrder(len(self.orders) + 1, "", "released", now_s, self.epoch, stopped_s))
        self._notify()
        return True

    async def surrender(self, holder: str) -> bool:
        now_s = self.clock_s()
        if self._lease is None or self._lease.holder != holder or self._expires_s <= now_s:
            return False
        self._expires_s, self._is_released = now_s, True
        self._notify()
        return True

    async def read(self) -> Lease | None:
        if self._lease is None:
            return None
        now_s = self.clock_s()
        return msgspec.structs.replace(
            self._lease,
            expires_in_s=self._expires_s - now_s,
            successor_in_s=self._successor_until_s - now_s if self._lease.successor else 0.0,
        )

    @property
    def epoch(self) -> int:
        """The newest epoch, 0 before the first."""
        return 0 if self._lease is None else self._lease.epoch

    def pending_orders(self) -> list[FakeOrder]:
        """The orders that may still be carried out."""
        return [order for order in self.orders if order.state == "requested" and order.expires_s > self.clock_s()]

    def add_order(self, target: str, expires_s: float) -> FakeOrder:
        """Write an order down, and tell those who listen."""
        order = FakeOrder(len(self.orders) + 1, target, "requested", expires_s, self.epoch)
        self.orders.append(order)
        self._notify()
        return order

    def _may_take(self, candidate: Candidate, now_s: float) -> bool:
        lease = self._lease
        if lease is None:
            return True
        if lease.successor and self._successor_until_s > now_s and lease.successor not in self.ended_holders:
            return lease.successor == candidate.holder
        return candidate.colour in {lease.colour, self._fallback_colour} or any(
            _means(order, candidate) for order in self.pending_orders()
        )

    def _carry_out(self, handover_id: int | None, stopped_s: float | None) -> bool:
        for order in self.orders:
            if order.handover_id == handover_id and order.state == "requested":
                order.state, order.stopped_s = "released", stopped_s
                return True
        return False

    def _notify(self) -> None:
        for watch in self.watches:
            watch.happened.set()


def _means(order: FakeOrder, candidate: Candidate) -> bool:
    return order.target in {candidate.holder, candidate.colour}


class FakeHandovers:
    """The orders of a :class:`FakeLease`."""

    def __init__(self, lease: FakeLease) -> None:
        self._lease = lease

    async def request(self, target: str, valid_s: float) -> int:
        for order in self._lease.orders:
            if order.state == "requested" and order.expires_s <= self._lease.clock_s():
                order.state, order.reason = "refused", "nobody carried it out in time"
        if self._lease.pending_orders():
            raise HandoverPendingError
        return self._lease.add_order(target, self._lease.clock_s() + valid_s).handover_id

    async def pending(self) -> HandoverOrder | None:
        for order in self._lease.pending_orders():
            return HandoverOrder(order.handover_id, order.target)
        return None

    async def refuse(self, handover_id: int, reason: str) -> bool:
        for order in self._lease.orders:
            if order.handover_id == handover_id and order.state == "requested":
                order.state, order.reason = "refused", reason
                return True
        return False

    async def note_serving(self, epoch: int, after_ms: float) -> None:
        for order in self._lease.orders:
            if order.to_epoch == epoch and order.state == "taken" and order.pause_ms is not None:
                order.pause_ms += after_ms


class FakeReplicas:
    """The reports of engines, aged by ``clock_s``; ``lease`` is told who has ended."""

    def __init__(self, clock_s: Callable[[], float], lease: FakeLease | None = None) -> None:
        self._clock_s = clock_s
        self._lease = lease
        self._reports: dict[str, tuple[float, ReplicaReport]] = {}

    async def report(self, report: ReplicaReport) -> None:
        self._reports[report.holder] = (self._clock_s(), report)
        if self._lease is not None:
            self._lease.ended_holders.discard(report.holder)
            if report.state in {STOPPED, DIVERGED}:
                self._lease.ended_holders.add(report.holder)

    async def all(self) -> list[ReplicaReport]:
        now_s = self._clock_s()
        reports = [
            msgspec.structs.replace(report, seen_s=now_s - seen_s, started_s=report.started_s + now_s - seen_s)
            for seen_s, report in self._reports.values()
            if now_s - seen_s < DAY_S
        ]
        return sorted(reports, key=lambda report: (report.colour, report.holder))

    async def forget_old(self) -> None:
        now_s = self._clock_s()
        self._reports = {holder: kept for holder, kept in self._reports.items() if now_s - kept[0] < DAY_S}

    async def suspect_sequence(self, version: str, holder: str | None = None) -> int:
        return min(
            (
                report.checkpoint_sequence + 1
                for _, report in self._reports.values()
                if report.version == version and report.diverged_sequence > 0 and holder in (None, report.holder)
            ),
            default=0,
        )


class FakeWatch:
    """Hears what happens to a :class:`FakeLease`."""

    def __init__(self, lease: FakeLease) -> None:
        self.happened = asyncio.Event()
        lease.watches.append(self)

    async def wait(self, timeout_s: float) -> bool:
        if not self.happened.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self.happened.wait()
        happened = self.happened.is_set()
        self.happened.clear()
        return happened


async def take_lease(
    lease: LeaseBackend, holder: str = "engine", *, colour: str = "blue", ttl_s: float = 60.0
) -> int | None:
    """Take the lease as this holder and return the epoch; None when it is refused."""
    acquired = await lease.acquire(Candidate(holder, "127.0.0.1:1", colour, "1"), ttl_s)
    return None if acquired is None else acquired.epoch
