"""What must hold after every run, whatever went wrong in it."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from tests.simulation.cluster import Cluster
from tests.simulation.workload import Attempt, Operation, Outcome, Workload

from rtx.core.commands import CancelAllAfter, ExpireCancelAllAfter, decode_command, encode_command
from rtx.core.events import CancelAllAfterSet, Rejected, decode_events, encode_events
from rtx.core.exchange import Exchange
from rtx.core.rules import LATEST_RULES
from rtx.core.snapshot import state_hash
from rtx.engine.deadlines import COUNTED_S_MAX, TICK_S
from rtx.engine.own_commands import REQUEST_ID as ENGINE_REQUEST_ID
from rtx.engine.recovery import ReplayDivergedError, replay_entry
from rtx.store.entries import GENESIS_HASH, JournalEntry, verify_chain
from rtx.store.errors import JournalCorruptError

ARMING_S_MAX: Final = 2 * (COUNTED_S_MAX + TICK_S)
"""So much of a switch's time may be over when its arming is committed: by its own commit and the one before it."""


def violations(cluster: Cluster, workload: Workload) -> Iterator[str]:
    """Everything that does not hold."""
    entries = [entry for _, entry in sorted(cluster.database.journal.rows.items())]
    yield from cluster.violations
    yield from cluster.loop.errors
    yield from _of_the_journal(cluster, entries)
    asked = {query.sequence for query in workload.queries if query.state_hash}
    exchange, hashes, error = _replay(entries, asked)
    if error:
        yield error
    else:
        yield from _of_the_ledger(cluster, exchange)
        yield from _of_the_replicas(cluster, exchange, entries)
        yield from _of_the_queries(cluster, workload, hashes)
    yield from _of_the_answers(workload, entries)
    yield from _of_the_switches(cluster)


def _of_the_journal(cluster: Cluster, entries: list[JournalEntry]) -> Iterator[str]:
    """One chain; one holder an epoch; nothing under an old epoch once a newer one has begun."""
    try:
        verify_chain(entries, 0, GENESIS_HASH)
    except JournalCorruptError as error:
        yield str(error)
    terms = cluster.database.terms
    for before, after in itertools.pairwise(terms):
        if after.epoch <= before.epoch:
            yield f"epoch {after.epoch} was given after epoch {before.epoch}"
    for committed in cluster.database.commits:
        for epoch in {entry.epoch for entry in committed.batch.entries}:
            if epoch != committed.epoch:
                yield f"a batch of epoch {epoch} was written at {committed.at_s:.6f} s, in epoch {committed.epoch}"


def _replay(entries: list[JournalEntry], asked: set[int | None]) -> tuple[Exchange, dict[int | None, bytes], str]:
    """The exchange that the journal gives, its hash at the rows that were asked for, and what is wrong with it."""
    exchange = Exchange(LATEST_RULES)
    hashes: dict[int | None, bytes] = {0: state_hash(exchange)} if 0 in asked else {}
    try:
        for entry in entries:
            replay_entry(exchange, entry)
            if entry.sequence in asked:
                hashes[entry.sequence] = state_hash(exchange)
    except ReplayDivergedError as error:
        return exchange, hashes, f"the journal does not replay: {error}"
    return exchange, hashes, ""


def _of_the_ledger(cluster: Cluster, exchange: Exchange) -> Iterator[str]:
    """Postings add up to nothing per asset, and to the balances per account; the tables hold the replay's balances."""
    totals: Counter[int] = Counter()
    sums: Counter[tuple[int, int]] = Counter()
    stored: dict[tuple[int, int], tuple[int, int]] = {}
    for committed in cluster.database.commits:
        for _, _, account_id, asset_id, amount in committed.batch.postings:
            totals[asset_id] += amount
            sums[account_id, asset_id] += amount
        for account_id, asset_id, available, held in committed.batch.balances:
            stored[account_id, asset_id] = available, held
    for asset_id, total in totals.items():
        if total:
            yield f"the postings of asset {asset_id} add up to {total}"
    replayed = {
        (account_id, asset_id): (balance.available, balance.held)
        for account_id, account in exchange.accounts.items()
        for asset_id, balance in account.balances.items()
    }
    for key, (available, held) in replayed.items():
        if stored.get(key, (0, 0)) != (available, held):
            yield f"balance {key} is {stored.get(key)} in the table and {(available, held)} by the journal"
        if sums[key] != available + held:
            yield f"the postings of {key} add up to {sums[key]}, the balance is {available + held}"


def _of_the_replicas(cluster: Cluster, exchange: Exchange, entries: list[JournalEntry]) -> Iterator[str]:
    """Every engine that runs has the state that the journal gives."""
    expected = state_hash(exchange)
    for replica in cluster.replicas:
        held = replica.exchange
        if held is None:
            yield f"{replica.holder} does not run after all was healed"
        elif held[0] != len(entries) or state_hash(held[1]) != expected:
            yield f"{replica.holder} has another state at row {held[0]} than the journal gives at row {len(entries)}"
    leaders = [replica for replica in cluster.replicas if replica.leader is not None]
    if len(leaders) != 1:
        yield f"{len(leaders)} engines lead after all was healed"


