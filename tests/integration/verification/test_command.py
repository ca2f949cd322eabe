"""`rtx verify` as people and scripts run it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.integration.cli.program import Program, run
from tests.integration.store.trading import Trading
from tests.unit.verification.proving import PROOF_KEY, proof
from tests.unit.verification.proving import traded as traded_by_alice

from rtx.core import snapshot
from rtx.store.connection import connect_engine
from rtx.store.journal import JournalStore
from rtx.store.migrate import upgrade

Execute = Callable[[str], None]

NOBODY_LISTENS = "postgresql://rtx:secret@127.0.0.1:1/rtx"


def verify(*options: str, database_url: str | None = None) -> tuple[int, str, str]:
    """Exit code, output, and what was said besides."""
    done = run("verify", *options, variables={"DATABASE_URL": database_url} if database_url else {})
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


# -- a database -------------------------------------------------------------------------------------------------------


def test_a_database_that_agrees_is_said_to(traded: tuple[str, Trading]) -> None:
    url, trading = traded
    code, output, said = verify(database_url=url)
    assert (code, said) == (0, "")
    assert f"{trading.sequence} rows verified, executed from row 1\n" in output
    assert f"hash      {trading.hash.hex()} of row {trading.sequence}\n" in output
    assert f"state     {snapshot.state_hash(trading.exchange).hex()}\n" in output
    assert f"{trading.sequence} journal, 3 snapshots" in output
    assert "journal rows/s" in output
    assert "everything is as the journal says" in output


def test_the_result_comes_as_json_when_asked_for(traded: tuple[str, Trading]) -> None:
    url, trading = traded
    code, output, _ = verify("--from-snapshot", "--json", database_url=url)
    result = json.loads(output)
    assert code == 0
    assert result["clean"] is True
    assert result["difference"] is None
    assert result["sequence"] == result["checked"]["journal"] == trading.sequence
    assert result["journalHash"] == trading.hash.hex()
    assert result["stateHash"] == snapshot.state_hash(trading.exchange).hex()
    assert 1 < result["executedFrom"] <= trading.sequence


def test_the_first_difference_is_printed_and_the_exit_code_is_1(copied_url: str, tamper: Execute) -> None:
    tamper("UPDATE postings SET amount = 7 WHERE sequence = 9 AND line = 1")
    code, output, _ = verify(database_url=copied_url)
    assert code == 1
    assert "result    postings, sequence=9 line=1: different\n" in output
    assert "found     amount=7\n" in output
    assert "row       9 of the journal\n" in output
    code, output, _ = verify("--json", database_url=copied_url)
    assert code == 1
    result = json.loads(output)
    assert result["clean"] is False
    assert result["difference"] == {
        "table": "postings",
        "key": "sequence=9 line=1",
        "problem": "different",
        "expected": result["difference"]["expected"],
        "actual": "amount=7",
        "sequence": 9,
    }


def test_a_database_out_of_reach_is_no_difference() -> None:
    code, output, said = verify(database_url=NOBODY_LISTENS)
    assert (code, output) == (2, "")
    assert "the database postgresql://rtx@127.0.0.1:1/rtx cannot be used" in said
    assert "secret" not in said


def test_a_database_without_tables_is_no_difference(database_url: str) -> None:
    code, _, said = verify(database_url=database_url)
    assert code == 2
    assert "run `rtx migrate` first" in said


def test_no_database_is_named_as_the_missing_setting() -> None:
    code, _, said = verify()
    assert code == 2
    assert "DATABASE_URL" in said


def test_ctrl_c_ends_it_with_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = Program("verify", DATABASE_URL=f"postgresql://rtx@127.0.0.1:{port}/rtx")
        try:
            connected, _ = server.accept()
            with connected:
                assert program.interrupt() == 130
        finally:
            program.close()
    assert program.text == "rtx: interrupted; 0 journal rows were verified and nothing was wrong with them so far\n"


# -- a proof ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def proof_file(tmp_path: Path) -> Path:
    """The proof of a trade."""
    path = tmp_path / "proof.json"
    path.write_bytes(msgspec.json.encode(proof()))
    return path


@pytest.fixture
async def proven_url(database_url: str) -> str:
    """The database in which that trade was made."""
    upgrade(database_url)
    connection = await connect_engine(database_url)
    try:
        await connection.execute("UPDATE engine_lease SET epoch = 3")
        await JournalStore(connection).commit(traded_by_alice().take_batch())
    finally:
        await connection.close()
    return database_url


def test_a_proof_that_holds_is_said_to(proof_file: Path) -> None:
    code, output, said = verify("--proof", str(proof_file))
    assert (code, said) == (0, "")
    assert "trade     1 of BASEQUOTE, made by journal row 11\n" in output
    assert "0.30 BASE at 10.000 QUOTE" in output
    assert "account 1001, order 1, SELL as maker, commission 0.003 QUOTE, placed by journal row 9" in output
    assert "not compared with a known one" in output
    assert "the proof holds\n" in output


def test_a_proof_comes_from_standard_input_too(proof_file: Path) -> None:
    done = run("verify", "--proof", "-", "--json", stdin=proof_file.read_text())
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert result["holds"] is True
    assert result["statement"] == json.loads(proof_file.read_text())["statement"]


def test_the_key_is_compared_with_the_one_given(proof_file: Path) -> None:
    code, output, _ = verify("--proof", str(proof_file), "--public-key", PROOF_KEY.public_key)
    assert code == 0
    assert f"key       {PROOF_KEY.public_key} (the one given)\n" in output
    code, output, said = verify("--proof", str(proof_file), "--public-key", "00" * 32)
    assert (code, output) == (1, "")
    assert "the proof does not hold: it is signed under the key" in said


def test_a_spoilt_proof_is_refused_with_the_reason(proof_file: Path) -> None:
    proof_file.write_text(proof_file.read_text().replace('"price":"10.000"', '"price":"10.001"'))
    code, output, said = verify("--proof", str(proof_file))
    assert (code, output) == (1, "")
    assert said == "rtx: the proof does not hold: its signature is not that of its statement\n"
    code, output, _ = verify("--proof", str(proof_file), "--json")
    assert code == 1
    assert json.loads(output) == {"holds": False, "reason": "its signature is not that of its statement"}


def test_the_journal_is_asked_for_the_rows_of_a_proof(proof_file: Path, proven_url: str) -> None:
    code, output, _ = verify("--proof", str(proof_file), "--against-database", database_url=proven_url)
    assert code == 0
    assert "the proof holds, and the journal has its rows\n" in output


@pytest.mark.parametrize(
    ("tampering", "words"),
    [
        ("DELETE FROM journal WHERE sequence = 9", "the journal has no row 9"),
        ("UPDATE journal SET request_id = 'x' WHERE sequence = 11", "the journal has another row 11"),
        ("DELETE FROM journal WHERE sequence = 12", "the journal has no row 12"),
    ],
)
async def test_a_journal_without_the_rows_of_a_proof_is_found(
    proof_file: Path, proven_url: str, tampering: str, words: str
) -> None:
    connection = await connect_engine(proven_url)
    await connection.execute(tampering)
    await connection.close()
    code, _, said = verify("--proof", str(proof_file), "--against-database", database_url=proven_url)
    assert code == 1
    assert words in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--proof", "/nowhere/proof.json"], "/nowhere/proof.json cannot be read (No such file or directory)"),
        (["--proof", "FILE", "--public-key", "12"], "'12' is no public key"),
        (["--proof", "FILE", "--from-snapshot"], "give one of them"),
        (["--public-key", "00" * 32], "give --proof FILE"),
        (["--against-database"], "give --proof FILE"),
    ],
)
def test_what_cannot_be_done_is_said(proof_file: Path, options: list[str], words: str) -> None:
    code, output, said = verify(*[str(proof_file) if option == "FILE" else option for option in options])
    assert (code, output) == (2, "")
    assert words in said


def test_the_proof_against_a_database_out_of_reach_is_left_open(proof_file: Path) -> None:
    code, _, said = verify("--proof", str(proof_file), "--against-database", database_url=NOBODY_LISTENS)
    assert code == 2
    assert "cannot be used" in said
