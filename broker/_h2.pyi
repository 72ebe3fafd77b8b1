"""gRPC over HTTP/2 on the server's side, for tests and tools: bytes in, events and bytes out. No I/O, no clock.

Times are CLOCK_MONOTONIC in nanoseconds, given by the caller; one thread at a time. The data plane compiles the same
sources into itself (ext/h2/h2.pxi) and never comes by here.
"""

from collections.abc import Mapping
from typing import TypeAlias

Event: TypeAlias = tuple[str, int, int, bytes, bool, int | None, tuple[tuple[bytes, bytes], ...], int, str]
"""(kind, name of the call, number of the method, message, is_last, deadline_ns, metadata, HTTP/2 error code, cause).

Kinds: started, message, half_closed, cancelled, writable, going_away, over.
"""

SHAPES: dict[str, int]
"""unary, server_stream, client_stream, bidi."""

class ServerConnection:
    """One connection. `methods`: path -> shape, numbered in their order; `settings`: fields of Settings in h2_records.pxd.

    ValueError names a setting or a method that cannot be.
    """

    def __init__(self, methods: Mapping[str, str], now_ns: int = 0, **settings: int) -> None: ...
    def feed(self, now_ns: int, data: bytes) -> list[Event]:
        """What these bytes of the peer bring, in their order."""

    def on_time(self, now_ns: int) -> list[Event]:
        """What time brings; see next_due_ns."""

    def next_due_ns(self) -> int | None:
        """When on_time has something to do at the earliest."""

    def message(self, name: int, data: bytes) -> str:
        """One message to a call: said, nobody (the call is gone), or no_room (a `writable` follows)."""

    def finish(self, name: int, status: int = 0, message: str = "", details: bytes = b"") -> str:
        """The last word to a call: gRPC status, sentence, serialised google.rpc.Status. said or nobody."""

    def reset(self, name: int, code: int = ...) -> str:
        """Ends a call without a status: RST_STREAM."""

    def is_writable(self, name: int) -> bool:
        """Whether less than half of what the call may buffer waits."""

    def output(self, size_max: int = 65536, now_ns: int = 0) -> bytes:
        """Bytes to send; fewer than size_max: no more for now."""

    def events_of_output(self) -> list[Event]:
        """What the last outputs brought: writable, cancelled, over."""

    def drain(self, now_ns: int) -> None:
        """No new calls: a notice, and a round trip later the last word."""

    @property
    def want_write(self) -> bool:
        """Whether output has something to give."""

    @property
    def can_close(self) -> bool:
        """Whether all is said and nothing more would be answered."""

    @property
    def is_over(self) -> bool:
        """Whether `over` was told."""

    def memory(self) -> tuple[int, int]:
        """Bytes and blocks that the connection holds, nghttp2's included."""

    def stream_count(self) -> int:
        """Calls in the table."""

    def totals(self) -> dict[str, int | dict[str, int]]:
        """Counters, and `causes`: how connections and late calls ended."""

def echo_requests(connection: ServerConnection, requests: bytes) -> int:
    """Feeds single requests and answers each with its own message without Python in between; how many."""