def _of_the_queries(cluster: Cluster, workload: Workload, hashes: dict[int | None, bytes]) -> Iterator[str]:
    """An answer has everything that was acknowledged before the question, and nothing that is not committed."""
    for query in workload.queries:
        if query.sequence is None:
            continue
        if query.state_hash and hashes.get(query.sequence) != query.state_hash:
            yield f"told of a state at row {query.sequence} that the journal does not give there"
        # A lease that the database's clock cut short is one that its holder still believes in.
        if query.sequence < query.known_sequence and not cluster.database.clock_jumped:
            yield f"told that row {query.sequence} is the newest, after row {query.known_sequence} was acknowledged"


def _of_the_answers(workload: Workload, entries: list[JournalEntry]) -> Iterator[str]:
    """Acknowledged: once, as told. Refused: never. Unknown: once or never. In the order in which it was seen."""
    rows: defaultdict[str, list[JournalEntry]] = defaultdict(list)
    for entry in entries:
        if entry.request_id != ENGINE_REQUEST_ID:
            rows[entry.request_id].append(entry)
    known = {operation.request_id for operation in workload.operations}
    for request_id in rows.keys() - known:
        yield f"the journal has {request_id}, which nobody asked for"
    for operation in workload.operations:
        for problem in _of_operation(operation, rows[operation.request_id], rows):
            yield f"{operation.request_id} ({operation.command!r}): {problem}"


def _of_operation(operation: Operation, own: list[JournalEntry], rows: dict[str, list[JournalEntry]]) -> Iterator[str]:
    if len(own) > 1:
        yield f"done {len(own)} times, at rows {[entry.sequence for entry in own]}"
        return
    row = own[0] if own else None
    if row is not None and row.command != encode_command(operation.command):
        yield f"row {row.sequence} has another command"
    is_refusal = row is not None and _is_refusal(row)
    for attempt in operation.attempts:
        yield from _of_attempt(operation, attempt, row, is_refusal)
        if attempt.outcome is Outcome.CONFLICT and not any(rows[rival.request_id] for rival in operation.rivals):
            yield "told of a conflict with a command that is not in the journal"


def _of_attempt(operation: Operation, attempt: Attempt, row: JournalEntry | None, is_refusal: bool) -> Iterator[str]:
    outcome = attempt.outcome
    if outcome is Outcome.FAULTED:
        yield "told of a fault"
    elif outcome is Outcome.APPLIED:
        applied = attempt.applied
        if applied is None or row is None:
            yield "acknowledged, and not in the journal"
        elif (applied.sequence, applied.time_us, encode_events(applied.events)) != (
            row.sequence,
            row.time_us,
            row.events,
        ):
            yield f"acknowledged as row {applied.sequence} with other events than row {row.sequence} has"
        elif attempt.known_sequence and applied.sequence <= attempt.known_sequence and len(operation.attempts) == 1:
            yield f"row {applied.sequence}, although row {attempt.known_sequence} was acknowledged before it was sent"
    elif outcome is Outcome.REJECTED:
        if operation.is_keyed and not is_refusal:
            yield "refused under a key, and the journal does not have the refusal"
        if not operation.is_keyed and row is not None:
            yield f"refused, and done at row {row.sequence}"
    elif outcome is Outcome.OVERLOADED and not operation.is_keyed and row is not None:
        yield f"told that the engine was overloaded, and done at row {row.sequence}"
    elif outcome is Outcome.CONFLICT and row is not None:
        yield f"told of a conflict, and done at row {row.sequence}"


def _of_the_switches(cluster: Cluster) -> Iterator[str]:
    """No dead-man's switch goes off before its time; what passes while nobody leads does not count."""
    armed: dict[tuple[int, str], tuple[float, float]] = {}
    for committed in cluster.database.commits:
        for entry in committed.batch.entries:
            command = decode_command(entry.command)
            if isinstance(command, CancelAllAfter):
                if isinstance(decode_events(entry.events)[0], CancelAllAfterSet):
                    armed[command.account_id, command.session] = committed.at_s, command.timeout_us / 1_000_000
            elif isinstance(command, ExpireCancelAllAfter):
                armed_s, timeout_s = armed.get((command.account_id, command.session), (committed.at_s, 0.0))
                counted_s = committed.at_s - armed_s - _away_s(cluster, armed_s, committed.at_s)
                if counted_s < timeout_s - ARMING_S_MAX:
                    yield f"row {entry.sequence}: a switch of {timeout_s:g} s goes off after {counted_s:.3f} s"


def _away_s(cluster: Cluster, from_s: float, until_s: float) -> float:
    """How long nobody led in this time, where the database's clock tells; who committed was there."""
    if cluster.database.clock_jumped:
        return 0.0
    away_s, there_s = 0.0, from_s
    for term in cluster.database.terms:
        if from_s < term.at_s <= until_s:
            before_s = [commit.at_s for commit in cluster.database.commits if commit.epoch < term.epoch]
            away_s += term.at_s - max(there_s, term.at_s - term.away_s, *before_s)
            there_s = term.at_s
    return away_s


def _is_refusal(row: JournalEntry) -> bool:
    events = decode_events(row.events)
    return bool(events) and all(type(event) is Rejected for event in events)
