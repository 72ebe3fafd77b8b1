"""Certificates for TLS tests: one throw-away authority, servers and clients signed by it."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where one party's certificate chain and private key lie (PEM)."""

    certificate: Path
    private_key: Path


class TestAuthority:
    """A certificate authority in a directory; `ca` is its own certificate (PEM)."""

    __test__ = False

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._authority = trustme.CA()
        self.ca = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)

    def server(self, *names: str) -> CertificateFiles:
        """A certificate for a server; for localhost and 127.0.0.1 unless named."""
        return self._write("server", self._authority.issue_cert(*(names or ("localhost", "127.0.0.1"))))

    def client(self, identity: str) -> CertificateFiles:
        """A certificate for a client whose DNS name is its identity."""
        return self._write(f"client-{identity}", self._authority.issue_cert(identity, common_name=identity))

    def server_tls(self, *, is_mutual: bool = False) -> dict[str, str]:
        """The `tls` table of a listener's configuration."""
        files = self.server()
        table = {"certificate": str(files.certificate), "private_key": str(files.private_key)}
        return table | ({"client_ca": str(self.ca)} if is_mutual else {})

    def _write(self, name: str, leaf: trustme.LeafCert) -> CertificateFiles:
        files = CertificateFiles(self._directory / f"{name}.pem", self._directory / f"{name}-private.pem")
        files.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(files.private_key)
        return files
