"""Clients of a TLS connection under test: Python's ssl module over memory, certificates of every kind, and the wire between."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from broker._tls import ServerContext, ServerTls

ROUNDS_MAX = 10_000
"""More than any exchange here needs: a wire that still moves bytes then moves them for ever."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where a certificate chain and its private key lie."""

    certificate: Path
    private_key: Path


def write_leaf(leaf: trustme.LeafCert, folder: Path, name: str = "leaf") -> Files:
    """The leaf as two PEM files."""
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    files = Files(folder / f"{name}.pem", folder / f"{name}-private.pem")
    files.certificate.write_bytes(chain)
    files.private_key.write_bytes(leaf.private_key_pem.bytes())
    return files


def write_certificate(
    authority: trustme.CA, folder: Path, subject: Sequence[str] = (), names: Sequence[x509.GeneralName] = (), *, not_after: datetime | None = None
) -> Files:
    """A certificate with just these common names and alternative names, which trustme does not make."""
    own = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    issuer_private = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, one) for one in subject]))
        .issuer_name(issuer.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(not_after or issuer.not_valid_after_utc)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.sign(issuer_private, hashes.SHA256())  # type: ignore[arg-type]
    files = Files(folder / "special.pem", folder / "special-private.pem")
    files.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    files.private_key.write_bytes(
        own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def client_context(
    authority: trustme.CA, *, own: Files | None = None, protocols: Sequence[str] = ("h2",), version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """What a client connects with: trusts the authority, offers these protocols, speaks only this version if one is given."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if own is not None:
        context.load_cert_chain(own.certificate, own.private_key)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class Client:
    """Python's ssl module, reading from and writing into memory."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.error: ssl.SSLError | None = None
        self.is_complete = False
        self.is_closed = False

    def shake(self) -> None:
        """Goes on with the handshake as far as the bytes allow."""
        if self.is_complete or self.error is not None:
            return
        try:
            self.tls.do_handshake()
            self.is_complete = True
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except ssl.SSLError as error:
            self.error = error

    def read(self) -> bytes:
        """Plain bytes that have arrived; an alert of the server is kept as `error`."""
        found = bytearray()
        try:
            while part := self.tls.read(65536):
                found += part
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_closed = True
        except ssl.SSLError as error:
            self.error = error
        return bytes(found)


def feed_all(server: ServerTls, cipher: bytes, piece_size: int = 65536) -> bytes:
    """Feeds in pieces, reading and taking output as a listener would when it is at a bound; the plain bytes."""
    plain, pending = bytearray(), bytearray()
    for start in range(0, max(len(cipher), 1), piece_size):
        pending += cipher[start : start + piece_size]
        for _ in range(ROUNDS_MAX):
            taken = server.feed(bytes(pending))
            del pending[:taken]
            part = server.read()
            plain += part
            if not pending and not part:
                break
    assert not pending, "the server takes no more"
    return bytes(plain)


def settle(server: ServerTls, client: Client, piece_size: int = 65536) -> bytes:
    """Moves bytes both ways until there are none; what the server read meanwhile."""
    plain = bytearray()
    for _ in range(ROUNDS_MAX):
        client.shake()
        to_server = client.outgoing.read()
        plain += feed_all(server, to_server, piece_size)
        to_client = server.output()
        client.incoming.write(to_client)
        if not to_server and not to_client:
            return bytes(plain)
    raise AssertionError("the two go on for ever")


def connected(context: ServerContext, client: ssl.SSLContext) -> tuple[ServerTls, Client]:
    """Both ends, after as much of a handshake as they agree on."""
    pair = ServerTls(context), Client(client)
    settle(*pair)
    return pair


def write_all(server: ServerTls, plain: bytes) -> bytes:
    """The wire's bytes of a text of any size."""
    cipher = bytearray()
    while plain:
        taken = server.write(plain)
        out = server.output()
        assert taken or out, "the server neither takes nor gives"
        cipher += out
        plain = plain[taken:]
    return bytes(cipher)
