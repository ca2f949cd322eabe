"""Whatever the network makes of the bytes, the frames come out as they went in."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtx.link.frames import FrameReader, FrameTooLargeError, frame, message_frames
from rtx.link.messages import FAULTED, Response

PAYLOADS = st.lists(st.binary(max_size=300), max_size=20)


@given(payloads=PAYLOADS, data=st.data())
def test_frames_survive_any_chunking(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frame(payload) for payload in payloads)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=30).map(sorted))
    reader = FrameReader()
    received: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[start:end])
    assert received == payloads


def test_a_frame_beyond_the_limit_is_refused_before_it_arrived() -> None:
    reader = FrameReader(maximum_bytes=10)
    assert list(reader.feed(frame(b"x" * 10))) == [b"x" * 10]
    with pytest.raises(FrameTooLargeError):
        list(reader.feed(frame(b"x" * 11)[:4]))


def test_the_limit_may_be_raised_between_two_frames_that_arrive_together() -> None:
    reader = FrameReader(maximum_bytes=10)
    received = []
    for payload in reader.feed(frame(b"small") + frame(b"x" * 100)):
        received.append(payload)
        reader.maximum_bytes = 100
    assert received == [b"small", b"x" * 100]


@given(sizes=st.lists(st.integers(0, 400), max_size=12))
def test_messages_that_do_not_fit_into_one_frame_take_several(sizes: list[int]) -> None:
    def instead(response: Response) -> Response:
        return Response(response.number, FAULTED, 0, 0, msgspec.Raw(b"\xc0"))

    messages = [Response(number, 0, 0, 0, raw(size)) for number, size in enumerate(sizes)]
    stream = b"".join(message_frames(messages, instead, maximum_bytes=300))
    received: list[Response] = []
    for payload in FrameReader(maximum_bytes=300).feed(stream):
        received += msgspec.msgpack.decode(payload, type=list[Response])
    assert [one.number for one in received] == list(range(len(sizes)))
    for one, size in zip(received, sizes, strict=True):
        assert one.status == 0 or size > 250
        assert one.status == FAULTED or bytes(one.payload) == bytes(raw(size))


def raw(size: int) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(bytes(size)))
