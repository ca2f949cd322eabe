"""Frames on a stream: a 4-byte big-endian length, then that many bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from rtx.link.messages import MAXIMUM_FRAME_BYTES

Message = TypeVar("Message", bound=msgspec.Struct)

_LENGTH = struct.Struct(">I")


_encoder = msgspec.msgpack.Encoder()


class FrameTooLargeError(Exception):
    """A frame is beyond the size that is read; the stream cannot be read on."""


def frame(payload: bytes) -> bytes:
    """The payload with its length before it."""
    return _LENGTH.pack(len(payload)) + payload


def message_frames(
    messages: Sequence[Message],
    instead: Callable[[Message], Message],
    maximum_bytes: int = MAXIMUM_FRAME_BYTES,
) -> Iterator[bytes]:
    """Put messages into one frame, or into as many as they need.

    ``instead`` gives what is sent for a message that is too large for any frame.
    """
    payload = _encoder.encode(messages)
    if len(payload) <= maximum_bytes:
        yield frame(payload)
    elif len(messages) == 1:
        yield frame(_encoder.encode([instead(messages[0])]))
    else:
        middle = len(messages) // 2
        yield from message_frames(messages[:middle], instead, maximum_bytes)
        yield from message_frames(messages[middle:], instead, maximum_bytes)


class FrameReader:
    """Cuts received bytes into frames of at most ``maximum_bytes``, which may be changed at any time."""

    __slots__ = ("_buffer", "maximum_bytes")

    def __init__(self, maximum_bytes: int = MAXIMUM_FRAME_BYTES) -> None:
        self.maximum_bytes = maximum_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take received bytes and give the payloads that are complete; raises :class:`FrameTooLargeError`."""
        buffer = self._buffer
        buffer += data
        position = 0
        while len(buffer) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, position)
            if length > self.maximum_bytes:
                raise FrameTooLargeError(f"frame of {length} bytes")
            end = position + _LENGTH.size + length
            if len(buffer) < end:
                break
            yield bytes(buffer[position + _LENGTH.size : end])
            position = end
        if position:
            del buffer[:position]
