"""Bytes in and bytes out: large, split, cut off, changed and random ones, and the bounds of what is held."""

from __future__ import annotations

import random
import socket
import ssl
from itertools import cycle
from threading import Thread

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker._tls import ServerContext, ServerTls
from broker.limits import LIMITS
from broker.model.tls import TlsError, TlsState
from tests.tls.peers import Client, Files, client_context, connected, feed_all, settle, write_all

FEW = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

LARGE_SIZE = 3_000_000

SOCKET_S = 20.0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_large_transfers_arrive_whole_both_ways(context: ServerContext, authority: trustme.CA, version: ssl.TLSVersion) -> None:
    server, client = connected(context, client_context(authority, version=version))
    text = random.Random(1).randbytes(LARGE_SIZE)
    client.tls.write(text)
    assert feed_all(server, client.outgoing.read(), piece_size=40_000) == text
    client.incoming.write(write_all(server, text))
    assert client.read() == text
    assert (server.sizes.read, server.sizes.written) == (LARGE_SIZE, LARGE_SIZE)


@FEW
@given(
    text=st.binary(max_size=20_000),
    pieces=st.lists(st.integers(1, 20_000), min_size=1, max_size=20),
    plain_size_max=st.sampled_from([1, 100, 16_384, 65_536]),
    output_size_max=st.sampled_from([512, 600, 16_384, 65_536]),
    version=st.sampled_from([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]),
)
def test_any_split_and_any_buffers_give_the_same_bytes(
    context: ServerContext, authority: trustme.CA, text: bytes, pieces: list[int], plain_size_max: int, output_size_max: int, version: ssl.TLSVersion
) -> None:
    text = text[: 200 * plain_size_max]
    server = ServerTls(context, plain_size_max=plain_size_max, output_size_max=output_size_max)
    client = Client(client_context(authority, version=version))
    settle(server, client)
    client.tls.write(text)
    cipher, found, start = client.outgoing.read(), b"", 0
    for size in cycle(pieces):
        found += feed_all(server, cipher[start : start + size])
        start += size
        if start >= len(cipher):
            break
    assert found == text
    client.incoming.write(write_all(server, text))
    assert client.read() == text


def test_unread_bytes_hold_back_the_wire(context: ServerContext, authority: trustme.CA) -> None:
    server = ServerTls(context, plain_size_max=1000)
    client = Client(client_context(authority))
    settle(server, client)
    client.tls.write(b"x" * 500_000)
    cipher = client.outgoing.read()
    taken = server.feed(cipher)
    assert taken < 20_000, "no more than the record that fills the buffer"
    assert server.feed(cipher[taken:]) == 0
    assert len(server.read()) == 1000


def test_output_that_is_not_taken_holds_back_writing(context: ServerContext, authority: trustme.CA) -> None:
    server = ServerTls(context, output_size_max=20_000)
    client = Client(client_context(authority))
    settle(server, client)
    first = server.write(b"x" * 500_000)
    assert 18_000 < first < 20_000
    assert server.write(b"x" * (500_000 - first)) == 0
    assert not server.close(), "there is no room for the close_notify either"
    client.incoming.write(server.output())
    assert len(client.read()) == first
    assert server.close()


