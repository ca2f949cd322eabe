"""What the environment says about how this process is to run.

Production names its servers and limits in environment variables, so all of them are read and judged here, at once and
before anything starts: someone who set three of them wrong is told all three, each with what would be right. No value
of a secret ever stands in a message or in a ``repr``.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

JWT_SECRET_BYTES_MIN: Final = 32
API_WORKERS_MAX: Final = 64
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
COLOURS: Final = ("blue", "green")
ANY_HOST: Final = ("0.0.0.0", "::")  # noqa: S104 - what stands for all addresses of a host

EXIT_CONFIGURATION: Final = 2
"""Exit code of a process whose settings are missing or wrong."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Value = TypeVar("Value")


@dataclass(frozen=True)
class Problem:
    """One setting that is missing or wrong; ``remedy`` says what would be right."""

    name: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name} {self.remedy}"


class SettingsError(Exception):
    """Settings are missing or wrong; ``problems`` holds all of them."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in problems))


@dataclass(frozen=True)
class Settings:
    """Settings of one backend; names ending in a unit are in that unit, the others count things."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    jwt_secret_previous: str | None = field(default=None, repr=False)
    database_replica_url: str | None = field(default=None, repr=False)
    sentry_dsn: str | None = field(default=None, repr=False)
    environment: str = "production"
    colour: str = "blue"
    log_level: str = "info"

    host: str = "0.0.0.0"  # noqa: S104 - a server's default is to be reached; `rtx dev` sets 127.0.0.1
    port: int = 8080
    metrics_host: str = "0.0.0.0"  # noqa: S104
    metrics_port: int = 9090
    api_workers: int = 1
    trusted_proxies: tuple[Network, ...] = ()
    request_body_bytes_max: int = 65_536
    shutdown_grace_s: float = 20.0

    engine_host: str = "127.0.0.1"
    engine_port: int = 0
    engine_address: str | None = None
    engine_holder: str = ""
    engine_queue_commands_max: int = 8_192
    engine_batch_commands_max: int = 512
    engine_timeout_s: float = 10.0
    lease_ttl_s: float = 3.0
    lease_renewal_s: float = 1.0
    snapshot_commands: int = 100_000
    checkpoint_commands: int = 10_000

    database_pool_connections_max: int = 10

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the settings; raises :class:`SettingsError` naming everything that is missing or wrong."""
        reader = _Reader(os.environ if environment is None else environment)
        values: dict[str, object] = {}
        for attribute, name, parse, default in _VARIABLES:
            values[attribute] = reader.read(name, parse, default)
        _compare(values, reader.problems)
        if reader.problems:
            raise SettingsError(reader.problems)
        return cls(**values)  # type: ignore[arg-type] # each parser returns the type of its attribute


def database_url_from_environment(environment: Mapping[str, str] | None = None) -> str:
    """Read ``DATABASE_URL`` alone, for commands that need no more; raises :class:`SettingsError`."""
    reader = _Reader(os.environ if environment is None else environment)
    url = reader.read("DATABASE_URL", _database_url, _REQUIRED)
    if reader.problems:
        raise SettingsError(reader.problems)
    return str(url)


@dataclass(frozen=True)
class LinkSettings:
    """What a command needs that speaks with the leader: where it is written down, and what proves the right to."""

    database_url: str = field(repr=False)
    jwt_secret: str = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> LinkSettings:
        """Read ``DATABASE_URL`` and ``JWT_SECRET`` alone; raises :class:`SettingsError`."""
        reader = _Reader(os.environ if environment is None else environment)
        url = reader.read("DATABASE_URL", _database_url, _REQUIRED)
        secret = reader.read("JWT_SECRET", _secret, _REQUIRED)
        if reader.problems:
            raise SettingsError(reader.problems)
        return cls(str(url), str(secret))


def redacted_url(url: str) -> str:
    """``url`` without its password and query, fit for a log or a terminal."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if ":" in host:
            host = f"[{host}]"
        if parts.port is not None:
            host = f"{host}:{parts.port}"
        user = f"{parts.username}@" if parts.username else ""
    except ValueError:
        return "(unreadable address)"
    return SplitResult(parts.scheme, f"{user}{host}", parts.path, "", "").geturl()


