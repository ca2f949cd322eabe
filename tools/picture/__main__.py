"""`python -m tools.picture`: runs `make run` in a terminal of a fixed size and draws what it shows, as an SVG.

What is committed is cloned and run in a temporary directory, so the picture is of a first run. Two things in it are
altered: keys and passwords are cut short, and the clone is said to be `~/rtx`. Needs git, tmux, and the ports 8080 and
9090.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from rtx.cli.instances import Instance, read_instance

REPOSITORY: Final = Path(__file__).parents[2]
PICTURE: Final = REPOSITORY / "docs" / "images" / "make-run.svg"

COLUMNS: Final = 100
LINES: Final = 48
SHELL: Final = ("bash", "--norc", "--noprofile")
READY_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 60.0
POLL_INTERVAL_S: Final = 0.1
SECRET_CHARACTERS_SHOWN: Final = 8

# Rich has viewers fetch a font from elsewhere; a picture in a repository makes do with what they have.
FONT_FACES: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
FONTS: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace"


class Terminal:
    """A shell in a tmux of its own, which nothing of the user's settings reaches."""

    def __init__(self, socket: Path, directory: Path) -> None:
        self._socket = socket
        variables = {"PATH": os.environ["PATH"], "HOME": str(directory), "LANG": "C.UTF-8", "PS1": "$ ", "HISTFILE": ""}
        environment = [f"{name}={value}" for name, value in variables.items()]
        size = ("-x", str(COLUMNS), "-y", str(LINES))
        command = ("env", "-i", *environment, "TERM=screen-256color", *SHELL)
        self._tmux("-f", os.devnull, "new-session", "-d", *size, "-c", str(directory), *command)

    def type(self, *keys: str) -> None:
        """Press these keys, by tmux's names."""
        self._tmux("send-keys", *keys)

    @property
    def is_idle(self) -> bool:
        """Whether the shell waits for a command."""
        return self._tmux("display-message", "-p", "#{pane_current_command}").strip() == SHELL[0]

    def screen(self) -> str:
        """What it shows, with the colours as escape sequences."""
        return self._tmux("capture-pane", "-e", "-p")

    def close(self) -> None:
        """End the shell."""
        self._tmux("kill-server")

    def _tmux(self, *arguments: str) -> str:
        return _run("tmux", "-S", str(self._socket), *arguments)


def capture(trading_s: float) -> str:
    """The screen of a first `make run` after ``trading_s`` seconds of trading, fit to be shown."""
    with tempfile.TemporaryDirectory(prefix="rtx-picture-") as scratch:
        directory = Path(scratch)
        directory.chmod(0o755)  # the embedded servers run as another user when this runs as root
        clone = directory / "rtx"
        _run("git", "clone", "--quiet", str(REPOSITORY), str(clone))
        _run("make", "-C", str(clone), "install")
        with _running(directory / "tmux", clone) as (terminal, instance):
            time.sleep(trading_s)
            screen = terminal.screen()
    return _replaced(screen, {**_shortened(instance), str(clone): "~/rtx"})


def _run(program: str, *arguments: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise FileNotFoundError(f"{program} is not installed")
    return subprocess.run([path, *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


@contextlib.contextmanager
def _running(socket: Path, clone: Path) -> Iterator[tuple[Terminal, Instance]]:
    terminal = Terminal(socket, clone)
    try:
        terminal.type("make run", "Enter")
        ready_file = clone / ".rtx" / "ready.json"
        _wait(ready_file.exists, READY_TIMEOUT_S, terminal)
        instance = read_instance(ready_file)
        assert instance is not None
        yield terminal, instance
    finally:
        terminal.type("C-c")
        _wait(lambda: terminal.is_idle, STOP_TIMEOUT_S, terminal)
        terminal.close()


def _wait(condition: Callable[[], bool], timeout_s: float, terminal: Terminal) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"nothing happened for {timeout_s:.0f} s; the terminal shows:\n{terminal.screen()}")
        time.sleep(POLL_INTERVAL_S)


def _shortened(instance: Instance) -> dict[str, str]:
    secrets = (instance.demo.api_key, instance.demo.secret, instance.operator.password)
    return {secret: f"{secret[:SECRET_CHARACTERS_SHOWN]}…" for secret in secrets}


def _replaced(text: str, replacements: Mapping[str, str]) -> str:
    for original, shown in replacements.items():
        text = text.replace(original, shown)
    return text


def draw(screen: str) -> str:
    """The SVG of a terminal that shows ``screen``; its text stays text."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    # The line at the end keeps the letters of the last one whole.
    console.print(Text.from_ansi(screen.rstrip()), end="\n\n")
    svg = console.export_svg(title="make run", unique_id="make-run")
    return FONT_FACES.sub("", svg).replace("Fira Code, monospace", FONTS)


def main() -> None:
    """Read the options, run, draw."""
    parser = argparse.ArgumentParser(prog="python -m tools.picture", description=__doc__)
    parser.add_argument("--output", type=Path, default=PICTURE, help="the SVG (default docs/images/make-run.svg)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of trading before the picture (default 20)")
    options = parser.parse_args()
    options.output.write_text(draw(capture(options.seconds)))


if __name__ == "__main__":
    main()
