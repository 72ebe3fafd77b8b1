"""A client made of bytes on a real socket: says what a test wants, right or wrong, and reads what comes until the end."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hpack import Decoder, Encoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame, SettingsFrame

from tests.h2.peer import PREFACE, frame, framed, headers

WAIT_S = 20
RENEW = "/broker.v1.Sessions/Renew"
OPEN = "/broker.v1.Sessions/Open"
KEEP_ALIVE = "/broker.v1.Sessions/KeepAlive"
ENHANCE_YOUR_CALM = 11
PROTOCOL_ERROR = 1
FRAME_SIZE_ERROR = 6


@dataclass(slots=True)
class Heard:
    """What the server has said until it ended the connection, or until what was waited for had come."""

    frames: list[Frame] = field(default_factory=list)
    is_ended: bool = False

    @property
    def goaway_codes(self) -> list[int]:
        return [one.error_code for one in self.frames if isinstance(one, GoAwayFrame)]

    def fields(self, stream: int) -> dict[str, str]:
        """All headers and trailers of a stream."""
        lists = [one.fields for one in self.frames if isinstance(one, HeadersFrame) and one.stream_id == stream]
        return {name: value for one in lists for name, value in one}

    def body(self, stream: int) -> bytes:
        """All data of a stream."""
        return b"".join(one.data for one in self.frames if isinstance(one, DataFrame) and one.stream_id == stream)


class Attacker:
    """One connection. Writing to one that the server has cut does nothing, as an attacker would not mind."""

    def __init__(self, connected: socket.socket) -> None:
        connected.settimeout(WAIT_S)
        self.socket = connected
        self.encoder = Encoder()
        self._decoder = Decoder()
        self._unread = b""
        self._next_stream = 1
        self.is_cut = False

    # --- saying -----------------------------------------------------------------------------------------------

    def begin(self, *, is_acknowledging: bool = True, initial_window_size: int = 65_535) -> Attacker:
        """Preface and SETTINGS; an acknowledgement of the server's, which its bounds hold from."""
        acknowledgement = SettingsFrame(0, flags=["ACK"]).serialize() if is_acknowledging else b""
        self.send(PREFACE + SettingsFrame(0, settings={4: initial_window_size}).serialize() + acknowledgement)
        return self

    def send(self, data: bytes) -> bool:
        """False when the server no longer takes it."""
        try:
            self.socket.sendall(data)
        except (ConnectionError, ssl.SSLError):
            self.is_cut = True
        return not self.is_cut

    def next_stream(self) -> int:
        """The number of another stream of ours."""
        self._next_stream += 2
        return self._next_stream - 2

    def head(self, stream: int, path: str = RENEW, *, is_end: bool = False, fields: Sequence[tuple[str, str]] = (), **changed: str | None) -> bytes:
        """A HEADERS frame of a gRPC request."""
        block = self.encoder.encode([*headers(path, **changed), *fields])
        return frame(1, 4 | is_end, stream, block)

    def call(self, message: bytes = b"", path: str = RENEW, **changed: str | None) -> bytes:
        """A whole unary request on a stream of its own."""
        stream = self.next_stream()
        return self.head(stream, path, **changed) + frame(0, 1, stream, framed(message))

    def reset(self, stream: int) -> bytes:
        """RST_STREAM with CANCEL."""
        return RstStreamFrame(stream, error_code=8).serialize()

    # --- hearing ----------------------------------------------------------------------------------------------

    def hear(self, until_stream_ends: int | None = None, until_goaway: bool = False) -> Heard:
        """Reads until the server ends the connection, or this stream, or says GOAWAY."""
        heard = Heard()
        while not heard.is_ended:
            for one in self._frames():
                heard.frames.append(one)
                is_last = isinstance(one, RstStreamFrame) or "END_STREAM" in one.flags
                if (is_last and one.stream_id == until_stream_ends) or (until_goaway and isinstance(one, GoAwayFrame)):
                    return heard
            heard.is_ended = not self._receive()
        return heard

    def _receive(self) -> bool:
        """More bytes; False at the end, which a reset is too."""
        try:
            piece = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            return False
        self._unread += piece
        return bool(piece)

    def _frames(self) -> Iterator[Frame]:
        while len(self._unread) >= 9:
            one, size = Frame.parse_frame_header(memoryview(self._unread)[:9])
            if len(self._unread) < 9 + size:
                return
            one.parse_body(memoryview(self._unread[9 : 9 + size]))
            self._unread = self._unread[9 + size :]
            if isinstance(one, HeadersFrame):
                one.fields = self._decoder.decode(one.data)
            yield one

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()


def window_frame(stream: int, size: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(8, 0, stream, struct.pack(">I", size))
