"""The embedded Valkey answers on loopback with a password, starts empty, and comes back after any end."""

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rtx.embedded import EmbeddedServerError, EmbeddedValkey


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "valkey") as started:
        yield started


def client_of(server: EmbeddedValkey) -> "redis.Redis":
    return redis.Redis.from_url(server.redis_url, decode_responses=True)


def test_it_answers_and_forgets(server: EmbeddedValkey) -> None:
    url = server.redis_url
    with client_of(server) as client:
        client.set("kept", "no")
    server.restart()
    assert server.redis_url == url
    with client_of(server) as client:
        assert client.get("kept") is None


def test_it_comes_back_after_a_kill(server: EmbeddedValkey) -> None:
    server.kill()
    assert not server.is_running
    server.start()
    os.kill(server.process_id, signal.SIGKILL)
    server.restart()
    with client_of(server) as client:
        assert client.ping()


def test_it_throws_out_the_oldest_when_full(server: EmbeddedValkey) -> None:
    with client_of(server) as client:
        limits = client.config_get("maxmemory*")
    assert limits["maxmemory-policy"] == "allkeys-lru"
    assert int(limits["maxmemory"]) > 0


def test_nobody_enters_without_the_password(server: EmbeddedValkey) -> None:
    stranger = redis.Redis(host="127.0.0.1", port=server.port, retry=Retry(NoBackoff(), 0))
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert stat.S_IMODE((server.data_directory / "password").stat().st_mode) == 0o600


def test_two_servers_side_by_side(server: EmbeddedValkey, tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "other") as other, client_of(server) as ours, client_of(other) as theirs:
        ours.set("name", "ours")
        assert theirs.get("name") is None


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedServerError, match=rf"port {port} of 127\.0\.0\.1 \(Address already in use\)"):
            EmbeddedValkey(tmp_path, port).start()


def test_an_odd_directory_name_is_no_hindrance(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / 'a "quoted" name') as server, client_of(server) as client:
        assert client.ping()
