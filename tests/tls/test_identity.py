"""Who a certificate says it is: the same as through gRPC and broker.service.tls, for certificates of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography import x509

from broker._tls import ServerContext
from broker.limits import LIMITS
from broker.model.tls import IdentityStatus, TlsState
from broker.service.tls import identity_of
from broker.verbs.errors import VerbError
from tests.tls.peers import Files, client_context, connected, write_certificate

CALL_S = 10.0

URI, DNS = x509.UniformResourceIdentifier, x509.DNSName

CERTIFICATES: dict[str, tuple[list[str], list[x509.GeneralName], bytes]] = {
    "SPIFFE id before all else": (["common"], [DNS("a.example"), URI("spiffe://site/crm")], b"spiffe://site/crm"),
    "first of several URIs": (["common"], [URI("https://one"), URI("spiffe://site/two")], b"https://one"),
    "URI before DNS name": ([], [DNS("a.example"), URI("urn:app:7")], b"urn:app:7"),
    "first of several DNS names": (["common"], [DNS("a.example"), DNS("b.example")], b"a.example"),
    "an empty DNS name is passed over": (["common"], [DNS(""), DNS("b.example")], b"b.example"),
    "other kinds name nobody": (["common"], [x509.RFC822Name("ann@a.example")], b"common"),
    "common name": (["ann"], [], b"ann"),
    "common name in UTF-8": (["Анна"], [], "Анна".encode()),
    "first of several common names": (["ann", "bob"], [], b"ann"),
    "nobody": ([], [], b""),
}


@pytest.fixture(scope="module")
def through_grpc(authority: trustme.CA, server_files: Files) -> Iterator[Callable[[Files], bytes]]:
    """What broker.service.tls makes of a client's certificate, by a gRPC server on a free port."""

    def identify(_request: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            auth_context: Any = context.auth_context()  # typeshed says bytes where there are lists of bytes
            return identity_of(auth_context).encode()
        except VerbError:
            return b""

    server = grpc.server(ThreadPoolExecutor(1))
    methods: dict[str, Any] = {"Identify": grpc.unary_unary_rpc_method_handler(identify)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", methods),))
    pair = (server_files.private_key.read_bytes(), server_files.certificate.read_bytes())
    credentials = grpc.ssl_server_credentials([pair], authority.cert_pem.bytes(), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()

    def ask(own: Files) -> bytes:
        credentials = grpc.ssl_channel_credentials(
            authority.cert_pem.bytes(), own.private_key.read_bytes(), own.certificate.read_bytes()
        )
        options = [("grpc.ssl_target_name_override", "localhost")]
        with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
            identify: Any = channel.unary_unary("/test/Identify")
            answer: bytes = identify(b"", timeout=CALL_S)
            return answer

    yield ask
    server.stop(None)


@pytest.mark.parametrize("name", CERTIFICATES)
def test_identity_is_that_of_the_service_over_grpc(
    name: str, mutual: ServerContext, authority: trustme.CA, tmp_path: Path, through_grpc: Callable[[Files], bytes]
) -> None:
    subject, names, expected = CERTIFICATES[name]
    own = write_certificate(authority, tmp_path, subject, names)
    server, _ = connected(mutual, client_context(authority, own=own))
    assert server.state == TlsState.OPEN
    assert server.identity == expected
    assert server.identity_status == (IdentityStatus.NAMED if expected else IdentityStatus.NAMELESS)
    assert through_grpc(own) == expected


def test_longest_name_fits_and_one_byte_more_is_told(mutual: ServerContext, authority: trustme.CA, tmp_path: Path) -> None:
    size_max = LIMITS["IDENTITY_SIZE_MAX"]
    longest = "urn:" + "x" * (size_max - 4)
    server, _ = connected(mutual, client_context(authority, own=write_certificate(authority, tmp_path, [], [URI(longest)])))
    assert (server.identity, server.identity_status) == (longest.encode(), IdentityStatus.NAMED)
    own = write_certificate(authority, tmp_path, ["ann"], [URI(longest + "x")])
    server, _ = connected(mutual, client_context(authority, own=own))
    assert (server.state, server.identity, server.identity_status) == (TlsState.OPEN, b"", IdentityStatus.TOO_LONG)
