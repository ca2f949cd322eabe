"""The sockets that a supervisor opens for its programs."""

import socket
import sys

import pytest

from rtx.supervisor.listeners import PortInUseError, inherited_socket, open_listeners, reserve_port


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_several_listeners_share_one_port() -> None:
    listeners = open_listeners("127.0.0.1", 0, 3, "RTX_PORT")
    try:
        assert len({port_of(listener) for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()


@pytest.mark.parametrize("count", [1, 2])
def test_a_port_that_is_listened_on_is_refused_with_the_setting_s_name(count: int) -> None:
    first = open_listeners("127.0.0.1", 0, count, "RTX_PORT")
    try:
        with pytest.raises(PortInUseError, match="RTX_PORT to another port"):
            open_listeners("127.0.0.1", port_of(first[0]), count, "RTX_PORT")
    finally:
        for listener in first:
            listener.close()


def test_a_host_that_is_not_ours_is_refused() -> None:
    with pytest.raises(PortInUseError):
        open_listeners("192.0.2.1", 0, 1, "RTX_PORT")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port cannot be kept")
def test_a_reserved_port_can_be_listened_on_again_and_again() -> None:
    reserved = reserve_port("127.0.0.1", 0, "RTX_ENGINE_PORT")
    with reserved.keeper:
        for _ in range(2):
            with socket.socket() as engine:
                engine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                engine.bind(("127.0.0.1", reserved.port))
                engine.listen()


def test_a_socket_is_found_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    [listener] = open_listeners("127.0.0.1", 0, 1, "RTX_PORT")
    port = port_of(listener)
    monkeypatch.setenv("SOME_LISTEN_FD", str(listener.detach()))
    inherited = inherited_socket("SOME_LISTEN_FD")
    assert inherited is not None
    with inherited:
        assert port_of(inherited) == port
    monkeypatch.delenv("SOME_LISTEN_FD")
    assert inherited_socket("SOME_LISTEN_FD") is None
