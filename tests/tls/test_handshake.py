"""Who gets in: versions, ALPN, client certificates, and what the refused are told."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from broker._tls import ServerContext, ServerTls
from broker.limits import LIMITS
from broker.model.tls import IdentityStatus, TlsError, TlsState
from tests.tls.peers import Client, Files, client_context, connected, feed_all, settle, write_all, write_leaf

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def error_of(server: ServerTls) -> TlsError | None:
    assert server.state == TlsState.FAILED
    return server.error.error if server.error else None


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_carry_bytes_both_ways_over_h2(
    context: ServerContext, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    server, client = connected(context, client_context(authority, version=version))
    assert (server.state, server.error, client.tls.selected_alpn_protocol()) == (TlsState.OPEN, None, "h2")
    assert server.version == client.tls.version()
    client.tls.write(b"question")
    assert settle(server, client) == b"question"
    client.incoming.write(write_all(server, b"answer"))
    assert client.read() == b"answer"


@pytest.mark.parametrize("version", VERSIONS)
def test_handshake_completes_byte_by_byte(context: ServerContext, authority: trustme.CA, version: ssl.TLSVersion) -> None:
    server, client = ServerTls(context), Client(client_context(authority, version=version))
    settle(server, client, piece_size=1)
    assert client.is_complete
    assert server.state == TlsState.OPEN


def test_smallest_buffers_suffice_for_a_handshake(mutual: ServerContext, authority: trustme.CA, client_files: Files) -> None:
    server = ServerTls(mutual, plain_size_max=1, output_size_max=LIMITS["TLS_OUTPUT_ROOM_MIN"])
    client = Client(client_context(authority, own=client_files))
    settle(server, client)
    client.tls.write(b"question")
    assert settle(server, client) == b"question"
    assert server.state == TlsState.OPEN


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_1_is_refused_with_the_reason(context: ServerContext, authority: trustme.CA) -> None:
    old = client_context(authority)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    server, client = connected(context, old)
    assert error_of(server) == TlsError.PROTOCOL
    assert server.error is not None
    assert server.error.reason == "unsupported protocol"
    assert client.error is not None
    assert client.error.reason == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_cipher_that_http2_forbids_finds_no_partner(context: ServerContext, authority: trustme.CA) -> None:
    weak = client_context(authority, version=ssl.TLSVersion.TLSv1_2)
    weak.set_ciphers("ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:AES128-GCM-SHA256")
    server, _ = connected(context, weak)
    assert error_of(server) == TlsError.PROTOCOL
    assert server.error is not None
    assert server.error.reason == "no shared cipher"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("protocols", [(), ("http/1.1",), ("h2c", "h3", "h")])
def test_client_without_h2_is_refused_by_the_alert_that_says_so(
    context: ServerContext, authority: trustme.CA, version: ssl.TLSVersion, protocols: tuple[str, ...]
) -> None:
    server, client = connected(context, client_context(authority, protocols=protocols, version=version))
    assert error_of(server) == TlsError.ALPN
    assert client.error is not None
    assert "no application protocol" in str(client.error)


def test_h2_is_found_among_other_protocols(context: ServerContext, authority: trustme.CA) -> None:
    server, client = connected(context, client_context(authority, protocols=("http/1.1", "grpc-exp", "h2")))
    assert server.state == TlsState.OPEN
    assert client.tls.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("version", VERSIONS)
def test_client_certificate_of_the_authority_gets_in_with_its_name(
    mutual: ServerContext, authority: trustme.CA, client_files: Files, version: ssl.TLSVersion
) -> None:
    server, _ = connected(mutual, client_context(authority, own=client_files, version=version))
    assert (server.state, server.identity_status, server.identity) == (TlsState.OPEN, IdentityStatus.NAMED, b"client.example")


@pytest.mark.parametrize("version", VERSIONS)
def test_client_without_a_certificate_is_refused(mutual: ServerContext, authority: trustme.CA, version: ssl.TLSVersion) -> None:
    server, client = connected(mutual, client_context(authority, version=version))
    client.read()
    assert error_of(server) == TlsError.CLIENT_CERTIFICATE
    assert server.error is not None
    assert server.error.reason == "peer did not return a certificate"
    assert client.error is not None


def test_client_certificate_of_a_foreign_authority_is_refused(
    mutual: ServerContext, authority: trustme.CA, foreign_authority: trustme.CA, tmp_path: Path
) -> None:
    foreign = write_leaf(foreign_authority.issue_cert("client.example"), tmp_path)
    server, client = connected(mutual, client_context(authority, own=foreign))
    client.read()
    assert error_of(server) == TlsError.CLIENT_CERTIFICATE
    assert server.error is not None
    assert server.error.reason == "unable to get local issuer certificate"
    assert (server.identity, server.identity_status) == (b"", IdentityStatus.NOT_ASKED)
    assert client.error is not None
    assert client.error.reason == "TLSV1_ALERT_UNKNOWN_CA"


def test_expired_client_certificate_is_refused(mutual: ServerContext, authority: trustme.CA, tmp_path: Path) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    expired = write_leaf(authority.issue_cert("client.example", not_before=yesterday - timedelta(days=1), not_after=yesterday), tmp_path)
    server, client = connected(mutual, client_context(authority, own=expired))
    client.read()
    assert error_of(server) == TlsError.CLIENT_CERTIFICATE
    assert server.error is not None
    assert server.error.reason == "certificate has expired"


def test_certificate_is_not_asked_for_without_a_client_authority(
    context: ServerContext, authority: trustme.CA, client_files: Files
) -> None:
    server, _ = connected(context, client_context(authority, own=client_files))
    assert (server.state, server.identity, server.identity_status) == (TlsState.OPEN, b"", IdentityStatus.NOT_ASKED)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_session_can_be_resumed(mutual: ServerContext, authority: trustme.CA, client_files: Files, version: ssl.TLSVersion) -> None:
    shared = client_context(authority, own=client_files, version=version)
    server, first = connected(mutual, shared)
    client_incoming, client_outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    settle(server, first)
    assert first.tls.session is None or not first.tls.session.has_ticket
    second = Client(shared)
    second.incoming, second.outgoing = client_incoming, client_outgoing
    second.tls = shared.wrap_bio(client_incoming, client_outgoing, server_hostname="localhost", session=first.tls.session)
    again = ServerTls(mutual)
    settle(again, second)
    assert (again.state, second.tls.session_reused, again.identity) == (TlsState.OPEN, False, b"client.example")


def test_client_that_refuses_our_certificate_leaves_its_reason(context: ServerContext, foreign_authority: trustme.CA) -> None:
    server, _ = connected(context, client_context(foreign_authority))
    assert error_of(server) == TlsError.ALERT
    assert server.error is not None
    assert "unknown ca" in server.error.reason


def test_plain_http_is_told_from_tls(context: ServerContext) -> None:
    server = ServerTls(context)
    server.feed(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert error_of(server) == TlsError.PROTOCOL
    assert server.error is not None
    assert server.error.reason == "http request"


def test_plain_http2_is_no_tls(context: ServerContext) -> None:
    server = ServerTls(context)
    server.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert error_of(server) == TlsError.PROTOCOL


def test_half_open_handshake_stays_where_it_is_and_can_be_dropped(context: ServerContext, authority: trustme.CA) -> None:
    client = Client(client_context(authority))
    client.shake()
    hello = client.outgoing.read()
    for cut in range(0, len(hello), 16):
        server = ServerTls(context)
        feed_all(server, hello[:cut])
        assert (server.state, server.output()) == (TlsState.HANDSHAKE, b"")
    server = ServerTls(context)
    feed_all(server, hello)
    assert server.state == TlsState.HANDSHAKE
    assert server.output()
    server.peer_gone()
    assert error_of(server) == TlsError.TRUNCATED
    del server
    assert context.connection_count == 0


def handshake_record(body: bytes) -> bytes:
    """A plain record of the handshake."""
    return b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body


def test_endless_handshake_meets_a_bound(context: ServerContext) -> None:
    server = ServerTls(context)
    message = b"\x01" + (131_000).to_bytes(3, "big")  # a ClientHello of nearly the size that OpenSSL allows
    for _ in range(2 * LIMITS["TLS_HANDSHAKE_SIZE_MAX"] // 1000):
        server.feed(handshake_record(message + b"\0" * 1000))
        message = b""
    assert server.state == TlsState.FAILED
    assert server.sizes.received <= LIMITS["TLS_HANDSHAKE_SIZE_MAX"] + 16384 + 5


def test_compressed_or_fragmented_nonsense_never_opens_a_connection(context: ServerContext) -> None:
    for kind in range(256):
        server = ServerTls(context)
        server.feed(bytes([kind]) + b"\x03\x03\x00\x04\x01\x00\x00\x00")
        assert server.state in (TlsState.HANDSHAKE, TlsState.FAILED)
        assert server.read() == b""
