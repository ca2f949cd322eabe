"""`python -m tools.compile_core`: the core as machine code, by mypyc, in a tree of its own.

The tree is a copy of the package `rtx` with extension modules next to the sources they were made from; whoever puts it
first on PYTHONPATH runs the compiled core. Nothing is written into `src`, where an extension module would hide every
later change of its source.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[1]
SOURCE: Final = REPOSITORY / "src" / "rtx"
COMPILED_TREE: Final = REPOSITORY / "build" / "compiled"

MODULES: Final = ("accounts", "book", "exchange", "fees", "ledger", "market", "orders", "validation")
"""The modules of ``rtx.core`` with work in them. Commands and events stay as they are: msgspec's structures are C."""

_FINGERPRINT_FILE: Final = "compiled-from"


class CannotCompileError(Exception):
    """The core cannot be compiled here; the message says what is missing or what went wrong."""


def compile_core(output: Path = COMPILED_TREE) -> Path:
    """Make the tree, or keep the one that stands there when it was made from the same sources; returns it.

    Raises :class:`CannotCompileError`.
    """
    _require_tools()
    fingerprint = _fingerprint()
    recorded = output / _FINGERPRINT_FILE
    if recorded.is_file() and recorded.read_text() == fingerprint:
        return output
    if output.exists():
        if not recorded.is_file() and any(output.iterdir()):
            raise CannotCompileError(f"{output} holds something else; name an empty or a new folder")
        shutil.rmtree(output)
    shutil.copytree(SOURCE, output / "rtx", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    recorded.write_text("unfinished")
    sources = [f"rtx/core/{module}.py" for module in MODULES]
    # The empty name keeps mypy from the settings of the folders above; `make lint` has applied those already.
    _run(["mypyc", "--config-file=", "--strict", "--follow-imports=silent", *sources], output)
    shutil.rmtree(output / "build", ignore_errors=True)
    shutil.rmtree(output / ".mypy_cache", ignore_errors=True)
    _check(output)
    recorded.write_text(fingerprint)
    return output


def _require_tools() -> None:
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise CannotCompileError(f"there is no C compiler ({compiler})")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        raise CannotCompileError("Python's header files are not installed (python3-dev or python3-devel)")
    for distribution in ("mypy", "setuptools"):
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError as missing:
            raise CannotCompileError(f"{distribution} is not installed (`make install-bench`)") from missing


def _fingerprint() -> str:
    """What the tree depends on: all sources of the package, Python, mypyc and the way they are called."""
    digest = hashlib.sha256()
    for part in (sys.version, sysconfig.get_platform(), importlib.metadata.version("mypy"), Path(__file__).read_text()):
        digest.update(part.encode())
    for path in sorted(SOURCE.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(str(path.relative_to(SOURCE)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _check(output: Path) -> None:
    names = [f"rtx.core.{module}" for module in MODULES]
    code = f"import importlib; print(*[importlib.import_module(name).__file__ for name in {names}], sep='\\n')"
    files = _run(["-c", code], output, as_module=False).splitlines()
    plain = [file for file in files if file.endswith(".py") or not Path(file).is_relative_to(output)]
    if plain:
        raise CannotCompileError(f"not compiled after all: {', '.join(plain)}")


def _run(arguments: list[str], folder: Path, *, as_module: bool = True) -> str:
    finished = subprocess.run(
        [sys.executable, *(["-m"] if as_module else []), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        last = "\n".join((finished.stdout + finished.stderr).splitlines()[-20:])
        raise CannotCompileError(f"{arguments[0]} failed:\n{last}")
    return finished.stdout


def main() -> None:
    """Read the options, compile, say where."""
    parser = argparse.ArgumentParser(prog="python -m tools.compile_core", description=__doc__)
    parser.add_argument("--output", type=Path, default=COMPILED_TREE, help="the tree to make (default build/compiled)")
    options = parser.parse_args()
    try:
        tree = compile_core(options.output.resolve())
    except CannotCompileError as reason:
        parser.exit(1, f"the core was not compiled: {reason}\n")
    print(f"PYTHONPATH={tree}")


if __name__ == "__main__":
    main()
