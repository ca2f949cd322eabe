"""Log lines as whoever reads them by machine sees them."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from rtx.observability.logging import configure_logging, get_logger

Lines = list[dict[str, Any]]


@pytest.fixture
def output() -> Iterator[io.BytesIO]:
    """What is logged during the test; the configuration of before comes back."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    stream = io.BytesIO()
    configure_logging("info", role="api-1", output=stream)
    yield stream
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(output: io.BytesIO) -> Lines:
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_is_a_json_object_with_the_event_and_its_fields(output: io.BytesIO) -> None:
    get_logger("rtx.some.module").info("order accepted", request_id="abc", order_id=7)
    [line] = lines(output)
    assert line["event"] == "order accepted"
    assert (line["level"], line["logger"], line["role"]) == ("info", "rtx.some.module", "api-1")
    assert (line["request_id"], line["order_id"]) == ("abc", 7)
    assert line["timestamp"].endswith("Z")


def test_lines_below_the_level_are_not_written(output: io.BytesIO) -> None:
    get_logger("rtx").debug("nobody wants to know")
    assert lines(output) == []


def test_context_is_on_every_line(output: io.BytesIO) -> None:
    with structlog.contextvars.bound_contextvars(request_id="abc"):
        get_logger("rtx").warning("odd")
    assert lines(output)[0]["request_id"] == "abc"


def test_an_exception_comes_with_its_traceback_on_the_same_line(output: io.BytesIO) -> None:
    try:
        raise ValueError("what happened")
    except ValueError as error:
        get_logger("rtx").error("failed", exc_info=error)
        logging.getLogger("library").exception("failed there")
    own, library = lines(output)
    for line in (own, library):
        assert line["level"] == "error"
        assert line["exception"].startswith("Traceback")
        assert "ValueError: what happened" in line["exception"]
    assert library["logger"] == "library"


def test_what_json_does_not_know_is_written_as_text(output: io.BytesIO) -> None:
    get_logger("rtx").info("odd values", number=2**70, lone_surrogate="\ud800", thing={1, 2}.__class__)
    [line] = lines(output)
    assert line["event"] == "odd values"
    assert line["thing"] == "<class 'set'>"
