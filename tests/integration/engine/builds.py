"""Other builds of the program: copies of the source with changes, under version numbers of their own.

A process finds such a build before the installed one when it stands first in its ``PYTHONPATH``.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import rtx

SOURCE: Final = Path(rtx.__file__).parent


def build(directory: Path, version: str, changes: Mapping[str, tuple[str, str]]) -> Path:
    """Copy the program into ``directory``; gives what to put into ``PYTHONPATH``.

    ``changes``: by file below ``rtx``, a text that stands in it once, and what stands there instead.
    """
    shutil.copytree(SOURCE, directory / "rtx", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name, (before, after) in changes.items():
        path = directory / "rtx" / name
        text = path.read_text()
        assert text.count(before) == 1, f"{name} does not have {before!r} once"
        path.write_text(text.replace(before, after))
    information = directory / f"rtx-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: rtx\nVersion: {version}\n")
    return directory
