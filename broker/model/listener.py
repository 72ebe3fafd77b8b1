"""What the data plane's listener counts: plain values, summed over its loops, read at any time from any thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Calls of one method that ended one way. `bucket_counts` as in the histograms of the requests: not cumulative."""

    bucket_counts: tuple[int, ...]
    sum_ns: int


@dataclass(frozen=True, slots=True)
class ListenerCounters:
    """Everything that a listener counts. `calls` by (method, outcome), such as ("Sessions/Open", "granted"); pairs that
    never came are left out."""

    calls: Mapping[tuple[str, str], CallCounts]
    connections: int
    """Open now."""
    connections_accepted: int
    connections_closed: int
    streams: int
    """Calls begun."""
    streams_refused: int
    messages_received: int
    messages_sent: int
    bytes_received: int
    bytes_sent: int
    goaways_sent: int
    """Last words, not the notices before them."""
    goaways_received: int
    tls_handshakes: int
    tls_failures: Mapping[str, int]
    """By the name of the TlsError, in small letters; always every name."""
    refused: Mapping[str, int]
    """Connections ended or not taken, and calls cut, by the bound that they broke. Always every name:

    connections (beyond connections_max), accept (no descriptor or memory to take it), memory, handshake (TLS), preface_late,
    headers_late, late (calls: body or deadline), idle, write (nothing taken), pings, settings, resets, noise (frames that move
    nothing), continuations, headers (header list), queue (answers provoked and not read), protocol (no HTTP/2).
    """
    batches: int
    batched_commands: int
    held_answers: int
    """Waiting for the committer."""
    held_size: int
    held_full_count: int
    """Times that the bound of held answers was reached: until something was committed nobody was read from."""
    keep_alive_streams: int
    """Open now."""
    watched_sessions: int
    notices: int
    rounds: int
