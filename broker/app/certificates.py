"""The certificates of the listeners: read and tried before anything is bound, and again whenever licences are.

A reload takes the files of all listeners or of none, and only connections to come see them. [http] is served by
a library that reads its files once: a change there is said, and waits for a restart. Any thread; one reload at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from broker.app.config import Config, TlsSettings
from broker.app.logs import facts
from broker.app.tls import read_tls
from broker.service.tls import RenewableTls, TlsMaterial

if TYPE_CHECKING:
    from broker._listener import ServerContext

log = logging.getLogger("broker.app")


class Certificates:
    """What the listeners of one broker make their connections from. ConfigError for files that are wrong."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._read = _read_all(config)
        self.native: ServerContext | None = _native_context(config.clients.tls) if config.clients.is_native else None
        """Of the client port, when the native data plane serves it with TLS."""
        self._grpc = {name: RenewableTls(one) for name, one in self._read.items() if name in self._names_of_grpc() and one}
        self._warn()

    def of(self, section: str) -> RenewableTls | None:
        """What a grpcio listener is secured with; None without TLS."""
        return self._grpc.get(section)

    def reload(self) -> list[str]:
        """Reads the files again: what changed, a line each. ConfigError if one is wrong; then nothing has changed."""
        now = _read_all(self._config)
        changed = [name for name, one in now.items() if one != self._read[name]]
        if self.native is not None and "clients" in changed:
            self.native.reload()  # the only step that can still fail
        for name in changed:
            fresh = now[name]
            if name in self._grpc and fresh is not None:
                self._grpc[name].replace(fresh)
        self._read = now
        if changed:
            self._warn()
        return list(self._sentences(changed))

    def _sentences(self, changed: list[str]) -> Iterator[str]:
        for name, listener in self._config.listeners():
            if name in changed and listener.tls is not None:
                when = "after a restart" if name == "http" else "for new connections"
                yield f"{name}.tls: {listener.tls.certificate} is read again, {when}"

    def _names_of_grpc(self) -> tuple[str, ...]:
        return ("admin",) if self._config.clients.is_native else ("clients", "admin")

    def _warn(self) -> None:
        for sentence in self.native.warnings if self.native is not None else ():
            log.warning("a certificate needs looking after", extra=facts(cause=sentence))


def _read_all(config: Config) -> dict[str, TlsMaterial | None]:
    return {name: read_tls(config.source, listener.tls, f"{name}.tls") for name, listener in config.listeners()}


def _native_context(settings: TlsSettings | None) -> ServerContext | None:
    if settings is None:
        return None
    from broker._listener import ServerContext

    return ServerContext(settings.certificate, settings.private_key, settings.client_ca)
