"""A throw-away certificate authority and a server's certificate for loopback, as PEM files."""

from __future__ import annotations

from pathlib import Path

import trustme

from loadtests.bench.servers import Tls


def loopback_tls(directory: Path) -> Tls:
    """Writes them: ECDSA P-256, as trustme makes them."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    files = Tls(directory / "server.pem", directory / "server-private.pem", directory / "authority.pem")
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(files.private_key)
    authority.cert_pem.write_to_path(files.authority)
    return files
