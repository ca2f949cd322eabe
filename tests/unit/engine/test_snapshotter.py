"""The snapshotter as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys


def test_a_database_out_of_reach_is_one_line_in_the_log() -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": "postgresql://rtx:secret-password@127.0.0.1:1/rtx",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "JWT_SECRET": "the secret of the tests, which is long enough for everything",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "rtx.engine.snapshotter"], env=environment, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (1, b"")
    line = json.loads(ended.stdout)
    assert (line["level"], line["event"]) == ("warning", "the database cannot be read")
    assert b"secret-password" not in ended.stdout
