"""Reads the Markdown that we ship: its commands, links, code and tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[2]
PROGRAMS: Final = ("make", "rtx", "python", "python3", "pip", "docker", "kubectl", "curl", "psql", "openssl")

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CODE_SPAN: Final = re.compile(r"`([^`]+)`")
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ROW: Final = re.compile(r"^\|(.+)\|$", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """One file, and where its links start from."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """Its path in the repository."""
        return self.path.relative_to(REPOSITORY).as_posix()

    def fences(self, language: str) -> list[str]:
        """The blocks of code in this language."""
        return [body for found, body in _FENCE.findall(self.text) if found == language]

    @property
    def languages(self) -> set[str]:
        """Of the blocks of code; "" when one says nothing."""
        return {found for found, _ in _FENCE.findall(self.text)}

    @property
    def code_spans(self) -> list[str]:
        """What stands between backticks in the running text."""
        return [" ".join(span.split()) for span in _CODE_SPAN.findall(_FENCE.sub("", self.text))]

    @property
    def commands(self) -> list[str]:
        """What a reader may type: lines after a prompt, and code in the running text that begins with a program."""
        lines = [line for block in self.fences("console") for line in block.splitlines()]
        typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return typed + [span for span in self.code_spans if _is_command(span)]

    @property
    def links(self) -> list[str]:
        """The targets of links and pictures."""
        return _LINK.findall(_FENCE.sub("", self.text))

    @property
    def rows(self) -> list[list[str]]:
        """The cells of all tables, row by row."""
        return [[cell.strip() for cell in row.split("|")] for row in _ROW.findall(self.text)]


def _is_command(span: str) -> bool:
    program, _, rest = span.partition(" ")
    return program in PROGRAMS and (bool(rest) or program == "make")


def documents() -> list[Document]:
    """All Markdown files of the project that are written for its readers."""
    paths = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("benchmarks/**/*.md")]
    return [Document(path, path.read_text()) for path in sorted(paths)]


def readme() -> Document:
    """The first one that people read."""
    path = REPOSITORY / "README.md"
    return Document(path, path.read_text())


def all_commands() -> set[str]:
    """Every command of every document."""
    return {command for document in documents() for command in document.commands}


def documented(command: str, values: Mapping[str, str] | None = None) -> list[str]:
    """The words of a command that some document has, with ``values`` put in for parts of it."""
    assert command in all_commands(), f"no document has `{command}` any more"
    for shown, meant in (values or {}).items():
        assert shown in command
        command = command.replace(shown, meant)
    return shlex.split(command)
