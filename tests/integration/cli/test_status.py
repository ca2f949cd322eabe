"""`rtx status`: who leads, who could, and what to do when nobody does."""

from __future__ import annotations

import json
import signal
from typing import Any

from tests.integration.cli.exchange import PlayedExchange, interrupted, said
from tests.integration.cli.program import run

from rtx.store.replicas import DIVERGED, RECOVERING, STOPPED


async def status(exchange: PlayedExchange) -> tuple[int, dict[str, Any]]:
    done = await exchange.run("status", "--json")
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


async def test_it_shows_who_leads_and_who_follows(exchange: PlayedExchange) -> None:
    await exchange.lead("blue-1/0a")
    await exchange.report("blue-2/0b")
    await exchange.report("green-1/0c", "green", rules_latest=3)
    code, shown = await status(exchange)
    assert code == 0
    leader = shown["leader"]
    assert (leader["holder"], leader["colour"], leader["version"]) == ("blue-1/0a", "blue", "0.1.0")
    assert (leader["address"], leader["epoch"]) == ("127.0.0.1:4001", 1)
    assert 0 < leader["lease_expires_in_s"] <= 60
    assert leader["since"].endswith("+00:00")
    assert (shown["active_colour"], shown["rules"], shown["next_step"]) == ("blue", 1, None)
    assert [engine["holder"] for engine in shown["engines"]] == ["blue-1/0a", "blue-2/0b", "green-1/0c"]
    follower = shown["engines"][2]
    assert (follower["state"], follower["is_alive"], follower["rules_latest"]) == ("following", True, 3)
    assert (follower["lag_rows"], follower["lag_ms"], follower["checkpoint_sequence"]) == (3, 1.5, 100)
    assert (shown["last_handover"], shown["waiting_handover"]) == (None, None)

    plain = (await exchange.run("status")).stdout
    assert "leader         blue-1/0a (blue, version 0.1.0) at 127.0.0.1:4001" in plain
    assert "epoch 1 since " in plain
    (row,) = (line for line in plain.splitlines() if line.startswith("green-1/0c"))
    assert row.split()[1:10] == ["green", "0.1.0", "following", "120", "3", "rows,", "2", "ms", "100"]


async def test_the_last_handover_and_the_one_that_waits_are_shown(exchange: PlayedExchange) -> None:
    await exchange.lead("blue-1", ttl_s=0.0)
    await exchange.handovers.request("green", 60.0)
    await exchange.lead("green-1", "green")
    await exchange.handovers.request("blue", 60.0)
    _, shown = await status(exchange)
    last = shown["last_handover"]
    assert (last["from"], last["to"], last["epoch"]) == ("blue-1", "green-1", 2)
    assert last["pause_ms"] > 0
    assert shown["waiting_handover"]["target"] == "blue"
    plain = (await exchange.run("status")).stdout
    assert "last handover  blue-1 to green-1 at " in plain
    assert "ordered        handover to blue, " in plain


async def test_on_a_terminal_it_is_a_table(exchange: PlayedExchange) -> None:
    await exchange.lead("blue-1")
    done = await exchange.run("status", variables={"FORCE_COLOR": "1"})
    assert done.returncode == 0
    assert "┃" in done.stdout
    assert "blue-1" in done.stdout


async def test_it_is_watched_until_told_to_stop(exchange: PlayedExchange) -> None:
    await exchange.lead("blue-1")
    program = exchange.start("status", "--watch")
    await said(program, "(blue, version 0.1.0)")
    await exchange.end_lease()
    await said(program, "No engine leads")
    assert await interrupted(program) == 1
    program.close()

    await exchange.lead("blue-1")
    lines = exchange.start("status", "--watch", "--json")
    await said(lines, '"epoch":2')
    await said(lines, '"epoch":2')
    lines.process.send_signal(signal.SIGTERM)
    assert lines.read_to_end() == 0
    lines.close()


async def test_without_a_leader_it_says_what_to_do(exchange: PlayedExchange) -> None:
    code, shown = await status(exchange)
    assert (code, shown["leader"], shown["active_colour"]) == (1, None, None)
    assert shown["next_step"] == "no engine runs: start one with `rtx serve`"

    await exchange.lead("blue-1", ttl_s=0.0, reports=False)
    code, shown = await status(exchange)
    assert (code, shown["leader"], shown["active_colour"]) == (1, None, "blue")
    assert shown["next_step"] == "no engine runs: start one with `rtx serve` and RTX_COLOUR=blue"

    await exchange.report("green-1", "green", state=RECOVERING)
    _, shown = await status(exchange)
    assert "no engine follows; start one" in shown["next_step"]

    await exchange.report("green-1", "green")
    done = await exchange.run("status")
    assert done.returncode == 1
    assert "leader         none" in done.stdout
    advice = "the active colour is blue and no blue engine follows; to let green lead now: `rtx handover --to green`"
    assert advice in done.stdout

    await exchange.report("blue-2", "blue", state=RECOVERING)
    _, shown = await status(exchange)
    assert "blue-2 reads the journal and leads when it is through; to let green lead now" in shown["next_step"]

    await exchange.report("blue-2", "blue")
    _, shown = await status(exchange)
    assert "blue-2 follows and takes the lease within moments" in shown["next_step"]


async def test_engines_that_diverged_ended_or_are_silent_are_told_apart(exchange: PlayedExchange) -> None:
    reason = "journal row 7: this program computes other events"
    await exchange.report("diverged", state=DIVERGED, seen_s=20.0, diverged_sequence=7, reason=reason)
    await exchange.report("ended", state=STOPPED)
    await exchange.report("silent", seen_s=20.0)
    await exchange.report("yesterday's", seen_s=36_000.0)
    done = await exchange.run("status")
    assert done.returncode == 1
    assert f"diverged diverged and never leads: {reason}" in done.stdout
    assert "stopped" in done.stdout
    assert "silent (was following)" in done.stdout
    assert "yesterday's" not in done.stdout
    assert "Not shown: 1 that ended earlier today." in done.stdout
    assert "diverged (version 0.1.0) diverged and may not lead" in done.stdout
    _, shown = await status(exchange)
    assert [engine["is_alive"] for engine in shown["engines"]] == [False] * 4


def test_a_database_that_cannot_be_used_is_named(database_url: str) -> None:
    for command in (["status"], ["status", "--watch"], ["handover", "--to", "green"]):
        away = run(*command, variables={"DATABASE_URL": "postgresql://rtx:hunter2@127.0.0.1:1/rtx"})
        assert away.returncode == 1
        assert "postgresql://rtx@127.0.0.1:1/rtx cannot be used" in away.stderr
        assert "hunter2" not in away.stderr
        empty = run(*command, variables={"DATABASE_URL": database_url})
        assert empty.returncode == 1
        assert "does not have the tables of this version" in empty.stderr
        assert "run `rtx migrate`" in empty.stderr
        assert run(*command).returncode == 2
