"""The two commands of the README, on a Debian that has Python and make and nothing else.

A clone of what is committed goes into a system made by debootstrap, and the commands run there as root, in namespaces
of their own, without this machine's environment. It is cached as `~/.cache/rtx/clean-system-<suite>.tar`. Where
systems cannot be made (no root, no debootstrap, no namespaces), these tests are skipped and say why.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
SUITE = "bookworm"  # its Python, 3.11, is the oldest that we support
MIRROR = os.environ.get("RTX_TEST_DEBIAN_MIRROR", "http://deb.debian.org/debian")
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
READY_TIMEOUT_SECONDS = 300
STOP_TIMEOUT_SECONDS = 60

# This shell is process 1 of its namespace, and stays: with it ends everything that runs inside, and make could not end
# by a signal if it were process 1 itself.
ENTER = """
mount -t proc proc "$1/proc"
mkdir -p "$1/dev/shm" && mount -t tmpfs tmpfs "$1/dev/shm"
chroot "$1" /usr/bin/env -i "${@:3}" /bin/bash -ec "$2" && exit 0 || exit $?
"""

pytestmark = [pytest.mark.installation, pytest.mark.timeout(1800)]


class CleanSystem:
    """A system in a directory, with a clone of the project in /root/rtx."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clone = root / "root" / "rtx"
        self._environment = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        self._environment |= {name: os.environ[name] for name in PROXY_VARIABLES if name in os.environ}
        authorities = os.environ.get("SSL_CERT_FILE")
        if authorities:
            # A machine behind an inspecting proxy says so with this variable; what runs inside needs the same.
            shutil.copy(authorities, root / "etc" / "authorities.crt")
            self._environment |= dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT"), "/etc/authorities.crt")

    def start(self, script: str) -> "subprocess.Popen[bytes]":
        """Starts `script` in the clone's directory, in a process group as a terminal would give it."""
        words = [f"{name}={value}" for name, value in self._environment.items()]
        isolated = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-ec", ENTER, "enter"]
        command = [*isolated, str(self.root), f"cd /root/rtx && {script}", *words]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def run(self, script: str) -> None:
        """Runs `script` to its end and expects it to go well."""
        with self.start(script) as process:
            assert process.wait() == 0, f"failed inside the clean system: {script}"


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanSystem]:
    if os.geteuid() != 0:
        pytest.skip("a clean system can only be made by root")
    for program in ("debootstrap", "unshare", "tar", "git"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces are not allowed here")
    root = tmp_path_factory.mktemp("clean") / "system"
    root.mkdir()
    # Ownership inside stays by number, whatever this machine calls its users.
    subprocess.run(["tar", "--numeric-owner", "-xf", cached_system(), "-C", root], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    made = CleanSystem(root)
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, made.clone], check=True)
    yield made
    shutil.rmtree(root)


def cached_system() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rtx"
    archive = cache / f"clean-system-{SUITE}.tar"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        building = cache / f"building-{os.getpid()}"
        subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=python3,make", SUITE, building, MIRROR], check=True
        )
        unfinished = archive.with_suffix(f".{os.getpid()}")
        subprocess.run(["tar", "--numeric-owner", "-cf", unfinished, "-C", building, "."], check=True)
        unfinished.replace(archive)
        shutil.rmtree(building)
    return archive


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def made_to_run(system: CleanSystem, *options: str) -> Iterator[dict[str, Any]]:
    """`make run`, from when it says that it is ready until Ctrl-C."""
    ready_file = system.root / "root" / "ready.json"
    ready_file.unlink(missing_ok=True)
    arguments = " ".join(["--ready-file", "/root/ready.json", *options])
    with system.start(f"make run ARGS='{arguments}'") as process:
        try:
            deadline = time.monotonic() + READY_TIMEOUT_SECONDS
            while not ready_file.exists():
                assert time.monotonic() < deadline, "make run did not get ready"
                try:
                    pytest.fail(f"make run ended early, with {process.wait(timeout=0.2)}")
                except subprocess.TimeoutExpired:
                    continue
            yield json.loads(ready_file.read_text())
            os.killpg(process.pid, signal.SIGINT)
            process.wait(STOP_TIMEOUT_SECONDS)
        finally:
            process.kill()
    # make itself always ends by the signal; that its child ended in order shows in what it left.
    log = system.clone / ".rtx" / "postgresql" / "server.log"
    assert log.read_text().rstrip().endswith("database system is shut down")


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.loads(response.read())


def test_make_run_brings_up_an_exchange_and_a_second_run_goes_on(system: CleanSystem) -> None:
    options = ("--no-demo", "--port", str(free_port()), "--metrics-port", str(free_port()))
    with made_to_run(system, *options) as first:
        assert get(f"{first['api']}/api/v3/ping") == {}
        symbols = {market["symbol"] for market in get(f"{first['api']}/api/v3/exchangeInfo")["symbols"]}
        assert {"BTCUSDT", "ETHUSDT", "AAPLUSD"} <= symbols
    with made_to_run(system, *options) as second:
        assert get(f"{second['api']}/api/v3/ping") == {}
        assert second["database_url"] == first["database_url"]


def test_make_test_passes(system: CleanSystem) -> None:
    system.run("make test")
