"""Errors that nobody expected, sent to Sentry where a DSN is set.

Whatever is logged with an exception at level error is reported: who logs need not know of it. Nothing of a request but
its id leaves the process, because an order's parameters, headers and local variables hold signatures, keys and
balances. The library is imported only where it is used; it costs every process a tenth of a second otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from rtx.observability.logging import listen_to_errors

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

REPORTED_FIELDS: Final = ("request_id", "logger", "process", "market", "symbol", "sequence", "epoch")
"""Fields of a log line that go with a report; all others stay here."""

_REMOVED_SECTIONS: Final = ("request", "user", "breadcrumbs", "extra", "modules")

_reporting = False


def configure_error_reports(dsn: str | None, *, environment: str, release: str, role: str) -> None:
    """Report to the Sentry project of ``dsn`` from now on; without one, errors only go to the log."""
    global _reporting  # noqa: PLW0603 - one switch a process, as Sentry's own
    _reporting = dsn is not None
    listen_to_errors(_report if _reporting else None)
    if dsn is None:
        return
    import sentry_sdk

    sentry_sdk.init(
        dsn=dsn,
        environment=environment,
        release=release,
        server_name=role,
        send_default_pii=False,
        include_local_variables=False,
        max_breadcrumbs=0,
        default_integrations=False,
        auto_enabling_integrations=False,
        before_send=_without_request,
    )


def _report(event: str, error: BaseException, fields: Mapping[str, object]) -> None:
    import sentry_sdk

    with sentry_sdk.new_scope() as scope:
        scope.set_tag("event", event)
        for name in REPORTED_FIELDS:
            if name in fields:
                scope.set_tag(name, str(fields[name]))
        scope.capture_exception(error)


def flush_error_reports(timeout_s: float = 2.0) -> None:
    """Send what is still waiting; called when a process ends."""
    if _reporting:
        import sentry_sdk

        sentry_sdk.flush(timeout_s)


def _without_request(event: Event, _hint: Hint) -> Event | None:
    kept: Any = event
    for section in _REMOVED_SECTIONS:
        kept.pop(section, None)
    return event
