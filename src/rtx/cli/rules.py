"""`rtx activate-rules`: changes the rules of matching for every engine at the same journal row.

Engines that do not know the new rules stop at that row. That is right, but nobody should learn it from their end, so
this looks first at who would.
"""

from __future__ import annotations

from typing import Final

from rtx.cli.engines import Engines, next_step, on_database, read_engines
from rtx.cli.messages import fail, fail_settings
from rtx.core.commands import ActivateRules
from rtx.core.rejections import Reason
from rtx.link.client import Applied, CommandRejectedError, EngineClient, EngineError, new_command_id
from rtx.link.handshake import derive_key
from rtx.settings import LinkSettings, SettingsError
from rtx.store.connection import Pool
from rtx.store.lease import LeaseStore
from rtx.store.replicas import STOPPED, ReplicaReport

APPLICATION_NAME: Final = "rtx-activate-rules"
LIVE_S: Final = 10.0
"""An engine that was heard of within this time runs, or is just being started again."""


def run_activate_rules(version: int, *, force: bool, timeout_s: float) -> int:
    """Have the leader journal it; prints the row."""
    try:
        settings = LinkSettings.from_environment()
    except SettingsError as error:
        fail_settings(error)

    async def activate(pool: Pool) -> int:
        _judge(await read_engines(pool), version, force=force)
        applied = await _submit(pool, settings.jwt_secret, version, timeout_s)
        print(f"journal row {applied.sequence}: every command after it is computed by rules {version}")
        return 0

    return on_database(settings.database_url, APPLICATION_NAME, activate)


def _judge(engines: Engines, version: int, *, force: bool) -> None:
    """End the command when nobody leads, or when engines run that would stop."""
    leader = engines.leader
    if leader is None:
        fail("no engine leads", next_step(engines))
    live = [report for report in engines.replicas if report.seen_s <= LIVE_S and report.state != STOPPED]
    older = [report for report in live if report.rules_latest < version]
    leading = next((report for report in older if report.holder == leader.holder), None)
    if leading is not None:
        fail(
            f"the leader {_described(leading)}, so it would refuse rules {version}",
            "hand over to a version that knows them first: `rtx handover --to COLOUR`",
        )
    if older and not force:
        fail(
            f"{len(older)} engine{'s' if len(older) > 1 else ''} would stop at rules {version}:",
            *(_described(report) for report in older),
            "stop them first, or say --force: there is no way back to rules that they know",
        )


def _described(report: ReplicaReport) -> str:
    return f"{report.holder} ({report.colour}, version {report.version}) knows rules up to {report.rules_latest}"


async def _submit(pool: Pool, jwt_secret: str, version: int, timeout_s: float) -> Applied:
    leases = LeaseStore(pool)

    async def locate() -> tuple[str, int] | None:
        lease = await leases.read()
        if lease is None or lease.expires_in_s <= 0:
            return None
        host, _, port = lease.address.rpartition(":")
        return host.strip("[]"), int(port)

    client = EngineClient(derive_key(jwt_secret), locate)
    client.start()
    command_id = new_command_id()
    try:
        return await client.submit(
            ActivateRules(version),
            request_id=f"activate-rules-{command_id.hex()}",
            command_id=command_id,
            timeout_s=timeout_s,
        )
    except CommandRejectedError as error:
        fail(_refusal(error.reason, version))
    except EngineError as error:
        lease = await leases.read()
        fail(
            f"no answer from the leader{'' if lease is None else f' at {lease.address}'} in {timeout_s:g} s "
            f"({type(error).__name__}); whether it was done is not known",
            "`rtx status` shows the rules in force; the leader's address must be reachable from here, "
            "and JWT_SECRET must be the cluster's",
        )
    finally:
        await client.stop()


def _refusal(reason: Reason, version: int) -> str:
    if reason is Reason.RULES_NOT_NEWER:
        return f"rules {version} or newer ones are in force already"
    if reason is Reason.UNKNOWN_RULES:
        return f"the leader does not know rules {version}"
    return f"the leader refused: {reason.name}"
