"""TLS of a grpcio listener, its certificates replaced while it serves, and who a client's certificate says it is.

The identity of a client is taken from its verified certificate, the first that there is of: SPIFFE id, URI, DNS name (each
from the subject alternative names), common name; of several of one kind the first in the certificate. Without mutual TLS
there is no identity: it is empty.

grpc is imported where a listener is made: the start of a broker needs the material long before (broker/app/broker.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import grpc

_IDENTITY_PROPERTIES = ("peer_spiffe_id", "peer_uri", "peer_dns", "x509_common_name")


class ServerTls(Protocol):
    """What a listener needs to know of its TLS."""

    @property
    def is_mutual(self) -> bool:
        """Whether clients must show a certificate."""

    def server_credentials(self) -> grpc.ServerCredentials:
        """What gRPC listens with."""


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
        import grpc

        pair = (self.private_key, self.certificate_chain)
        return grpc.ssl_server_credentials(
            [pair], root_certificates=self.client_ca, require_client_auth=self.is_mutual
        )


class RenewableTls:
    """Material that can be replaced while its listener serves: for connections to come. Any thread."""

    def __init__(self, material: TlsMaterial) -> None:
        self._lock = threading.Lock()
        self._material = material
        self._is_new = False

    @property
    def is_mutual(self) -> bool:
        """Whether clients must show a certificate: for good."""
        return self._material.is_mutual

    @property
    def material(self) -> TlsMaterial:
        """What connections are made from now."""
        return self._material

    def replace(self, material: TlsMaterial) -> None:
        """Makes the next connections from this; it must be as mutual as what it replaces."""
        assert material.is_mutual == self.is_mutual, "a listener asks for certificates or it does not"
        with self._lock:
            self._material, self._is_new = material, True

    def server_credentials(self) -> grpc.ServerCredentials:
        """What gRPC listens with; it asks at each connection whether there is something new."""
        import grpc

        first = _configuration(self._material)
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._newest,  # type: ignore[arg-type]  # None is allowed, and means that nothing is new
            require_client_authentication=self.is_mutual,
        )

    def _newest(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            is_new, self._is_new = self._is_new, False
            return _configuration(self._material) if is_new else None


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    import grpc

    pair = (material.private_key, material.certificate_chain)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=material.client_ca)


def identity_of(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """The identity in a verified client certificate. UNAUTHENTICATED if it names nobody."""
    for name in _IDENTITY_PROPERTIES:
        for value in auth_context.get(name, ()):
            if value:
                return value.decode("utf-8", "backslashreplace")
    from broker.verbs.errors import VerbError

    raise VerbError(
        "UNAUTHENTICATED",
        "IDENTITY_REQUIRED",
        "The client's certificate names nobody; it needs a subject alternative name (URI or DNS) or a common name.",
    )
