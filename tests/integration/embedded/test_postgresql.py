"""The embedded PostgreSQL keeps what was committed, however it ends, and says precisely what is in its way."""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from rtx.embedded import EmbeddedPostgresql, EmbeddedServerError, postgresql_program

STARTS_AND_WAITS = """
import sys
from pathlib import Path
from rtx.embedded import EmbeddedPostgresql
server = EmbeddedPostgresql(Path(sys.argv[1]))
server.start()
print(server.process_id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgresql]:
    with EmbeddedPostgresql(tmp_path / "postgresql") as started:
        yield started


def write(server: EmbeddedPostgresql, value: int) -> None:
    with psycopg.connect(server.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value bigint)")
        connection.execute("INSERT INTO kept VALUES (%s)", (value,))


def read(server: EmbeddedPostgresql) -> list[int]:
    with psycopg.connect(server.database_url) as connection:
        return [value for (value,) in connection.execute("SELECT value FROM kept ORDER BY value")]


def setting(server: EmbeddedPostgresql, name: str) -> str:
    with psycopg.connect(server.database_url) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def test_what_was_committed_survives_every_way_of_ending(server: EmbeddedPostgresql) -> None:
    write(server, 1)
    server.stop()
    server.start()
    write(server, 2)
    server.stop("immediate")
    server.start()
    write(server, 3)
    server.kill()
    server.start()
    write(server, 4)
    os.kill(server.process_id, signal.SIGKILL)
    server.restart()
    assert read(server) == [1, 2, 3, 4]


def test_a_server_killed_from_outside_is_noticed_and_starts_again(server: EmbeddedPostgresql) -> None:
    write(server, 1)
    process = psutil.Process(server.process_id)
    process.kill()
    process.wait()
    assert not server.is_running
    server.start()
    assert read(server) == [1]


@pytest.mark.parametrize("name", ["fsync", "synchronous_commit", "full_page_writes", "data_checksums"])
def test_nothing_that_guards_commits_is_switched_off(server: EmbeddedPostgresql, name: str) -> None:
    assert setting(server, name) == "on"


def test_the_port_and_the_password_stay_the_same_between_runs(tmp_path: Path) -> None:
    with EmbeddedPostgresql(tmp_path) as first:
        url = first.database_url
    with EmbeddedPostgresql(tmp_path) as second:
        assert second.database_url == url


def test_nobody_enters_without_the_password(server: EmbeddedPostgresql) -> None:
    for role in ("rtx", "postgres"):
        url = f"postgresql://{role}:wrong@127.0.0.1:{server.port}/rtx"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(url)


def test_the_password_is_kept_from_other_users(server: EmbeddedPostgresql) -> None:
    assert stat.S_IMODE((server.data_directory / "password").stat().st_mode) == 0o600


def test_a_lost_password_is_replaced(tmp_path: Path) -> None:
    with EmbeddedPostgresql(tmp_path) as server:
        write(server, 1)
    (tmp_path / "password").unlink()
    with EmbeddedPostgresql(tmp_path) as server:
        assert read(server) == [1]


def test_two_servers_side_by_side(server: EmbeddedPostgresql, tmp_path: Path) -> None:
    with EmbeddedPostgresql(tmp_path / "other") as other:
        write(server, 1)
        write(other, 2)
        assert (read(server), read(other)) == ([1], [2])


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=rf"port {port} of 127\.0\.0\.1 \(Address already in use\)"):
            EmbeddedPostgresql(tmp_path, port).start()


def test_a_remembered_port_that_is_taken_is_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "port").write_text(f"{port}\n")
        with EmbeddedPostgresql(tmp_path) as server:
            write(server, 1)
            assert server.port != port


def test_a_directory_in_use_by_the_same_process_is_refused(server: EmbeddedPostgresql) -> None:
    with pytest.raises(EmbeddedServerError, match="already in use by this process"):
        EmbeddedPostgresql(server.data_directory).start()
    write(server, 1)


def test_a_directory_in_use_by_another_run_is_refused_with_its_process(server: EmbeddedPostgresql) -> None:
    other = subprocess.run(
        [sys.executable, "-c", STARTS_AND_WAITS, server.data_directory],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert other.returncode != 0
    assert f"is in use by another run (process {os.getpid()})" in other.stderr
    write(server, 1)


def test_the_server_ends_when_its_parent_is_killed_and_the_next_start_goes_on(tmp_path: Path) -> None:
    with EmbeddedPostgresql(tmp_path) as server:
        write(server, 1)
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_AND_WAITS, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    psutil.wait_procs([orphan], timeout=30)
    assert not orphan.is_running()
    with EmbeddedPostgresql(tmp_path) as server:
        assert read(server) == [1]


def test_a_server_that_outlived_its_parent_is_stopped_by_the_next_start(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_AND_WAITS, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        orphan = psutil.Process(int(parent.stdout.readline()))
        for child in psutil.Process(parent.pid).children():
            if child.pid != orphan.pid:
                child.kill()  # the lifeline, which would stop the server
        parent.kill()
    assert orphan.is_running()
    steps: list[str] = []
    server = EmbeddedPostgresql(tmp_path)
    server.start(steps.append)
    try:
        assert not orphan.is_running()
        assert "stopping the PostgreSQL that an earlier run left behind" in steps
        write(server, 1)
    finally:
        server.stop()


def test_a_stale_process_file_with_a_foreign_process_id_harms_nobody(tmp_path: Path) -> None:
    with EmbeddedPostgresql(tmp_path) as server:
        write(server, 1)
        process_file = tmp_path / "cluster" / "postmaster.pid"
        content = process_file.read_text().splitlines()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        process_file.write_text("\n".join([str(bystander.pid), *content[1:]]) + "\n")
        with EmbeddedPostgresql(tmp_path) as server:
            assert read(server) == [1]
        assert bystander.poll() is None
        bystander.kill()


def test_an_empty_process_file_is_no_hindrance(tmp_path: Path) -> None:
    with EmbeddedPostgresql(tmp_path):
        pass
    (tmp_path / "cluster" / "postmaster.pid").touch()
    with EmbeddedPostgresql(tmp_path) as server:
        write(server, 1)


def test_an_interrupted_first_start_is_made_good(tmp_path: Path) -> None:
    (tmp_path / "cluster.unfinished").mkdir()
    (tmp_path / "cluster.unfinished" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgresql(tmp_path) as server:
        write(server, 1)
        assert read(server) == [1]


def test_a_cluster_of_another_version_is_refused(tmp_path: Path) -> None:
    with EmbeddedPostgresql(tmp_path):
        pass
    (tmp_path / "cluster" / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedServerError, match=r"was written by PostgreSQL 12.*pg_upgrade"):
        EmbeddedPostgresql(tmp_path).start()


def test_a_server_that_gives_up_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with EmbeddedPostgresql(tmp_path):
        pass
    (tmp_path / "cluster" / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        EmbeddedPostgresql(tmp_path).start()


def test_it_runs_where_every_account_may_enter() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        with EmbeddedPostgresql(Path(directory) / "postgresql") as server:
            assert psutil.Process(server.process_id).uids().effective != 0


def test_it_runs_behind_a_directory_that_only_its_owner_may_enter(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with EmbeddedPostgresql(closed / "postgresql") as server:
        write(server, 1)
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["pg_dump", "pgbench", "psql"])
def test_the_tools_beside_the_server_run(server: EmbeddedPostgresql, name: str) -> None:
    output = subprocess.run([postgresql_program(name), "--version"], capture_output=True, text=True, check=True).stdout
    assert "(PostgreSQL) 18." in output


def test_asking_before_the_start_is_an_error(tmp_path: Path) -> None:
    server = EmbeddedPostgresql(tmp_path)
    with pytest.raises(EmbeddedServerError, match="was not started"):
        _ = server.port
    with pytest.raises(EmbeddedServerError, match="is not running"):
        _ = server.process_id
