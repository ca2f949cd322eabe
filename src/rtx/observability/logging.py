"""Logs: one JSON object a line on standard output, for machines to read.

Every process of the backend writes the same shape (``timestamp``, ``level``, ``event``, ``logger``, ``role``, ``pid``,
then the event's own fields), also for lines that libraries send through :mod:`logging`. The renderer is msgspec,
because a log line may stand on the path of an order. Lines of requests have a cheaper way of their own, in the API.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

import msgspec
import structlog
from structlog.typing import ExcInfo, FilteringBoundLogger, WrappedLogger

LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
TRACEBACK_CHARACTERS_MAX: Final = 16_384
CHATTY_LIBRARIES: Final = ("uvicorn", "asyncio", "alembic", "websockets", "aiohttp", "urllib3", "sentry_sdk")


def configure_logging(level: str, *, role: str, output: BinaryIO | None = None) -> None:
    """Send this process's log lines of ``level`` and above to ``output`` (standard output when None)."""
    target = _Output(sys.stdout.buffer if output is None else output)
    static = {"role": role, "pid": os.getpid()}
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.StackInfoRenderer(),
            _pass_error_on,
            structlog.processors.ExceptionRenderer(_render_exception),
            _Renderer(static),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_LineLoggerFactory(target),
        # Off, because forked processes configure their own role after their parent has logged.
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_LibraryHandler(_Renderer(static), target)]
    root.setLevel(LEVELS[level])
    for name in CHATTY_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, LEVELS[level]))


ErrorListener = Callable[[str, BaseException, Mapping[str, object]], None]
"""Gets the event, the exception and the event's other fields of each line at level error or above."""

_error_listener: ErrorListener | None = None


def listen_to_errors(listener: ErrorListener | None) -> None:
    """Have ``listener`` told of every logged exception, those that libraries log included."""
    global _error_listener  # noqa: PLW0603 - one a process, as the configuration of logging itself
    _error_listener = listener


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger for ``log.info("event in words", field=value)``; ``name`` is the module's."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def _pass_error_on(_logger: WrappedLogger, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Tell the listener of an exception that is logged as an error."""
    given = event.get("exc_info")
    if _error_listener is not None and given and method in ("error", "exception", "critical"):
        error = given if isinstance(given, BaseException) else sys.exc_info()[1]
        if error is not None:
            _error_listener(str(event.get("event", "")), error, event)
    return event


class _Renderer:
    """Turns an event into one JSON line; what JSON does not know is written as text."""

    def __init__(self, static: Mapping[str, object]) -> None:
        self._static = dict(static)
        self._encode = msgspec.json.Encoder(enc_hook=str).encode

    def __call__(self, logger: WrappedLogger, method: str, event: MutableMapping[str, Any]) -> bytes:
        line = {
            "timestamp": _timestamp(time.time()),
            "level": "error" if method == "exception" else method,
            "event": event.pop("event", ""),
            "logger": logger.name,
            **self._static,
            **event,
        }
        try:
            return self._encode(line)
        except (TypeError, ValueError, RecursionError, UnicodeEncodeError):
            return self._encode({key: _plain(value) for key, value in line.items()})


class _Output:
    """Writes lines whole: several threads, and processes that append to one file, never mix theirs."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        with self._lock:
            self._stream.write(line + b"\n")
            self._stream.flush()


class _LineLogger:
    """What structlog hands the rendered line to; carries the name that the logger was asked for under."""

    __slots__ = ("msg", "name")

    def __init__(self, output: _Output, name: str) -> None:
        self.msg = output.write
        self.name = name

    def __getattr__(self, _level: str) -> Callable[[bytes], None]:
        return self.msg


class _LineLoggerFactory:
    def __init__(self, output: _Output) -> None:
        self._output = output

    def __call__(self, *names: object) -> _LineLogger:
        return _LineLogger(self._output, str(names[0]) if names else "")


class _LibraryHandler(logging.Handler):
    """Gives lines of libraries the shape of our own."""

    def __init__(self, render: _Renderer, output: _Output) -> None:
        super().__init__()
        self._render = render
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: dict[str, Any] = {"event": record.getMessage()}
            if record.exc_info and record.exc_info[1] is not None:
                event["exception"] = _render_exception(record.exc_info)
                if _error_listener is not None and record.levelno >= logging.ERROR:
                    _error_listener(event["event"], record.exc_info[1], {"logger": record.name})
            self._output.write(self._render(record, record.levelname.lower(), event))
        except Exception:  # noqa: BLE001 - a log line must never end the work it tells of
            self.handleError(record)


_cached_time: tuple[int, str] = (-1, "")


def _timestamp(now_s: float) -> str:
    """RFC 3339 in UTC with milliseconds; the part down to the second is made once a second."""
    global _cached_time  # noqa: PLW0603 - one tuple, replaced whole, so that threads never see half of it
    second = int(now_s)
    cached_second, prefix = _cached_time
    if second != cached_second:
        prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _cached_time = (second, prefix)
    return f"{prefix}.{int((now_s - second) * 1000):03d}Z"


def _render_exception(exc_info: ExcInfo) -> str:
    """The traceback without values of variables, its end kept when it is long."""
    return "".join(traceback.format_exception(exc_info[1]))[-TRACEBACK_CHARACTERS_MAX:]


def _plain(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value).encode(errors="replace").decode()
