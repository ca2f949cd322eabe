"""`rtx serve` and the commands round it, on servers that the environment names."""

import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.integration.cli.program import Program, run

from rtx.supervisor.backend import read_state

JWT_SECRET = "the secret of these tests, long enough for all"


@pytest.fixture
def variables(database_url: str, redis_url: str) -> dict[str, str]:
    """The settings of a backend on an empty database."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "JWT_SECRET": JWT_SECRET,
        "RTX_HOST": "127.0.0.1",
        "RTX_PORT": "0",
        "RTX_METRICS_HOST": "127.0.0.1",
        "RTX_METRICS_PORT": "0",
        "RTX_API_WORKERS": "2",
    }


@pytest.fixture
def backend(variables: dict[str, str], tmp_path: Path) -> Iterator[Program]:
    """`rtx serve` on a migrated database, with its state file in the test's directory."""
    assert run("migrate", variables=variables).returncode == 0
    program = Program("serve", "--state-file", str(tmp_path / "state.json"), **variables)
    yield program
    program.close()


def test_missing_and_wrong_settings_are_all_named() -> None:
    done = run("serve", variables={"DATABASE_URL": "mysql://rtx:hunter2@db/rtx", "RTX_PORT": "eighty"})
    assert done.returncode == 2
    for name in ("DATABASE_URL", "REDIS_URL", "JWT_SECRET", "RTX_PORT"):
        assert name in done.stderr
    assert "hunter2" not in done.stderr


def test_a_database_that_is_away_is_waited_for_and_then_named(variables: dict[str, str]) -> None:
    variables["DATABASE_URL"] = "postgresql://rtx:hunter2@127.0.0.1:1/rtx"
    done = run("serve", "--wait", "0.1", variables=variables)
    assert done.returncode == 1
    assert "waiting for the database postgresql://rtx@127.0.0.1:1/rtx" in done.stderr
    assert "cannot be used" in done.stderr
    assert "hunter2" not in done.stderr


def test_a_database_without_tables_is_refused_with_the_command_that_helps(variables: dict[str, str]) -> None:
    done = run("serve", variables=variables)
    assert done.returncode == 4
    assert "run `rtx migrate`" in done.stderr


def test_a_backend_serves_until_told_to_stop(backend: Program, tmp_path: Path) -> None:
    backend.read_until("engine leads", "api worker serves")
    state = read_state(tmp_path / "state.json")
    assert state is not None
    assert [process.role for process in state.processes] == ["engine", "api-1", "api-2", "metrics"]

    api = f"http://127.0.0.1:{state.port}"
    assert run("health-check", "--url", api, "--live").returncode == 0
    with urllib.request.urlopen(f"{api}/version") as response:
        assert response.status == 200
    # Workers write down what they counted now and then.
    wait_for_metric(state.metrics_port, 'rtx_http_requests_total{method="GET",route="/version",status="200"} 1.0')
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{state.metrics_port}/")

    backend.process.send_signal(signal.SIGTERM)
    assert backend.read_to_end() == 0
    assert "engine stopped" in backend.text
    assert run("health-check", "--url", api).returncode == 1


def wait_for_metric(port: int, line: str) -> None:
    deadline_s = time.monotonic() + 30
    metrics = ""
    while time.monotonic() < deadline_s:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            metrics = response.read().decode()
        if line in metrics.splitlines():
            return
        time.sleep(0.05)
    raise AssertionError(f"{line} is not in\n{metrics}")


def test_migrations_go_up_and_down_and_say_where_they_stand(variables: dict[str, str]) -> None:
    before = run("migrate", "--status", variables=variables)
    assert before.returncode == 0
    assert "current   (nothing yet)" in before.stdout
    assert run("migrate", variables=variables).returncode == 0
    assert "pending   (nothing)" in run("migrate", "--status", variables=variables).stdout
    assert run("migrate", "--down", "base", variables=variables).returncode == 0
    assert "current   (nothing yet)" in run("migrate", "--status", variables=variables).stdout

    unknown = run("migrate", "--down", "nonsense", variables=variables)
    assert unknown.returncode == 1
    assert "nonsense" in unknown.stderr
    away = run("migrate", variables={"DATABASE_URL": "postgresql://rtx:hunter2@127.0.0.1:1/rtx"})
    assert away.returncode == 1
    assert "postgresql://rtx@127.0.0.1:1/rtx cannot be used" in away.stderr
    assert run("migrate").returncode == 2


def test_an_operator_is_made_with_a_password_from_standard_input_or_the_environment(variables: dict[str, str]) -> None:
    no_tables = run("operator", "create", "--email", "ada@example.com", stdin="long enough\n", variables=variables)
    assert no_tables.returncode == 1
    assert "rtx migrate" in no_tables.stderr
    assert run("migrate", variables=variables).returncode == 0

    made = run("operator", "create", "--email", "ada@example.com", stdin="long enough\n", variables=variables)
    assert made.returncode == 0
    assert "ada@example.com" in made.stdout
    taken = run("operator", "create", "--email", "ADA@example.com", stdin="long enough\n", variables=variables)
    assert taken.returncode == 1
    assert "exists already" in taken.stderr
    secret = {**variables, "RTX_OPERATOR_PASSWORD": "long enough too"}
    assert run("operator", "create", "--email", "bob@example.com", variables=secret).returncode == 0
    assert run("operator", "create", "--email", "eve@example.com", stdin="short\n", variables=variables).returncode == 1
    assert run("operator", "create", "--email", "eve@example.com", variables=variables).returncode == 1


def test_every_command_explains_itself_with_an_example() -> None:
    commands = (
        ["dev"],
        ["serve"],
        ["status"],
        ["handover"],
        ["activate-rules"],
        ["migrate"],
        ["operator", "create"],
        ["health-check"],
        ["version"],
    )
    for command in commands:
        done = run(*command, "--help")
        assert done.returncode == 0
        assert "Example: " in done.stdout
    assert run("version").stdout.startswith("rtx ")
    assert run("health-check", "--url", "nonsense").returncode == 1
    assert run("no-such-command").returncode == 2


def test_a_database_url_is_shown_without_its_password(variables: dict[str, str]) -> None:
    password = urlsplit(variables["DATABASE_URL"]).password
    done = run("migrate", "--status", variables=variables)
    assert password is None or password not in done.stdout + done.stderr
