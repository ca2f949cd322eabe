"""Frames on a stream: a 4-byte big-endian length, then that many bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from rtx.link.messages import MAXIMUM_FRAME_BYTES

_LENGTH = struct.Struct(">I")


class FrameTooLargeError(Exception):
    """The other end announced a frame beyond :data:`MAXIMUM_FRAME_BYTES`; the stream cannot be read on."""


def frame(payload: bytes) -> bytes:
    """The payload with its length before it."""
    return _LENGTH.pack(len(payload)) + payload


class FrameReader:
    """Cuts received bytes into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take received bytes and give the payloads that are complete; raises :class:`FrameTooLargeError`."""
        buffer = self._buffer
        buffer += data
        position = 0
        while len(buffer) - position >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, position)
            if length > MAXIMUM_FRAME_BYTES:
                raise FrameTooLargeError(f"frame of {length} bytes")
            end = position + _LENGTH.size + length
            if len(buffer) < end:
                break
            yield bytes(buffer[position + _LENGTH.size : end])
            position = end
        if position:
            del buffer[:position]