def usable_processors() -> int:
    """Processors this process may use: its affinity, and its container's CPU limit where there is one."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    limit = _container_processors(Path("/sys/fs/cgroup"))
    return max(1, count if limit is None else min(count, round(limit)))


def _container_processors(root: Path) -> float | None:
    """CPU limit of the control group at ``root`` in processors (version 2, then 1), or None where there is none."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    try:
        return int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None


class _Reader:
    """Takes values out of the environment and gathers what is wrong with them."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[Problem] = []

    def read(self, name: str, parse: Callable[[str], Value], default: object) -> object:
        text = self._environment.get(name, "").strip()
        if not text:
            if default is not _REQUIRED:
                return default() if callable(default) else default
            self.problems.append(Problem(name, f"is not set; {self._similar(name)}{_REMEDIES[name]}"))
            return None
        try:
            return parse(text)
        except ValueError as error:
            self.problems.append(Problem(name, str(error)))
            return None

    def _similar(self, name: str) -> str:
        unknown = [candidate for candidate in self._environment if candidate not in _NAMES]
        similar = difflib.get_close_matches(name, unknown, n=1, cutoff=0.8)
        return f"is {similar[0]} a slip for it? " if similar else ""


def _database_url(text: str) -> str:
    _server_url(text, ("postgresql", "postgres"), _REMEDIES["DATABASE_URL"])
    return text


def _redis_url(text: str) -> str:
    if text.startswith("unix://"):
        return text
    _server_url(text, ("redis", "rediss"), _REMEDIES["REDIS_URL"])
    return text


def _sentry_dsn(text: str) -> str:
    remedy = "it should be the DSN from the Sentry project's client keys, https://KEY@HOST/PROJECT"
    _server_url(text, ("https", "http"), remedy)
    if not urlsplit(text).username:
        raise ValueError(f"holds no key; {remedy}")
    return text


def _server_url(text: str, schemes: tuple[str, ...], remedy: str) -> None:
    """Judge a URL without ever repeating it: it may hold a password."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"cannot be read as a URL; {remedy}") from None
    if parts.scheme not in schemes:
        raise ValueError(f"does not begin with {schemes[0]}://; {remedy}")
    if not parts.hostname and not parts.query:
        raise ValueError(f"names no host; {remedy}")
    if port == 0:
        raise ValueError(f"names port 0; {remedy}")


def _secret(text: str) -> str:
    length = len(text.encode())
    if length < JWT_SECRET_BYTES_MIN:
        raise ValueError(
            f"has {length} bytes; at least {JWT_SECRET_BYTES_MIN} are needed, for example from: openssl rand -hex 32"
        )
    return text


