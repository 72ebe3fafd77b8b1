"""TLS of a listener, and who a client's certificate says it is.

The identity of a client is taken from its verified certificate, the first that there is of: SPIFFE id, URI, DNS name (each
from the subject alternative names), common name; of several of one kind the first in the certificate. Without mutual TLS
there is no identity: it is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc

from broker.verbs.errors import VerbError

_IDENTITY_PROPERTIES = ("peer_spiffe_id", "peer_uri", "peer_dns", "x509_common_name")


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """PEM bytes. With `client_ca` every client must show a certificate signed by it (mutual TLS)."""

    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    client_ca: bytes | None = None

    @property
    def is_mutual(self) -> bool:
        """Whether clients must show a certificate."""
        return self.client_ca is not None

    def server_credentials(self) -> grpc.ServerCredentials:
        """What gRPC listens with."""
        pair = (self.private_key, self.certificate_chain)
        return grpc.ssl_server_credentials(
            [pair], root_certificates=self.client_ca, require_client_auth=self.is_mutual
        )


def identity_of(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """The identity in a verified client certificate. UNAUTHENTICATED if it names nobody."""
    for name in _IDENTITY_PROPERTIES:
        for value in auth_context.get(name, ()):
            if value:
                return value.decode("utf-8", "backslashreplace")
    raise VerbError(
        "UNAUTHENTICATED",
        "IDENTITY_REQUIRED",
        "The client's certificate names nobody; it needs a subject alternative name (URI or DNS) or a common name.",
    )
