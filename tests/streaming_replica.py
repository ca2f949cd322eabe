"""A real streaming replica of a PostgreSQL for the tests that read from one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import ClassVar

import psutil

from rtx.embedded import EmbeddedPostgresql
from rtx.embedded.postgresql import ROLE, SUPERUSER
from rtx.embedded.server import Progress, write_durably

_REPLAY_FUNCTIONS = ("pg_wal_replay_pause()", "pg_wal_replay_resume()")


class Primary(EmbeddedPostgresql):
    """A PostgreSQL whose role may replicate it, and hold the replicas' replay up from the database `postgres`."""

    def _prepare(self, report: Progress) -> None:
        super()._prepare(report)
        self._run_single_user(
            self._cluster,
            f"ALTER ROLE {ROLE} REPLICATION",
            *(f"GRANT EXECUTE ON FUNCTION {function} TO {ROLE}" for function in _REPLAY_FUNCTIONS),
            f"GRANT CONNECT ON DATABASE {SUPERUSER} TO {ROLE}",
        )


class StreamingReplica(EmbeddedPostgresql):
    """A hot standby of a running :class:`Primary`, copied from it at the first start."""

    title: ClassVar[str] = "PostgreSQL's replica"

    def __init__(self, data_directory: Path, primary: Primary) -> None:
        super().__init__(data_directory)
        self._primary = primary

    def _create_cluster(self) -> None:
        write_durably(self._password_path, self._primary._password_path.read_text())
        self._cluster.mkdir(mode=0o700)
        self._account.own(self._cluster)
        self._run(
            "pg_basebackup",
            f"--pgdata={self._cluster}",
            f"--dbname={self._primary.database_url}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
        )

    @property
    def processes(self) -> list[psutil.Process]:
        """The server and its children."""
        server = psutil.Process(int((self._cluster / "postmaster.pid").read_text().split()[0]))
        return [server, *server.children(recursive=True)]

    def freeze(self) -> list[psutil.Process]:
        """Stop every process of it where it is, its connections open; :func:`thaw` lets them go on."""
        processes = self.processes
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)
        return processes


def thaw(processes: list[psutil.Process]) -> None:
    """Let stopped processes go on."""
    for process in processes:
        if process.is_running():
            os.kill(process.pid, signal.SIGCONT)
