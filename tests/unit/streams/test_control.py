"""What clients may say, and what they hear when they say something else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtx.api.streams.control import ControlError, parse_request, render_error, render_result


def read_whole(text: str | bytes) -> None:
    request = parse_request(text)
    if request.method == "SET_PROPERTY":
        request.property_value()
    elif request.method == "GET_PROPERTY":
        request.property_name(parameter_count=1)
    else:
        request.names()


def refusal(text: str | bytes) -> dict[str, Any]:
    with pytest.raises(ControlError) as caught:
        read_whole(text)
    answer: dict[str, Any] = msgspec.json.decode(render_error(caught.value))
    error = answer.pop("error")
    assert error == {"code": answer["code"], "msg": answer["msg"]}
    return answer


def test_a_request_is_read() -> None:
    request = parse_request('{"method":"SUBSCRIBE","params":["a@trade","b@trade","a@trade"],"id":1}')
    assert (request.method, request.names(), request.request_id) == ("SUBSCRIBE", ["a@trade", "b@trade"], 1)
    assert render_result(None, request.request_id) == '{"result":null,"id":1}'


@pytest.mark.parametrize("request_id", [0, -5, 2**63 - 1, "abc123", "x" * 36, None])
def test_ids_that_are_taken(request_id: object) -> None:
    text = msgspec.json.encode({"method": "LIST_SUBSCRIPTIONS", "id": request_id})
    assert parse_request(text).request_id == request_id


@pytest.mark.parametrize("request_id", [1.5, 2**63, "x" * 37, "a-b", "ä", True, [], {}])
def test_ids_that_are_not(request_id: object) -> None:
    answer = refusal(msgspec.json.encode({"method": "LIST_SUBSCRIPTIONS", "id": request_id}))
    assert answer == {"code": 2, "msg": "Invalid request: request ID must be an unsigned integer"}


def test_an_id_there_must_be() -> None:
    assert refusal('{"method":"LIST_SUBSCRIPTIONS"}')["code"] == 2


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ({"params": [], "id": 1}, 2, "Invalid request: missing field `method` at line 1 column"),
        (
            {"method": "subscribe", "id": 1},
            2,
            "Invalid request: unknown variant `subscribe`, expected one of `SUBSCRIBE`",
        ),
        ({"method": "SUBSCRIBE", "id": 1}, 2, "Invalid request: params must be a list of stream names"),
        ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2, "Invalid request: params must be a list of stream names"),
        ({"method": "SUBSCRIBE", "params": "x", "id": 1}, 2, "Invalid request: params must be a list"),
        ({"method": "LIST_SUBSCRIPTIONS", "params": ["x"], "id": 1}, 2, "Invalid request: too many parameters"),
        ({"method": "GET_PROPERTY", "params": [], "id": 1}, 2, "Invalid request: property name must be a string"),
        ({"method": "GET_PROPERTY", "params": [1], "id": 1}, 2, "Invalid request: property name must be a string"),
        ({"method": "GET_PROPERTY", "params": ["combined", 1], "id": 1}, 2, "Invalid request: too many parameters"),
        ({"method": "GET_PROPERTY", "params": ["x"], "id": 1}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["x", True], "id": 1}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["combined"], "id": 1}, 1, "Invalid value type: expected Boolean"),
        (
            {"method": "SET_PROPERTY", "params": ["combined", "true"], "id": 1},
            1,
            "Invalid value type: expected Boolean",
        ),
    ],
)
def test_refusals_name_code_text_and_request(content: dict[str, Any], code: int, message: str) -> None:
    answer = refusal(msgspec.json.encode(content))
    assert answer["code"] == code
    assert answer["msg"].startswith(message)
    assert answer["id"] == 1


@pytest.mark.parametrize(
    ("text", "place"),
    [("", "line 1 column 1"), ("{", "line 1 column 2"), ("x", "line 1 column 1"), ('{"id":1,\n}', "line 2 column 1")],
)
def test_broken_json_is_located(text: str, place: str) -> None:
    assert refusal(text) == {"code": 3, "msg": f"Invalid JSON: expected value at {place}"}


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none(), st.lists).map(msgspec.json.encode)))
def test_anything_at_all_gets_an_answer(text: str | bytes) -> None:
    refusal(text)


def test_deep_nesting_gets_an_answer() -> None:
    assert refusal("[" * 60_000)["code"] == 3
