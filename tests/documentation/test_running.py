"""What the documents tell people to type is typed here, with other ports and directories than theirs."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from tests.documentation.documents import REPOSITORY, documented, readme
from tests.documentation.make_run import environment, made_to_run
from tests.integration.cli.program import run
from tests.integration.cli.test_dev import book_is_open, until

from rtx.cli.dev.console import ccxt_snippet
from rtx.cli.instances import DemoKeys, Instance
from rtx.demo.crowd import Login

RUN_WITH_OPTIONS = 'make run ARGS="--no-demo --data /tmp/exchange --port 8090 --metrics-port 9095"'


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """What `make run` runs, on free ports and on data of its own."""
    directory = tmp_path_factory.mktemp("run")
    ready_file = directory / "ready.json"
    options = f"--data {directory / 'data'} --port 0 --metrics-port 0 --api-workers 1 --ready-file {ready_file}"
    with made_to_run([*documented("make run"), f"ARGS={options}"], ready_file, directory) as running:
        yield running


def make(*arguments: str) -> str:
    """What make says, run in the repository."""
    return subprocess.run(
        arguments, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=True, timeout=60
    ).stdout


async def test_the_python_of_the_readme_trades_on_what_make_run_runs(instance: Instance) -> None:
    await until(book_is_open, instance)
    (snippet,) = readme().fences("python")
    for shown, meant in (
        ('"apiKey": "…"', f'"apiKey": "{instance.demo.api_key}"'),
        ('"secret": "…"', f'"secret": "{instance.demo.secret}"'),
        ("http://127.0.0.1:8080", instance.api),
    ):
        assert shown in snippet
        snippet = snippet.replace(shown, meant)
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs here
        [sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "'bids': [[" in done.stdout
    assert "'status': 'closed'" in done.stdout
    assert "'free': " in done.stdout


def test_the_readme_has_the_python_that_the_program_shows() -> None:
    api = "http://127.0.0.1:8080"
    shown = ccxt_snippet(Instance(api, "", "", "", Login("", ""), DemoKeys("…", "…"), 0))
    assert [snippet.strip() for snippet in readme().fences("python")] == [shown]


def test_the_metrics_are_where_the_readme_says(instance: Instance) -> None:
    assert urlsplit(instance.metrics).path == "/metrics"
    with urlopen(instance.metrics) as response:
        assert b"rtx_orders_total" in response.read()


def test_health_check_asks_the_backend_on_the_port_that_the_environment_names(instance: Instance) -> None:
    program, *arguments = documented("rtx health-check")
    assert program == "rtx"
    done = run(*arguments, variables={"RTX_PORT": str(urlsplit(instance.api).port)})
    assert done.returncode == 0, done.stderr


def test_orders_are_measured_on_a_backend_that_runs(instance: Instance, tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    ready_file.write_text(
        f'{{"api": "{instance.api}", "database_url": "{instance.database_url}",'
        f' "operator": {{"email": "{instance.operator.email}", "password": "{instance.operator.password}"}}}}'
    )
    program, *arguments = documented("python -m benchmarks.http --ready-file FILE", {"FILE": str(ready_file)})
    assert program == "python"
    options = ["--seconds", "0.2", "--accounts", "2", "--connections", "8"]
    done = subprocess.run(
        [sys.executable, *arguments, *options], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "orders/s accepted" in done.stdout


def test_make_run_takes_options(tmp_path: Path) -> None:
    data, ready_file = tmp_path / "exchange", tmp_path / "ready.json"
    command = documented(
        RUN_WITH_OPTIONS,
        {
            "--data /tmp/exchange": f"--data {data} --ready-file {ready_file}",
            "--port 8090": "--port 0",
            "--metrics-port 9095": "--metrics-port 0",
        },
    )
    with made_to_run(command, ready_file, tmp_path) as running, urlopen(f"{running.api}/version") as response:
        assert response.status == 200
        assert (data / "credentials.json").exists()
    assert not ready_file.exists()


def test_make_alone_lists_every_target() -> None:
    listed = {line.split()[1] for line in make(*documented("make")).splitlines()}
    assert listed == targets()


@pytest.mark.parametrize(
    ("command", "program"),
    [
        ("make bench", "-m benchmarks"),
        ('make bench ARGS="orders --ready-file FILE"', "-m benchmarks orders --ready-file FILE"),
        ('make bench ARGS="replicas"', "-m benchmarks replicas"),
        ("make compile", "-m tools.compile_core"),
        ("make lint", "ruff check"),
        ("make simulate", "-m tests.simulation"),
        ('make simulate ARGS="--seeds 10000 --first 1"', "-m tests.simulation --seeds 10000 --first 1"),
    ],
)
def test_a_long_command_would_start_the_program_that_it_is_for(command: str, program: str) -> None:
    make_, *arguments = documented(command)
    assert program in make(make_, "--dry-run", *arguments)


def targets() -> set[str]:
    """What the Makefile says is a target."""
    lines = (REPOSITORY / "Makefile").read_text().splitlines()
    return {target for line in lines if line.startswith(".PHONY:") for target in line.split()[1:]}
