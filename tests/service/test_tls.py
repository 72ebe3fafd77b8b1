"""TLS and mutual TLS of the client port: who gets in, and as whom."""

from __future__ import annotations

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import aio

from broker.service.tls import TlsMaterial, identity_of
from broker.verbs.errors import VerbError
from tests.service.running import CALL_S, client_server, fields_of
from tests.verbs.world import World, open_request


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def material(authority: trustme.CA, *, is_mutual: bool) -> TlsMaterial:
    leaf = authority.issue_cert("localhost")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return TlsMaterial(chain, leaf.private_key_pem.bytes(), authority.cert_pem.bytes() if is_mutual else None)


def credentials(authority: trustme.CA, leaf: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
    if leaf is None:
        return grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return grpc.ssl_channel_credentials(authority.cert_pem.bytes(), leaf.private_key_pem.bytes(), chain)


def certificate(authority: trustme.CA, common_name: str, names: list[x509.GeneralName]) -> grpc.ChannelCredentials:
    """Credentials with just these names, which trustme does not make."""
    own = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    issuer_private = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    subject = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(issuer.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.sign(issuer_private, hashes.SHA256())  # type: ignore[arg-type]
    private_pem = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(), private_pem, signed.public_bytes(serialization.Encoding.PEM)
    )


async def identity_seen(world: World, tls: TlsMaterial, who: grpc.ChannelCredentials) -> str:
    """The identity that the ledger keeps for a session opened so."""
    async with client_server(world, tls, who) as served:
        answer = await served.sessions.Open(open_request("platform"), timeout=CALL_S)
        session = world.ledger.find_session(world.clock(), world.ledger.session_fence(answer.grant.session_id))
        assert session is not None
        return session.identity.decode()


async def test_over_tls_without_certificates_of_clients_there_is_no_identity(authority: trustme.CA) -> None:
    world = World(seats={"platform": 1})
    assert await identity_seen(world, material(authority, is_mutual=False), credentials(authority)) == ""


async def test_the_name_in_a_client_certificate_is_the_identity(authority: trustme.CA) -> None:
    world = World(seats={"platform": 1})
    who = credentials(authority, authority.issue_cert("desk-1.example", common_name="somebody"))
    assert await identity_seen(world, material(authority, is_mutual=True), who) == "desk-1.example"


SPIFFE = x509.UniformResourceIdentifier("spiffe://site/desk-1")
URI = x509.UniformResourceIdentifier("https://site/desk-1")
DNS = [x509.DNSName("first.example"), x509.DNSName("second.example")]


@pytest.mark.parametrize(
    ("common_name", "names", "identity"),
    [
        ("cn", [*DNS, SPIFFE], "spiffe://site/desk-1"),
        ("cn", [*DNS, URI], "https://site/desk-1"),
        ("cn", DNS, "first.example"),
        ("just-a-cn", [], "just-a-cn"),
    ],
)
async def test_uri_goes_before_dns_before_common_name(
    authority: trustme.CA, common_name: str, names: list[x509.GeneralName], identity: str
) -> None:
    world = World(seats={"platform": 1})
    who = certificate(authority, common_name, names)
    assert await identity_seen(world, material(authority, is_mutual=True), who) == identity


async def test_a_certificate_that_names_nobody_is_unauthenticated(authority: trustme.CA) -> None:
    world = World(seats={"platform": 1})
    who = certificate(authority, "", [x509.RFC822Name("ann@example.org")])
    async with client_server(world, material(authority, is_mutual=True), who) as served:
        with pytest.raises(aio.AioRpcError) as error:
            await served.sessions.Open(open_request("platform"), timeout=CALL_S)
    assert fields_of(error.value)[:2] == (grpc.StatusCode.UNAUTHENTICATED, "IDENTITY_REQUIRED")


async def test_two_identities_never_share_a_request_id(authority: trustme.CA) -> None:
    world = World(seats={"platform": 5})
    request = open_request("platform")
    ids = set()
    for name in ("desk-1.example", "desk-2.example"):
        async with client_server(world, material(authority, is_mutual=True), credentials(authority, authority.issue_cert(name))) as served:
            ids.add((await served.sessions.Open(request, timeout=CALL_S)).grant.session_id)
    assert len(ids) == 2


@pytest.mark.parametrize("is_foreign", [False, True], ids=["no certificate", "another authority's certificate"])
async def test_mutual_tls_lets_nobody_else_in(authority: trustme.CA, is_foreign: bool) -> None:
    leaf = trustme.CA().issue_cert("desk-1.example") if is_foreign else None
    world = World(seats={"platform": 1})
    async with client_server(world, material(authority, is_mutual=True), credentials(authority, leaf)) as served:
        with pytest.raises(aio.AioRpcError) as error:
            await served.sessions.Open(open_request("platform"), timeout=CALL_S)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert world.ledger.counters().session_count == 0


def test_a_name_that_is_not_utf_8_still_tells_its_owner_apart() -> None:
    assert identity_of({"x509_common_name": [b"\xffann"]}) == "\\xffann"
    with pytest.raises(VerbError):
        identity_of({"peer_dns": [b""]})


def test_the_private_part_of_the_material_is_not_shown() -> None:
    assert "PRIVATE" not in repr(TlsMaterial(b"chain", b"-----BEGIN PRIVATE-----"))
