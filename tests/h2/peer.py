"""A peer made of frames: says exactly what a test wants, right or wrong, and reads what comes back."""

from __future__ import annotations

import struct

from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from broker._h2 import Event, ServerConnection

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
METHODS = {"/s/Unary": "unary", "/s/Watch": "server_stream", "/s/Send": "client_stream", "/s/Talk": "bidi"}
SECOND = 10**9


def headers(path: str = "/s/Unary", **changed: str | None) -> list[tuple[str, str]]:
    """A gRPC request's headers; `changed` by name (underscores for hyphens), None takes one out."""
    plain: dict[str, str | None] = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "broker",
        "te": "trailers", "content-type": "application/grpc",
    }  # fmt: skip
    for name, value in changed.items():
        plain[":method" if name == "method" else name.replace("_", "-")] = value
    return [(name, value) for name, value in plain.items() if value is not None]


def framed(message: bytes, flag: int = 0) -> bytes:
    """A message behind its gRPC prefix."""
    return struct.pack(">BI", flag, len(message)) + message


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Any frame at all."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Peer:
    """The client's side of one connection, made of frames; `now_ns` is what the server is told."""

    def __init__(self, **settings: int) -> None:
        self.server = ServerConnection(METHODS, SECOND, **settings)
        self.encoder = Encoder()
        self._decoder = Decoder()
        self._unread = b""
        self.now_ns = SECOND

    def begin(self) -> Peer:
        """Preface and SETTINGS, both ways."""
        assert self.send(PREFACE + SettingsFrame(0).serialize() + SettingsFrame(0, flags=["ACK"]).serialize()) == []
        self.read()
        return self

    def send(self, data: bytes) -> list[Event]:
        """Feeds bytes."""
        return self.server.feed(self.now_ns, data)

    def head(self, stream: int, fields: list[tuple[str, str]], *, is_end: bool = False) -> bytes:
        """A HEADERS frame."""
        flags = ["END_HEADERS", "END_STREAM"] if is_end else ["END_HEADERS"]
        return HeadersFrame(stream, data=self.encoder.encode(fields), flags=flags).serialize()

    def call(self, stream: int, body: bytes = framed(b"seat"), fields: list[tuple[str, str]] | None = None) -> bytes:
        """A whole single request."""
        data = DataFrame(stream, data=body, flags=["END_STREAM"]).serialize()
        return self.head(stream, fields if fields is not None else headers()) + data

    def reset(self, stream: int) -> bytes:
        """RST_STREAM with CANCEL."""
        return RstStreamFrame(stream, error_code=8).serialize()

    def window(self, stream: int, size: int) -> bytes:
        """WINDOW_UPDATE."""
        return WindowUpdateFrame(stream, window_increment=size).serialize()

    def read(self) -> list[Frame]:
        """All frames that the server has to send; those of headers get their list as `fields`."""
        while piece := self.server.output(now_ns=self.now_ns):
            self._unread += piece
        frames = []
        while len(self._unread) >= 9:
            one, size = Frame.parse_frame_header(memoryview(self._unread)[:9])
            if len(self._unread) < 9 + size:
                break
            one.parse_body(memoryview(self._unread[9 : 9 + size]))
            self._unread = self._unread[9 + size :]
            if isinstance(one, HeadersFrame):
                one.fields = dict(self._decoder.decode(one.data))
            frames.append(one)
        return frames

    def goaway_code(self) -> int | None:
        """The error code of the last GOAWAY among what the server sends now."""
        codes = [one.error_code for one in self.read() if isinstance(one, GoAwayFrame)]
        return codes[-1] if codes else None

    def answer_fields(self) -> dict[str, str]:
        """All headers and trailers that the server sends now, together."""
        return {name: value for one in self.read() if isinstance(one, HeadersFrame) for name, value in one.fields.items()}
