"""TLS on the wire: clients with and without certificates, new certificates under load, and connections that end in bad ways."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import grpc
import pytest

from broker._listener import ServerContext
from broker.errors import ConfigError
from broker.v1 import sessions_pb2
from tests.hostile.attacker import Attacker
from tests.listener.harness import WAIT_S, Served, open_request, serving
from tests.support.certificates import CertificateFiles, TestAuthority


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path / "authority")


def credentials(authority: TestAuthority, client: CertificateFiles | None = None) -> grpc.ChannelCredentials:
    root = authority.ca.read_bytes()
    if client is None:
        return grpc.ssl_channel_credentials(root)
    return grpc.ssl_channel_credentials(root, client.private_key.read_bytes(), client.certificate.read_bytes())


def server_context(authority: TestAuthority, *, is_mutual: bool = False) -> ServerContext:
    files = authority.server()
    return ServerContext(files.certificate, files.private_key, authority.ca if is_mutual else None)


def shaken(served: Served, authority: TestAuthority) -> ssl.SSLSocket:
    """A connection of Python's ssl module, handshake done."""
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(served.connect(), server_hostname="localhost")


@pytest.mark.parametrize("thread_count", [1, 2])
def test_calls_over_tls_are_answered_on_many_connections(authority: TestAuthority, thread_count: int) -> None:
    with serving(tls=server_context(authority), thread_count=thread_count, seats={"platform": 50}) as served:
        stubs = [served.sessions(credentials(authority)) for _ in range(8)]
        ids = [stub.Open(open_request(), timeout=WAIT_S).grant.session_id for stub in stubs]
        futures = [
            stub.Renew.future(sessions_pb2.RenewRequest(session_id=ids[number % 8]), timeout=WAIT_S)
            for number in range(100) for stub in stubs
        ]  # fmt: skip
        assert {future.result().ttl.seconds for future in futures} == {60}
        assert served.counters().tls_handshakes == 8


def test_a_client_of_the_authority_is_let_in_and_scoped_by_its_name(authority: TestAuthority) -> None:
    with serving(tls=server_context(authority, is_mutual=True)) as served:
        request = open_request()
        mine = served.sessions(credentials(authority, authority.client("mine"))).Open(request, timeout=WAIT_S)
        again = served.sessions(credentials(authority, authority.client("mine"))).Open(request, timeout=WAIT_S)
        other = served.sessions(credentials(authority, authority.client("other"))).Open(request, timeout=WAIT_S)
        assert again.grant.session_id == mine.grant.session_id
        assert other.grant.session_id != mine.grant.session_id


def test_a_client_without_a_certificate_is_turned_away_where_one_is_asked_for(authority: TestAuthority) -> None:
    with serving(tls=server_context(authority, is_mutual=True)) as served:
        with pytest.raises(grpc.RpcError):
            served.sessions(credentials(authority)).Open(open_request(), timeout=WAIT_S)
        assert served.wait_until(lambda counters: counters.tls_failures["client_certificate"] > 0).tls_handshakes == 0


def test_new_certificates_are_for_new_connections_and_drop_none(authority: TestAuthority, tmp_path: Path) -> None:
    tls = server_context(authority)
    with serving(tls=tls, thread_count=2) as served:
        old = served.sessions(credentials(authority))
        session_id = old.Open(open_request(), timeout=WAIT_S).grant.session_id
        futures = []
        for _ in range(20):
            futures += [old.Renew.future(sessions_pb2.RenewRequest(session_id=session_id), timeout=WAIT_S) for _ in range(20)]
            authority.server()  # writes the same files anew
            tls.reload()
            with shaken(served, authority) as fresh:
                assert fresh.getpeercert()
        assert {future.result().ttl.seconds for future in futures} == {60}
        counters = served.wait_until(lambda counters: counters.connections == 1)
        assert counters.connections_accepted == 21
        Path(str(tls.certificate_path)).write_text("nothing")
        with pytest.raises(ConfigError):
            tls.reload()
        with shaken(served, authority):
            pass
        assert old.Renew(sessions_pb2.RenewRequest(session_id=session_id), timeout=WAIT_S).ttl.seconds == 60


def test_thousands_of_calls_over_tls_come_whole(authority: TestAuthority) -> None:
    with serving(tls=server_context(authority)) as served, shaken(served, authority) as connected:
        peer = Attacker(connected).begin()
        for _ in range(20):
            peer.send(b"".join(peer.call(b"\x0a" * 500) for _ in range(100)))
            last = peer.next_stream() - 2
            assert peer.hear(until_stream_ends=last).fields(last)["grpc-status"] == "3"


def test_one_that_says_close_notify_is_answered_and_heard_to_the_end(authority: TestAuthority) -> None:
    with serving(tls=server_context(authority)) as served:
        connected = shaken(served, authority)
        peer = Attacker(connected).begin()
        peer.send(peer.call())
        assert peer.hear(until_stream_ends=1).fields(1)["grpc-status"] == "3"
        connected.unwrap().close()
        counters = served.wait_until(lambda counters: counters.connections == 0)
        assert sum(counters.tls_failures.values()) == 0


def test_plain_http2_on_a_tls_port_is_a_failure_with_a_name(authority: TestAuthority) -> None:
    with serving(tls=server_context(authority)) as served:
        with served.connect() as connected:
            Attacker(connected).begin()
            assert is_ended(connected)
        assert served.wait_until(lambda counters: counters.connections == 0).tls_failures["protocol"] == 1


def test_a_peer_that_vanishes_in_the_handshake_is_forgotten(authority: TestAuthority) -> None:
    with serving(tls=server_context(authority)) as served:
        with served.connect() as connected:
            connected.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
            served.wait_until(lambda counters: counters.bytes_received == 7)
        counters = served.wait_until(lambda counters: counters.connections == 0 and counters.connections_accepted == 1)
        assert counters.tls_failures["truncated"] == 1


def is_ended(connected: socket.socket) -> bool:
    """Whether the server ends the connection; waits for it."""
    while True:
        try:
            if not connected.recv(65536):
                return True
        except ConnectionError:
            return True
