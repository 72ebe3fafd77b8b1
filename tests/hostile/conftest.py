"""The listeners under siege: one plaintext and one with mutual TLS for the whole run, with short patience."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import grpc
import pytest

from broker._listener import ServerContext
from tests.hostile.siege import Siege, besiege, no_tls, tls
from tests.listener.harness import MS, S, serving
from tests.support.certificates import TestAuthority

PATIENCE = {"handshake_ns": 1 * S, "headers_ns": 600 * MS, "body_ns": 600 * MS, "write_ns": 400 * MS, "connections_max": 3000}


@pytest.fixture(scope="session")
def plain_siege() -> Iterator[Siege]:
    """Plaintext."""
    with serving(seats={"platform": 5}, **PATIENCE) as served:
        yield besiege(served, no_tls, served.sessions())


@pytest.fixture(scope="session")
def mutual_siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    """Mutual TLS; the attacker has a good certificate."""
    authority = TestAuthority(tmp_path_factory.mktemp("hostile"))
    server, client = authority.server(), authority.client("attacker.example")
    credentials = grpc.ssl_channel_credentials(
        authority.ca.read_bytes(), client.private_key.read_bytes(), client.certificate.read_bytes()
    )
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.load_cert_chain(client.certificate, client.private_key)
    context.set_alpn_protocols(["h2"])
    server_tls = ServerContext(server.certificate, server.private_key, authority.ca)
    with serving(seats={"platform": 5}, tls=server_tls, **PATIENCE) as served:
        yield besiege(served, tls(context), served.sessions(credentials))


@pytest.fixture(params=["plaintext", "mutual TLS"])
def siege(request: pytest.FixtureRequest) -> Siege:
    """Both, one after the other."""
    found: Siege = request.getfixturevalue("plain_siege" if request.param == "plaintext" else "mutual_siege")
    return found
