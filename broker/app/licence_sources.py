"""Whose licences are believed, and what a reload of them, and of the certificates, changed, in words.

The trust files of the configuration and, with emulation, that of the fleet's own test vendor are read as one. A test vendor is refused
where clients can connect from other machines, unless that is allowed in so many words (`semantics.md` 33).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from broker.app.config import Config
from broker.app.emulation import fleet_trust_files
from broker.errors import ConfigError, ConfigFault
from broker.licence import FolderReading, Licence, Refusal, TrustFile, TrustFileError


def read_trust(config: Config) -> TrustFile:
    """The trust in force. ConfigError names every fault; without any trust file nothing is believed, and that is no fault."""
    try:
        trust = TrustFile.load(*_trust_files(config))
    except TrustFileError as error:
        faults = (ConfigFault(config.source, "licences.trust", one, "correct the trust file") for one in error.faults)
        raise ConfigError(tuple(faults)) from None
    if trust.has_test_vendor and config.is_beyond_this_machine and not config.licences.allow_emulated:
        raise ConfigError((_emulated_fault(config, trust),))
    return trust


def _trust_files(config: Config) -> list[Path]:
    files = list(config.trust_files)
    if not config.licences.trust:
        files = [path for path in files if path.exists()]
    return files + (list(fleet_trust_files(config.data_dir)) if config.emulation.enabled else [])


def _emulated_fault(config: Config, trust: TrustFile) -> ConfigFault:
    names = ", ".join(sorted({entry.vendor for entry in trust.entries if entry.is_test}))
    return ConfigFault(
        config.source,
        "licences.trust",
        f"trusts a test vendor ({names}), whose EMULATED seats other machines could take",
        "remove it from the trust file, or write allow_emulated = true in [licences] for a test network",
    )


class Reloader:
    """Reads licences and certificates again while the broker runs. `read` is the keyring's own reload, `read_certificates` says
    what changed, a line each, or raises ConfigError. Any thread; one reload at a time."""

    def __init__(
        self,
        config: Config,
        read: Callable[[TrustFile], FolderReading],
        read_certificates: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._config = config
        self._read = read
        self._read_certificates = read_certificates
        self._reading = FolderReading()
        self._turn = threading.Lock()

    def begin(self, reading: FolderReading) -> None:
        """What the first reload is compared with."""
        self._reading = reading

    def reload(self) -> Sequence[str]:
        """What changed, a line each. ConfigError if a trust file or a certificate is wrong; then nothing has changed."""
        with self._turn:
            # What can be refused comes first: a licence that is wrong is left out and refuses nothing.
            trust = read_trust(self._config)
            renewed = self._read_certificates()
            reading = self._read(trust)
            before, self._reading = self._reading, reading
            return (*renewed, *changes(before, reading))


def changes(before: FolderReading, after: FolderReading) -> Iterator[str]:
    """The difference of two readings of a licence folder, in words."""
    old = {licence.digest: licence for licence in before.accepted}
    new = {licence.digest: licence for licence in after.accepted}
    yield from (f"new: {_described(licence)}" for digest, licence in new.items() if digest not in old)
    yield from (f"gone: {_described(licence)}" for digest, licence in old.items() if digest not in new)
    known = {_refused(one) for one in before.refused}
    yield from (f"refused: {_refused(one)}" for one in after.refused if _refused(one) not in known)


def _described(licence: Licence) -> str:
    return f"{licence.file}: licence {licence.licence_id}, {licence.seats} seats of {licence.product}"


def _refused(refusal: Refusal) -> str:
    return f"{refusal.file}: {refusal.sentence}" if refusal.file else refusal.sentence
