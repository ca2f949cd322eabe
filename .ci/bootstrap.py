"""Makes a virtual environment with one tool in it, from nothing but a Python interpreter and PyPI.

It exists because Debian and Ubuntu ship `python3` without `ensurepip`: there `python3 -m venv` fails until another
system package is installed. Where `ensurepip` is missing, pip itself is fetched from PyPI.

Usage: python3 bootstrap.py DIRECTORY REQUIREMENT
"""

import hashlib
import importlib.util
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.request
import venv
from pathlib import Path

PIP_URL = (
    "https://files.pythonhosted.org/packages/07/25/ee8c38ae72d66b844ce8eb9711ba905dba21ca1a8a0c960057c41cd23337/"
    "pip-26.3-py3-none-any.whl"
)
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
DOWNLOAD_TIMEOUT_SECONDS = 120


def main(directory: Path, requirement: str) -> None:
    """Installs `requirement` into the environment in `directory`, which is made unless it is there and works."""
    has_ensurepip = importlib.util.find_spec("ensurepip") is not None
    python = directory / "bin" / "python"
    if not _works(python):
        venv.create(directory, clear=True, symlinks=True, with_pip=has_ensurepip)
    pip_install = ["install", "--quiet", "--disable-pip-version-check", requirement]
    if _works(python, "-m", "pip", "--version"):
        subprocess.run([python, "-m", "pip", *pip_install], check=True)
        return
    with tempfile.TemporaryDirectory() as scratch:
        wheel = Path(scratch) / PIP_URL.rpartition("/")[2]
        wheel.write_bytes(_download_pip())
        # A wheel is a zip file and Python can run a package inside one.
        subprocess.run([python, wheel / "pip", *pip_install], check=True)


def _works(python: Path, *arguments: str) -> bool:
    command = [python, *(arguments or ("-c", ""))]
    return os.access(python, os.X_OK) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def _download_pip() -> bytes:
    # A bare system has no certificate authorities either; the pinned hash vouches for the content, not the connection.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with urllib.request.urlopen(PIP_URL, timeout=DOWNLOAD_TIMEOUT_SECONDS, context=context) as response:
        content: bytes = response.read()
    if hashlib.sha256(content).hexdigest() != PIP_SHA256:
        sys.exit(f"bootstrap: {PIP_URL} is not what it was: its SHA-256 is not {PIP_SHA256}")
    return content


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except subprocess.CalledProcessError as error:
        sys.exit(f"bootstrap: `{' '.join(map(str, error.cmd))}` failed")
    except OSError as error:
        sys.exit(f"bootstrap: {error}; is https://pypi.org within reach?")
