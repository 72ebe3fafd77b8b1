"""Certificate files of a listener, read and tried before it opens: a wrong one is a fault of the configuration, with its entry.

grpc and uvicorn would only fail at the first connection, and with a line that names no file. Encrypted private keys are refused: nobody
is there to type a passphrase. Who reads them again, and when: `certificates.py`.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from broker.app.config import TlsSettings
from broker.errors import ConfigError, ConfigFault
from broker.service.tls import TlsMaterial

PEM_SIZE_MAX = 1 << 20


def read_tls(source: str, settings: TlsSettings | None, section: str = "tls") -> TlsMaterial | None:
    """The files of a listener's `tls` table; None without one. ConfigError names the entry that is wrong."""
    if settings is None:
        return None
    assert settings.certificate, "config_file refuses a table without it"
    assert settings.private_key, "config_file refuses a table without it"
    certificate = _read(source, f"{section}.certificate", settings.certificate)
    private_key = _read(source, f"{section}.private_key", settings.private_key)
    client_ca = _read(source, f"{section}.client_ca", settings.client_ca) if settings.client_ca else None
    _try(source, section, settings, settings.certificate, settings.private_key)
    return TlsMaterial(certificate, private_key, client_ca)


def _try(source: str, section: str, settings: TlsSettings, certificate: Path, private_key: Path) -> None:
    """Loads the files as a server would."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, private_key, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        reason = f"{certificate} and {private_key} do not make a usable pair: {_words(error)}"
        remedy = "name a PEM certificate chain and its own unencrypted private key"
        raise ConfigError((ConfigFault(source, f"{section}.private_key", reason, remedy),)) from None
    if settings.client_ca:
        try:
            context.load_verify_locations(settings.client_ca)
        except ssl.SSLError as error:
            reason = f"{settings.client_ca} holds no certificate authority: {_words(error)}"
            raise ConfigError((ConfigFault(source, f"{section}.client_ca", reason, "name a PEM certificate"),)) from None


def _no_passphrase() -> str:
    raise ValueError("the private key is encrypted")


def _words(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)


def _read(source: str, dotted: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(PEM_SIZE_MAX + 1)
    except OSError as error:
        reason = f"{path} cannot be read: {error.strerror}"
        raise ConfigError((ConfigFault(source, dotted, reason, "the broker's user needs the right to read it"),)) from None
    if len(data) > PEM_SIZE_MAX:
        raise ConfigError((ConfigFault(source, dotted, f"{path} is larger than 1 MiB", "is it the right file?"),))
    return data