def _integer(minimum: int, maximum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if not minimum <= number <= maximum:
            raise ValueError(f"is {text!r}; it should be a whole number from {minimum} to {maximum}")
        return number

    return parse


def _seconds(minimum: float, maximum: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not minimum <= number <= maximum:
            raise ValueError(f"is {text!r}; it should be a number of seconds from {minimum:g} to {maximum:g}")
        return number

    return parse


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"is {text!r}; it should be one of {', '.join(choices)}")
        return text.lower()

    return parse


def _host(text: str) -> str:
    if any(character in text for character in "/ @") or text.count(":") == 1:
        raise ValueError(f"is {text!r}; it should be an address or a host name alone, such as 0.0.0.0")
    return text


def _engine_address(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or not 1 <= int(port) <= 65_535:
        raise ValueError(f"is {text!r}; it should be HOST:PORT under which other replicas reach this engine")
    return text


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(
            f"is {text!r}; it should be networks separated by commas, such as 10.0.0.0/8,127.0.0.1"
        ) from None


def _default_api_workers() -> int:
    """One processor is left to the engine; the database is best kept elsewhere."""
    return max(1, min(usable_processors() - 1, 8))


def _compare(values: dict[str, object], problems: list[Problem]) -> None:
    """Judge settings that only make sense together."""
    port, metrics_port = values["port"], values["metrics_port"]
    if isinstance(port, int) and port == metrics_port and port != 0:
        problems.append(Problem("RTX_METRICS_PORT", f"is {port}, which is RTX_PORT too; they should differ"))
    ttl_s, renewal_s = values["lease_ttl_s"], values["lease_renewal_s"]
    if isinstance(ttl_s, float) and isinstance(renewal_s, float) and renewal_s * 2 > ttl_s:
        problems.append(
            Problem(
                "RTX_LEASE_RENEWAL_S", f"is {renewal_s:g}; it should be at most half of RTX_LEASE_TTL_S ({ttl_s:g})"
            )
        )
    address = values["engine_address"]
    if address is None and values["engine_host"] in ANY_HOST:
        remedy = "is not set; with RTX_ENGINE_HOST=0.0.0.0 it should say HOST:PORT under which others reach this engine"
        problems.append(Problem("RTX_ENGINE_ADDRESS", remedy))
    if address is not None and values["engine_port"] == 0:
        remedy = f"is any free one; it should be the port behind RTX_ENGINE_ADDRESS ({address})"
        problems.append(Problem("RTX_ENGINE_PORT", remedy))


class _Required:
    """Type of the mark that a setting has no default."""


_REQUIRED: Final = _Required()

_REMEDIES: Final = {
    "DATABASE_URL": "it should name the PostgreSQL database, postgresql://USER:PASSWORD@HOST:5432/DATABASE",
    "REDIS_URL": "it should name the Redis or Valkey server, redis://:PASSWORD@HOST:6379/0",
    "JWT_SECRET": (
        f"it should be at least {JWT_SECRET_BYTES_MIN} random bytes, the same for all replicas, "
        "for example from: openssl rand -hex 32"
    ),
}

_PORT: Final = _integer(0, 65_535)

_VARIABLES: Final[tuple[tuple[str, str, Callable[[str], object], object], ...]] = (
    ("database_url", "DATABASE_URL", _database_url, _REQUIRED),
    ("database_replica_url", "DATABASE_REPLICA_URL", _database_url, None),
    ("redis_url", "REDIS_URL", _redis_url, _REQUIRED),
    ("jwt_secret", "JWT_SECRET", _secret, _REQUIRED),
    ("jwt_secret_previous", "JWT_SECRET_PREVIOUS", _secret, None),
    ("sentry_dsn", "SENTRY_DSN", _sentry_dsn, None),
    ("environment", "RTX_ENVIRONMENT", str, "production"),
    ("colour", "RTX_COLOUR", _one_of(COLOURS), "blue"),
    ("log_level", "LOG_LEVEL", _one_of(LOG_LEVELS), "info"),
    ("host", "RTX_HOST", _host, "0.0.0.0"),  # noqa: S104
    ("port", "RTX_PORT", _PORT, 8080),
    ("metrics_host", "RTX_METRICS_HOST", _host, "0.0.0.0"),  # noqa: S104
    ("metrics_port", "RTX_METRICS_PORT", _PORT, 9090),
    ("api_workers", "RTX_API_WORKERS", _integer(1, API_WORKERS_MAX), _default_api_workers),
    ("trusted_proxies", "RTX_TRUSTED_PROXIES", _networks, ()),
    ("request_body_bytes_max", "RTX_REQUEST_BODY_BYTES_MAX", _integer(1_024, 16_777_216), 65_536),
    ("shutdown_grace_s", "RTX_SHUTDOWN_GRACE_S", _seconds(0.1, 3_600), 20.0),
    ("engine_host", "RTX_ENGINE_HOST", _host, "127.0.0.1"),
    ("engine_port", "RTX_ENGINE_PORT", _PORT, 0),
    ("engine_address", "RTX_ENGINE_ADDRESS", _engine_address, None),
    ("engine_holder", "RTX_ENGINE_HOLDER", str, socket.gethostname),
    ("engine_queue_commands_max", "RTX_ENGINE_QUEUE_COMMANDS_MAX", _integer(1, 1_000_000), 8_192),
    ("engine_batch_commands_max", "RTX_ENGINE_BATCH_COMMANDS_MAX", _integer(1, 10_000), 512),
    ("engine_timeout_s", "RTX_ENGINE_TIMEOUT_S", _seconds(0.1, 60), 10.0),
    ("lease_ttl_s", "RTX_LEASE_TTL_S", _seconds(0.2, 60), 3.0),
    ("lease_renewal_s", "RTX_LEASE_RENEWAL_S", _seconds(0.05, 30), 1.0),
    ("snapshot_commands", "RTX_SNAPSHOT_COMMANDS", _integer(100, 100_000_000), 100_000),
    ("checkpoint_commands", "RTX_CHECKPOINT_COMMANDS", _integer(1, 100_000_000), 10_000),
    ("database_pool_connections_max", "RTX_DATABASE_POOL_CONNECTIONS_MAX", _integer(1, 100), 10),
)

_NAMES: Final = frozenset(name for _, name, _, _ in _VARIABLES)
