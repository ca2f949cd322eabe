"""The Docker engine that `make docker-up` starts: builds, compositions, and that nothing of it stays behind.

It is started in a folder of its own, with a static busybox as the only image to begin with.
"""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.busybox import IMAGE, write_busybox_image
from tests.e2e.leftovers import assert_nothing_left, machine_state
from tools.cluster.engine import DockerEngine
from tools.cluster.layout import Layout

REPOSITORY = Path(__file__).parents[2]
DOCKERFILE = f"""\
FROM {IMAGE}
USER 0
RUN echo hello > /index.html
USER 65532
ENTRYPOINT ["httpd", "-f", "-p", "8080", "-h", "/"]
"""
COMPOSITION = """\
version: "2.4"
services:
  web:
    image: localhost/rtx/web:1
    ports: ["8080:8080"]
    stop_grace_period: 1s
    healthcheck:
      test: ["CMD", "wget", "-qO-", "http://127.0.0.1:8080/index.html"]
      interval: 1s
  client:
    image: localhost/rtx/busybox:1
    command: ["-c", "wget -qO- http://web:8080/index.html"]
    depends_on:
      web:
        condition: service_healthy
"""

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    if os.geteuid() != 0:
        pytest.skip("a Docker engine can only be started by root")
    return Layout(tmp_path_factory.mktemp("docker") / "state")


@pytest.fixture(scope="module")
def machine_before(layout: Layout) -> dict[str, str]:
    return machine_state()


@pytest.fixture(scope="module")
def engine(
    layout: Layout, machine_before: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DockerEngine]:
    """An engine with an image that was built on the one that was loaded."""
    engine = DockerEngine(layout)
    try:
        assert run(layout, "up") == 0
        docker(engine, "load", "--input", str(write_busybox_image(tmp_path_factory.mktemp("image"))))
        folder = tmp_path_factory.mktemp("context")
        (folder / "Dockerfile").write_text(DOCKERFILE)
        docker(engine, "build", "--tag", "localhost/rtx/web:1", str(folder))
        yield engine
    finally:
        run(layout, "down")


@pytest.fixture
def composition(engine: DockerEngine, tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "docker-compose.yml").write_text(COMPOSITION)
    compose(engine, tmp_path, "up", "-d")
    yield tmp_path
    compose(engine, tmp_path, "down")


def test_starting_twice_changes_nothing(engine: DockerEngine, layout: Layout) -> None:
    before = engine.machine.first_process
    assert run(layout, "up") == 0
    assert engine.machine.first_process == before
    assert run(layout, "status") == 0


def test_containers_of_a_composition_find_each_other(engine: DockerEngine, composition: Path) -> None:
    docker(engine, "wait", f"{composition.name}_client_1".replace("-", ""))
    assert "hello" in compose(engine, composition, "logs", "client")


def test_published_port_is_on_the_engines_address(engine: DockerEngine, layout: Layout, composition: Path) -> None:
    with urllib.request.urlopen(f"http://{layout.node_address}:8080/index.html", timeout=10) as response:
        assert response.read() == b"hello\n"


def test_published_port_is_on_localhost_inside(engine: DockerEngine, composition: Path) -> None:
    code = "import urllib.request; print(urllib.request.urlopen('http://localhost:8080/index.html').read())"
    command = engine.machine.command(sys.executable, "-c", code)
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "b'hello\\n'\n"


def test_images_are_saved_and_loaded(engine: DockerEngine, tmp_path: Path) -> None:
    docker(engine, "save", "--output", str(tmp_path / "web.tar"), "localhost/rtx/web:1")
    docker(engine, "rmi", "localhost/rtx/web:1")
    docker(engine, "load", "--input", str(tmp_path / "web.tar"))
    assert "localhost/rtx/web:1" in docker(engine, "images", "--format", "{{.Repository}}:{{.Tag}}")


def test_machine_keeps_its_settings_and_packet_filters(
    engine: DockerEngine, composition: Path, machine_before: dict[str, str]
) -> None:
    assert machine_state() == machine_before


def test_stop_leaves_nothing(engine: DockerEngine, layout: Layout, machine_before: dict[str, str]) -> None:
    docker(engine, "run", "--detach", "localhost/rtx/web:1")
    assert run(layout, "down") == 0
    assert_nothing_left(layout)
    assert machine_state() == machine_before
    assert run(layout, "status") == 1


def run(layout: Layout, command: str) -> int:
    environment = os.environ | {"RTX_DOCKER_DIRECTORY": str(layout.directory), "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-m", "tools.cluster", command, "docker"]
    return subprocess.run(words, cwd=REPOSITORY, env=environment, check=False).returncode


def docker(engine: DockerEngine, *words: str) -> str:
    return client(engine, "docker", *words)


def compose(engine: DockerEngine, folder: Path, *words: str) -> str:
    return client(engine, "docker-compose", "--project-directory", str(folder), *words, folder=folder)


def client(engine: DockerEngine, *words: str, folder: Path = REPOSITORY) -> str:
    # The classic builder: the newer one is a plug-in of the client, which Debian has none of.
    environment = os.environ | {"DOCKER_HOST": engine.address, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(words, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout
