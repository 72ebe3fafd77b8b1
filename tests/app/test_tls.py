"""Certificate files: each way to name a wrong one is a fault with its entry."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from broker.app.config import TlsSettings
from broker.app.tls import read_tls
from broker.errors import ConfigError
from tests.support.certificates import TestAuthority


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority(tmp_path / "certificates")


def fault_of(settings: TlsSettings) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        read_tls("usher.toml", settings, "clients.tls")
    (fault,) = caught.value.faults
    assert fault.remedy
    return fault.dotted, fault.reason


def test_no_table_is_no_tls() -> None:
    assert read_tls("usher.toml", None) is None


def test_files_are_read_whole(authority: TestAuthority) -> None:
    files = authority.server()
    material = read_tls("usher.toml", TlsSettings(files.certificate, files.private_key, authority.ca))
    assert material is not None
    assert material.certificate_chain == files.certificate.read_bytes()
    assert material.private_key == files.private_key.read_bytes()
    assert material.client_ca == authority.ca.read_bytes()


def test_missing_file_is_named(authority: TestAuthority, tmp_path: Path) -> None:
    files = authority.server()
    dotted, reason = fault_of(TlsSettings(tmp_path / "none.pem", files.private_key))
    assert dotted == "clients.tls.certificate"
    assert reason.endswith("none.pem cannot be read: No such file or directory")


def test_private_key_of_another_certificate_is_found_out(authority: TestAuthority) -> None:
    dotted, reason = fault_of(TlsSettings(authority.server().certificate, authority.client("a").private_key))
    assert dotted == "clients.tls.private_key"
    assert "do not make a usable pair: KEY_VALUES_MISMATCH" in reason


def test_encrypted_private_key_is_refused_without_asking_anybody(authority: TestAuthority, tmp_path: Path) -> None:
    files = authority.server()
    loaded = load_pem_private_key(files.private_key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    dotted, reason = fault_of(TlsSettings(files.certificate, encrypted))
    assert dotted == "clients.tls.private_key"
    assert "encrypted" in reason


def test_client_authority_that_is_none_is_refused(authority: TestAuthority, tmp_path: Path) -> None:
    files = authority.server()
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    dotted, reason = fault_of(TlsSettings(files.certificate, files.private_key, rubbish))
    assert dotted == "clients.tls.client_ca"
    assert "holds no certificate authority" in reason


def test_private_key_is_not_in_the_repr(authority: TestAuthority) -> None:
    files = authority.server()
    material = read_tls("usher.toml", TlsSettings(files.certificate, files.private_key))
    assert "PRIVATE" not in repr(material)
