"""Errors that nobody expected, sent to Sentry where a DSN is set, and always to the log.

Nothing of a request but its id leaves the process: an order's parameters, headers and local variables hold signatures,
keys and balances. The library is imported only where it is used; it costs every process a tenth of a second otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtx.observability.logging import get_logger

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint

_log = get_logger("rtx.errors")
_reporting = False


def configure_error_reports(dsn: str | None, *, environment: str, release: str, role: str) -> None:
    """Report to the Sentry project of ``dsn`` from now on; without one, errors only go to the log."""
    global _reporting  # noqa: PLW0603 - one switch a process, as Sentry's own
    _reporting = dsn is not None
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


def report_error(event: str, error: BaseException, **fields: object) -> None:
    """Log ``error`` with its traceback under ``event`` and report it; ``fields`` must hold no secret."""
    _log.error(event, exc_info=error, **fields)
    if not _reporting:
        return
    import sentry_sdk

    with sentry_sdk.new_scope() as scope:
        for name, value in fields.items():
            scope.set_tag(name, str(value))
        scope.capture_exception(error)


def flush_error_reports(timeout_s: float = 2.0) -> None:
    """Send what is still waiting; called when a process ends."""
    if _reporting:
        import sentry_sdk

        sentry_sdk.flush(timeout_s)


def _without_request(event: Event, _hint: Hint) -> Event | None:
    kept: Any = event
    for section in ("request", "user", "breadcrumbs", "extra", "modules"):
        kept.pop(section, None)
    return event
