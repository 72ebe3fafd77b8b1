"""Who a caller is over mutual TLS: the name in its certificate scopes its requests; one that names nobody opens nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography import x509
from google.protobuf.duration_pb2 import Duration

from broker._ledger import LIMITS
from broker._listener import ServerContext
from broker.v1 import sessions_pb2, sessions_pb2_grpc
from tests.listener.harness import Served, serving
from tests.listener.test_service import CALL_S, FIELD, INVALID, Refusal, refusal
from tests.service.test_tls import certificate, credentials
from tests.verbs.world import open_request

NOBODY = [x509.RFC822Name("ann@example.org")]
UNAUTHENTICATED: Refusal = (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_REQUIRED", {})
TOO_LONG = [x509.UniformResourceIdentifier("https://site/" + "d" * LIMITS["IDENTITY_SIZE_MAX"])]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def serving_tls(authority: trustme.CA, folder: Path, *, is_mutual: bool = True) -> Iterator[Served]:
    """Two seats of platform behind TLS."""
    leaf = authority.issue_cert("localhost")
    chain, own, ca = folder / "chain.pem", folder / "own.pem", folder / "ca.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    own.write_bytes(leaf.private_key_pem.bytes())
    ca.write_bytes(authority.cert_pem.bytes())
    with serving(seats={"platform": 2}, tls=ServerContext(chain, own, ca if is_mutual else None)) as served:
        yield served


def stub_of(served: Served, who: grpc.ChannelCredentials) -> Any:
    return sessions_pb2_grpc.SessionsStub(served.channel(who))


def identities(served: Served) -> list[bytes]:
    sessions, _ = served.ledger.sessions(0)
    return [session.identity for session in sessions]


def test_the_name_in_the_certificate_is_the_identity_of_the_session(authority: trustme.CA, tmp_path: Path) -> None:
    with serving_tls(authority, tmp_path) as served:
        stub = stub_of(served, credentials(authority, authority.issue_cert("desk-1.example")))
        assert stub.Open(open_request("platform"), timeout=CALL_S).HasField("grant")
        assert identities(served) == [b"desk-1.example"]


def test_over_tls_that_asks_for_no_certificate_there_is_no_identity(authority: trustme.CA, tmp_path: Path) -> None:
    with serving_tls(authority, tmp_path, is_mutual=False) as served:
        stub = stub_of(served, credentials(authority))
        assert stub.Open(open_request("platform"), timeout=CALL_S).HasField("grant")
        assert identities(served) == [b""]


def test_two_identities_never_share_a_request_id(authority: trustme.CA, tmp_path: Path) -> None:
    request = open_request("platform")
    with serving_tls(authority, tmp_path) as served:
        stubs = [stub_of(served, credentials(authority, authority.issue_cert(f"desk-{i}.example"))) for i in range(2)]
        ids = {stub.Open(request, timeout=CALL_S).grant.session_id for stub in stubs for _ in range(2)}
    assert len(ids) == 2


def test_a_certificate_that_names_nobody_opens_nothing_and_may_all_else(authority: trustme.CA, tmp_path: Path) -> None:
    with serving_tls(authority, tmp_path) as served:
        session_id = stub_of(served, credentials(authority, authority.issue_cert("a.example"))).Open(
            open_request("platform"), timeout=CALL_S
        ).grant.session_id
        stub = stub_of(served, certificate(authority, "", list(NOBODY)))
        for request in (open_request("platform"), open_request("platform", user=""), open_request("platform", request_id=b"")):
            assert refusal(partial(stub.Open, request, timeout=CALL_S)) == UNAUTHENTICATED
        assert stub.Renew(sessions_pb2.RenewRequest(session_id=session_id), timeout=CALL_S).ttl.seconds == 60
        assert served.ledger.counters().session_count == 1


def test_bytes_that_are_no_message_come_before_the_lack_of_a_name(authority: trustme.CA, tmp_path: Path) -> None:
    with serving_tls(authority, tmp_path) as served:
        channel: Any = served.channel(certificate(authority, "", list(NOBODY)))
        call = partial(channel.unary_unary("/broker.v1.Sessions/Open"), b"\x07", timeout=CALL_S)
        assert refusal(call) == (INVALID, FIELD, {"field": "message"})


def test_a_name_that_is_too_long_is_refused_behind_the_faults_of_the_request(authority: trustme.CA, tmp_path: Path) -> None:
    with serving_tls(authority, tmp_path) as served:
        stub = stub_of(served, certificate(authority, "", list(TOO_LONG)))
        assert refusal(lambda: stub.Open(open_request("platform"), timeout=CALL_S)) == UNAUTHENTICATED
        faulty = open_request("platform", user="")
        assert refusal(lambda: stub.Open(faulty, timeout=CALL_S)) == (INVALID, FIELD, {"field": "holder.user"})
        waiting = open_request("platform", wait_limit=Duration(seconds=1))
        assert stub.Open(waiting, timeout=CALL_S).HasField("denial")  # it is not asked who would wait
        assert served.ledger.counters().session_count == 0
        calls = served.counters().calls
        assert sum(calls["Sessions/Open", "unauthenticated"].bucket_counts) == 1
        assert sum(calls["Sessions/Open", "invalid"].bucket_counts) == 1
