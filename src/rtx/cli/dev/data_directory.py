"""The directory that `rtx dev` keeps between runs: the servers' data, the secrets, the logs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from rtx.demo.crowd import Login
from rtx.supervisor.private_files import write_private

LOG_BYTES_MAX: Final = 64 * 1024 * 1024


class DataDirectoryError(Exception):
    """The directory cannot be used; the message says why and what would help."""


class Account(msgspec.Struct, rename="camel"):
    """A user of ours with an API key; the latter are empty until the account was opened."""

    email: str
    password: str
    user_id: int = 0
    api_key: str = ""
    secret: str = ""


class Credentials(msgspec.Struct, rename="camel"):
    """All secrets of this backend, made on the first run."""

    jwt_secret: str
    operator: Login
    demo: Account
    maker: Account
    taker: Account


class DataDirectory:
    """Paths below the directory, and the credentials in it."""

    def __init__(self, root: Path) -> None:
        """Names the place; nothing is made before :meth:`in_use`."""
        self.root = root.resolve()
        self.postgresql = self.root / "postgresql"
        self.valkey = self.root / "valkey"
        self.run = self.root / "run"
        self.state_file = self.run / "backend.json"
        self.crowd_file = self.run / "crowd.json"
        self.log = self.root / "logs" / "rtx.log"
        self.ready_file = self.root / "ready.json"
        self._credentials_file = self.root / "credentials.json"

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Hold the directory for this process alone; raises :class:`DataDirectoryError`."""
        try:
            for directory in (self.root, self.run, self.log.parent):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.root / "lock").open("a+")
        except OSError as error:
            raise DataDirectoryError(
                f"{self.root} cannot be used ({error.strerror}): name another place with --data"
            ) from error
        with lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise DataDirectoryError(
                    f"{self.root} is in use by another run (process {holder}): stop that one, or name another place "
                    "with --data"
                ) from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            # What a run that was killed left behind would say that something runs.
            for path in (self.ready_file, self.state_file, self.crowd_file):
                path.unlink(missing_ok=True)
            yield

    def credentials(self) -> Credentials:
        """Read the credentials, or make them on the first run; raises :class:`DataDirectoryError`."""
        try:
            return msgspec.json.decode(self._credentials_file.read_bytes(), type=Credentials)
        except FileNotFoundError:
            made = Credentials(
                secrets.token_hex(32),
                Login("operator@rtx.localhost", secrets.token_urlsafe(18)),
                *(Account(f"{name}@rtx.localhost", secrets.token_urlsafe(18)) for name in ("demo", "maker", "taker")),
            )
            self.save(made)
            return made
        except (OSError, msgspec.DecodeError) as error:
            raise DataDirectoryError(
                f"{self._credentials_file} cannot be read ({error}): put it back, or begin anew with another --data"
            ) from error

    def save(self, credentials: Credentials) -> None:
        """Keep the credentials."""
        write_private(self._credentials_file, msgspec.json.format(msgspec.json.encode(credentials)))

    def shorten_log(self) -> None:
        """Move a log that has grown long aside; its writers, who append, go on in the same file from its beginning."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size > LOG_BYTES_MAX:
                older = self.log.with_suffix(".log.1")
                older.unlink(missing_ok=True)
                older.write_bytes(self.log.read_bytes())
                os.truncate(self.log, 0)

    def log_tail(self, position: int, lines: int = 12) -> str:
        """The last ``lines`` that were written after ``position`` (bytes)."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(position)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        return ""