def test_nothing_is_written_before_the_handshake_is_complete(context: ServerContext) -> None:
    server = ServerTls(context)
    assert (server.write(b"too early"), server.output()) == (0, b"")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_truncated_record_gives_nothing_and_is_an_error_when_the_peer_is_gone(
    context: ServerContext, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    server, client = connected(context, client_context(authority, version=version))
    client.tls.write(b"question")
    record = client.outgoing.read()
    for byte in record[:-1]:
        assert server.feed(bytes([byte])) == 1
    assert (server.read(), server.state) == (b"", TlsState.OPEN)
    server.peer_gone()
    assert server.error is not None
    assert (server.state, server.error.error) == (TlsState.FAILED, TlsError.TRUNCATED)
    assert server.feed(record[-1:]) == 1
    assert server.read() == b"", "what comes after a fault is thrown away"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_one_changed_bit_in_a_record_ends_the_connection(
    context: ServerContext, authority: trustme.CA, version: ssl.TLSVersion
) -> None:
    server, client = connected(context, client_context(authority, version=version))
    client.tls.write(b"question")
    record = bytearray(client.outgoing.read())
    record[-1] ^= 1
    server.feed(bytes(record))
    assert (server.state, server.read()) == (TlsState.FAILED, b"")
    assert server.error is not None
    assert (server.error.error, server.error.reason) == (TlsError.PROTOCOL, "decryption failed or bad record mac")
    client.incoming.write(server.output())
    client.read()
    assert client.error is not None
    assert "BAD_RECORD_MAC" in (client.error.reason or "")


@FEW
@given(st.lists(st.binary(max_size=2000), max_size=10))
def test_random_bytes_never_open_a_connection(context: ServerContext, parts: list[bytes]) -> None:
    server = ServerTls(context)
    for part in parts:
        assert server.feed(part) == len(part)
        assert server.state in (TlsState.HANDSHAKE, TlsState.FAILED)
        assert len(server.output()) <= LIMITS["TLS_OUTPUT_ROOM_MIN"]
    assert (server.read(), server.write(b"x"), server.identity) == (b"", 0, b"")


@FEW
@given(data=st.data())
def test_changed_handshakes_never_open_a_connection_that_the_client_does_not_share(
    mutual: ServerContext, authority: trustme.CA, data: st.DataObject
) -> None:
    client = Client(client_context(authority))
    client.shake()
    hello = bytearray(client.outgoing.read())
    for _ in range(data.draw(st.integers(1, 8))):
        hello[data.draw(st.integers(0, len(hello) - 1))] = data.draw(st.integers(0, 255))
    server = ServerTls(mutual)
    feed_all(server, bytes(hello))
    client.incoming.write(server.output())
    settle(server, client)
    assert server.state in (TlsState.HANDSHAKE, TlsState.FAILED), "and this client has no certificate"


@FEW
@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5))
def test_random_bytes_on_an_open_connection_end_it_or_wait_for_more(
    context: ServerContext, authority: trustme.CA, parts: list[bytes]
) -> None:
    server, _ = connected(context, client_context(authority))
    for part in parts:
        assert server.feed(part) == len(part)
    assert server.read() == b""
    assert server.state in (TlsState.OPEN, TlsState.FAILED)


def serve_echo(context: ServerContext, listening: socket.socket) -> None:
    """One connection on a real socket: sends back what it reads, until the peer closes."""
    connection, _ = listening.accept()
    connection.settimeout(SOCKET_S)
    with connection:
        server = ServerTls(context)
        while server.state in (TlsState.HANDSHAKE, TlsState.OPEN):
            cipher = connection.recv(65536)
            if not cipher:
                server.peer_gone()
                break
            plain = feed_all(server, cipher)
            connection.sendall(server.output() + write_all(server, plain))
        server.close()
        connection.sendall(server.output())


def test_python_client_echoes_over_real_sockets(mutual: ServerContext, authority: trustme.CA, client_files: Files) -> None:
    text = random.Random(2).randbytes(200_000)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(SOCKET_S)
        thread = Thread(target=serve_echo, args=(mutual, listening))
        thread.start()
        plain = socket.create_connection(listening.getsockname(), SOCKET_S)
        with client_context(authority, own=client_files).wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
            found = bytearray()
            for start in range(0, len(text), 10_000):
                tls.sendall(text[start : start + 10_000])
                while len(found) < start + 10_000:
                    found += tls.recv(65536)
            assert bytes(found) == text
            tls.unwrap()
        thread.join(SOCKET_S)
    assert not thread.is_alive()
    assert mutual.connection_count == 0
