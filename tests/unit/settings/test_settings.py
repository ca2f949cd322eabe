"""What the environment may say, and what somebody is told who said it wrong."""

import ipaddress
from pathlib import Path

import pytest

from rtx.settings import (
    LinkSettings,
    Settings,
    SettingsError,
    _container_processors,
    database_url_from_environment,
    redacted_url,
)

REQUIRED = {
    "DATABASE_URL": "postgresql://rtx:hunter2@db.internal:5432/rtx",
    "REDIS_URL": "redis://:hunter3@cache.internal:6379/0",
    "JWT_SECRET": "0123456789abcdef0123456789abcdef",
}


def problems(**environment: str) -> dict[str, str]:
    """The problems by setting's name; {} when there are none."""
    try:
        Settings.from_environment({**REQUIRED, **environment})
    except SettingsError as error:
        return {problem.name: problem.remedy for problem in error.problems}
    return {}


def test_the_three_required_settings_are_enough() -> None:
    settings = Settings.from_environment(REQUIRED)
    assert (settings.port, settings.metrics_port, settings.colour) == (8080, 9090, "blue")
    assert settings.api_workers >= 1
    assert settings.database_replica_url is None


def test_everything_wrong_is_named_at_once_with_what_would_be_right() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"JWT_SECRET": "short", "RTX_PORT": "http", "LOG_LEVEL": "loud"})
    told = {problem.name: problem.remedy for problem in raised.value.problems}
    assert set(told) == {"DATABASE_URL", "REDIS_URL", "JWT_SECRET", "RTX_PORT", "LOG_LEVEL"}
    assert "postgresql://" in told["DATABASE_URL"]
    assert "at least 32" in told["JWT_SECRET"]
    assert "0 to 65535" in told["RTX_PORT"]
    assert "debug, info, warning, error" in told["LOG_LEVEL"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://db/rtx"),
        ("DATABASE_URL", "postgresql://"),
        ("DATABASE_URL", "postgresql://db:notaport/rtx"),
        ("DATABASE_REPLICA_URL", "db-replica:5432"),
        ("REDIS_URL", "cache.internal:6379"),
        ("JWT_SECRET_PREVIOUS", "short"),
        ("SENTRY_DSN", "https://sentry.internal/1"),
        ("RTX_COLOUR", "red"),
        ("RTX_PORT", "-1"),
        ("RTX_API_WORKERS", "0"),
        ("RTX_TRUSTED_PROXIES", "10.0.0.0/8,nonsense"),
        ("RTX_ENGINE_ADDRESS", "no-port"),
        ("RTX_HOST", "http://0.0.0.0"),
        ("RTX_SHUTDOWN_GRACE_S", "nan"),
    ],
)
def test_a_wrong_value_is_refused_under_its_name(name: str, value: str) -> None:
    assert list(problems(**{name: value})) == [name]


def test_settings_that_contradict_each_other_are_refused() -> None:
    assert list(problems(RTX_PORT="9000", RTX_METRICS_PORT="9000")) == ["RTX_METRICS_PORT"]
    assert list(problems(RTX_LEASE_TTL_S="2", RTX_LEASE_RENEWAL_S="1.5")) == ["RTX_LEASE_RENEWAL_S"]
    assert problems(RTX_PORT="0", RTX_METRICS_PORT="0") == {}


def test_where_other_replicas_find_the_engine_is_said() -> None:
    """An engine that listens everywhere has no one address that others could be told."""
    for host in ("0.0.0.0", "::"):
        assert list(problems(RTX_ENGINE_HOST=host)) == ["RTX_ENGINE_ADDRESS"]
    assert list(problems(RTX_ENGINE_HOST="0.0.0.0", RTX_ENGINE_ADDRESS="host-1:7000")) == ["RTX_ENGINE_PORT"]
    assert problems(RTX_ENGINE_HOST="0.0.0.0", RTX_ENGINE_ADDRESS="host-1:7000", RTX_ENGINE_PORT="7000") == {}
    assert problems(RTX_ENGINE_HOST="10.0.0.1") == {}


def test_what_speaks_with_the_leader_needs_the_database_and_the_secret() -> None:
    settings = LinkSettings.from_environment(REQUIRED)
    assert (settings.database_url, settings.jwt_secret) == (REQUIRED["DATABASE_URL"], REQUIRED["JWT_SECRET"])
    assert "hunter2" not in repr(settings)
    with pytest.raises(SettingsError) as raised:
        LinkSettings.from_environment({"JWT_SECRET": "hunter2"})
    assert [problem.name for problem in raised.value.problems] == ["DATABASE_URL", "JWT_SECRET"]
    assert "hunter2" not in str(raised.value)


def test_a_misspelt_name_is_recognised() -> None:
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({**REQUIRED, "REDIS_URL": "", "REDIS_URI": "redis://cache"})
    assert "is REDIS_URI a slip for it?" in str(raised.value)


def test_no_secret_is_shown() -> None:
    replica_url = "postgresql://rtx:hunter5@db-replica:5432/rtx"
    settings = Settings.from_environment(
        {**REQUIRED, "JWT_SECRET_PREVIOUS": "f" * 32, "DATABASE_REPLICA_URL": replica_url}
    )
    assert settings.database_replica_url == replica_url
    shown = repr(settings)
    for secret in ("hunter2", "hunter3", "hunter5", REQUIRED["JWT_SECRET"], "f" * 32):
        assert secret not in shown
    with pytest.raises(SettingsError) as raised:
        Settings.from_environment({"DATABASE_URL": "postgres//rtx:hunter2@db", "JWT_SECRET": "hunter4"})
    assert "hunter" not in str(raised.value)


def test_lists_of_networks_are_read() -> None:
    settings = Settings.from_environment({**REQUIRED, "RTX_TRUSTED_PROXIES": "10.0.0.0/8, ::1"})
    assert settings.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))


def test_the_database_can_be_named_alone() -> None:
    assert database_url_from_environment({"DATABASE_URL": "postgresql://db/rtx"}) == "postgresql://db/rtx"
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        database_url_from_environment({})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://rtx:secret@db:5432/rtx?password=secret", "postgresql://rtx@db:5432/rtx"),
        ("redis://:secret@[::1]:6379/0", "redis://[::1]:6379/0"),
        ("postgresql://db:secret/rtx", "(unreadable address)"),
    ],
)
def test_addresses_are_shown_without_their_secrets(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


def test_a_container_s_cpu_limit_counts(tmp_path: Path) -> None:
    assert _container_processors(tmp_path) is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert _container_processors(tmp_path) is None
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert _container_processors(tmp_path) == 2.5
