"""Calls by the ten thousand on one connection, as bytes: a client library would take minutes for them.

HTTP/2 as far as it is needed for that: frames (RFC 9113), headers without any table (RFC 7541, 6.2.2), and a reader that counts
how calls end without looking into headers.
"""

from __future__ import annotations

from typing import BinaryIO

WINDOW_MAX = 2**30
HEADERS, END_STREAM, SETTINGS, WINDOW_UPDATE = 1, 1, 4, 8
INITIAL_WINDOW_SIZE = 4


def frame(kind: int, flags: int, stream_id: int, body: bytes) -> bytes:
    """One frame."""
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + body


def literal(name: bytes, value: bytes) -> bytes:
    """One header."""
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


def window_setting(size: int) -> bytes:
    """SETTINGS: how much the server may send on each call unasked."""
    return frame(SETTINGS, 0, 0, INITIAL_WINDOW_SIZE.to_bytes(2, "big") + size.to_bytes(4, "big"))


def calls(path: bytes, message: bytes, count: int, window_size: int = 65535) -> bytes:
    """A connection's preface, and so many calls with the same message; the whole connection's window is wide open."""
    pairs = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a"), (b"content-type", b"application/grpc"))
    head = b"".join(literal(*pair) for pair in pairs)
    body = bytes(1) + len(message).to_bytes(4, "big") + message
    each = (frame(HEADERS, 4, 2 * i + 1, head) + frame(0, END_STREAM, 2 * i + 1, body) for i in range(count))
    opening = window_setting(window_size) + frame(WINDOW_UPDATE, 0, 0, WINDOW_MAX.to_bytes(4, "big"))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + opening + b"".join(each)


def read_ends(stream: BinaryIO, count: int) -> int:
    """Reads until so many calls have ended; how many of these had an answer before their status."""
    ended, answered, ends = 0, set(), set()
    while ended < count:
        head = stream.read(9)
        assert len(head) == 9, "the connection ended"
        stream.read(int.from_bytes(head[:3], "big"))
        if head[3] == 0:
            answered.add(head[5:])
        elif head[3] == HEADERS and head[4] & END_STREAM:
            ends.add(head[5:])
            ended += 1
    return len(answered & ends)
