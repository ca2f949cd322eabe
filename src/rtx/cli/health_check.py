"""`rtx health-check`: one question to a running backend, without anything that takes time to import."""

from __future__ import annotations

import http.client
import json
import os
from urllib.parse import urlsplit

from rtx.cli.messages import EXIT_FAILED, fail, say

TIMEOUT_S = 5.0


def run_health_check(url: str | None, *, live: bool) -> int:
    """Print what the backend says; returns the exit code."""
    base = url or f"http://127.0.0.1:{os.environ.get('RTX_PORT') or 8080}"
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        fail(f"{base!r} is no address of an API", "it should look like http://127.0.0.1:8080")
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/health/{'live' if live else 'ready'}")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        fail(
            f"no answer from {base} ({error})",
            "is it running? `rtx serve` and `rtx dev` say their address when they start",
        )
    finally:
        connection.close()
    print(body.decode(errors="replace"))
    if response.status == 200:
        return 0
    missing = [f"{name}: {result}" for name, result in _checks(body).items() if result != "ok"]
    say(f"rtx: not ready (HTTP {response.status}): {'; '.join(missing) or 'see the answer above'}")
    return EXIT_FAILED


def _checks(body: bytes) -> dict[str, str]:
    try:
        checks = json.loads(body)["checks"]
    except (ValueError, KeyError, TypeError):
        return {}
    return checks if isinstance(checks, dict) else {}
