"""The README's table of environment variables says what the settings are, and their defaults."""

import re
from typing import Final

from tests.documentation.documents import readme

from rtx.settings import _VARIABLES

FOR_MEASUREMENTS_ONLY: Final = {
    "RTX_ENGINE_BATCH_COMMANDS_MAX",
    "RTX_ENGINE_HOLDER",
    "RTX_ENGINE_QUEUE_COMMANDS_MAX",
    "RTX_ENGINE_TIMEOUT_S",
    "RTX_LEASE_RENEWAL_S",
    "RTX_LEASE_TTL_S",
    "RTX_CHECKPOINT_COMMANDS",
    "RTX_SNAPSHOT_COMMANDS",
}
"""Bounds and times that tests and measurements change; nobody who runs the backend needs to."""

_NAME: Final = re.compile(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`")
_DEFAULTS: Final = re.compile(r"\((\d[\w.]*(?:, \w[\w.]*)*)\)")


def rows() -> list[list[str]]:
    """The table's rows, without its heading."""
    return [row for row in readme().rows if _NAME.match(row[0])]


def test_every_setting_is_in_the_table() -> None:
    documented = {name for row in rows() for cell in row for name in _NAME.findall(cell)}
    settings = {name for _, name, _, _ in _VARIABLES}
    assert documented == settings - FOR_MEASUREMENTS_ONLY
    assert settings >= FOR_MEASUREMENTS_ONLY


def test_defaults_are_as_the_table_says() -> None:
    defaults = {name: default for _, name, _, default in _VARIABLES}
    told = 0
    for row in rows():
        names, shown = _NAME.findall(row[0]), _DEFAULTS.search(row[1])
        if shown is not None:
            values = shown[1].split(", ")
            assert values == [_as_text(defaults[name]) for name in names], row
            told += 1
    assert told


def _as_text(default: object) -> str:
    return f"{default:g}" if isinstance(default, float) else str(default)
