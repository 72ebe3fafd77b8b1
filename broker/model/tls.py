"""Words of a TLS connection: where it is, why it failed, what is known of its peer.

The numbers are those of ext/tls/tls_records.pxd; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class TlsState(IntEnum):
    """Where a connection is. Legal changes: `broker._tls.TRANSITIONS`."""

    HANDSHAKE = 1
    OPEN = 2
    PEER_CLOSED = 3
    """The peer has said close_notify; what we still have to say may be said."""
    OWN_CLOSED = 4
    """We have said close_notify; what the peer still says is read."""
    CLOSED = 5
    FAILED = 6


class TlsStep(IntEnum):
    """What moves a connection from state to state."""

    ESTABLISHED = 0
    PEER_CLOSE = 1
    OWN_CLOSE = 2
    GONE = 3
    FAULT = 4


class TlsError(IntEnum):
    """Why a connection failed."""

    PROTOCOL = 1
    """Bytes that are no TLS, a broken record, or no version or cipher in common with the peer."""
    ALPN = 2
    """The peer does not offer HTTP/2."""
    CLIENT_CERTIFICATE = 3
    """Absent, of a foreign authority, expired, or not for clients."""
    ALERT = 4
    """The peer gave up."""
    TRUNCATED = 5
    """The transport ended before a close_notify."""
    BOUND = 6
    """The handshake is larger than TLS_HANDSHAKE_SIZE_MAX."""
    MEMORY = 7
    INTERNAL = 8


class IdentityStatus(IntEnum):
    """What is known of who the peer is."""

    NOT_ASKED = 0
    NAMED = 1
    NAMELESS = 2
    """Its certificate is good but has no URI, DNS name or common name."""
    TOO_LONG = 3
    """Its name is longer than IDENTITY_SIZE_MAX bytes."""


@dataclass(frozen=True, slots=True)
class TlsFault:
    """Why a connection failed; `reason` is OpenSSL's text where it has one."""

    error: TlsError
    reason: str


@dataclass(frozen=True, slots=True)
class TlsSizes:
    """Bytes that a connection took and gave: `received` and `sent` on the wire, `read` and `written` in plain."""

    received: int
    sent: int
    read: int
    written: int
