"""Every setting of the broker, its default, its bounds and what it is for: the one place.

A section of `usher.toml` is a dataclass here, an entry is a field. `config_file.py` reads a file by these fields,
`config_rules.py` checks what entries say together, and `usher config show-defaults` prints them. Durations
are seconds in the file (`_s`) and nanoseconds in the program (`to_ns`). Values only: nothing here does I/O.
A path that is None is taken inside the data directory: see `Config.resolved`.
"""

# ruff: noqa: RUF009 - `entry` makes a dataclasses.field, which is what stands there in any dataclass.

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.app import config_values as values
from broker.app.address import Address
from broker.app.data_directory import default_data_dir
from broker.app.emulated_keys import DEMO_FLEET, EmulatedKeySettings, read_emulated_keys

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
RECORDS_CEILING = 1 << 26
THREADS_MAX = 16
CONNECTIONS_CEILING = 1 << 20
STREAMS_CEILING = 65_535

MEBIBYTE = 1 << 20

NATIVE = "native"
GRPCIO = "grpcio"

STRICT = "strict"
RELAXED = "relaxed"
VOLATILE = "none"


def to_ns(duration_s: float) -> int:
    """Seconds as the program counts them."""
    return round(duration_s * 1e9)


def entry(default: Any, read: values.Reader, says: str) -> Any:
    """One entry of a section: its default, how it is read, and one line for the admin."""
    return field(default=default, metadata={"read": read, "says": says})


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Certificate files of a listener (PEM)."""

    certificate: Path | None = entry(None, values.path, "the server's certificate with its chain")
    private_key: Path | None = entry(None, values.path, "the private key of the certificate")
    client_ca: Path | None = entry(None, values.path, "mutual TLS: only clients with a certificate of this authority")


@dataclass(frozen=True, slots=True)
class BrokerSection:
    """The broker as a whole."""

    data_dir: Path | None = entry(None, values.path, "its data directory; one broker each")
    drain_s: float = entry(2.0, values.seconds(0, 60), "how long a stop waits for calls under way")


@dataclass(frozen=True, slots=True)
class ClientsSection:
    """Where client apps connect (gRPC)."""

    address: Address = entry(Address("127.0.0.1", 7600), values.address, "host and port")
    tls: TlsSettings | None = entry(None, values.table, "a table: certificate, private_key, client_ca")
    insecure: bool = entry(False, values.boolean, "listen beyond this machine without TLS, knowing what it means")
    data_plane: str = entry(NATIVE, values.one_of(NATIVE, GRPCIO), "native: compiled; grpcio: the reference, slower by far")
    threads: int = entry(1, values.whole(1, THREADS_MAX), "of the native data plane; one serves tens of thousands a second")
    connections_max: int = entry(20_000, values.whole(1, CONNECTIONS_CEILING), "connections at once; more are closed at once")
    streams_max: int = entry(256, values.whole(1, STREAMS_CEILING), "calls at once on one connection")
    handshake_s: float = entry(10.0, values.seconds(0.1, 300), "native: how long TLS may take to begin")
    headers_s: float = entry(10.0, values.seconds(0.1, 300), "native: how long a request's headers may take")
    body_s: float = entry(30.0, values.seconds(0.1, 3600), "native: how long a request may take after its headers")
    idle_s: float = entry(3600.0, values.seconds(1, WEEK_S), "native: a connection without calls is asked to go after this")
    write_s: float = entry(30.0, values.seconds(0.1, 3600), "native: how long a client may leave answers unread")

    @property
    def is_native(self) -> bool:
        """Whether the compiled data plane serves, and grpcio does not."""
        return self.data_plane == NATIVE


@dataclass(frozen=True, slots=True)
class AdminSection:
    """Where admins and the command line connect (gRPC)."""

    address: Address = entry(Address("127.0.0.1", 7601), values.address, "host and port")
    tls: TlsSettings | None = entry(None, values.table, "a table: certificate, private_key, client_ca")
    insecure: bool = entry(False, values.boolean, "listen beyond this machine without TLS, knowing what it means")


@dataclass(frozen=True, slots=True)
class HttpSection:
    """Metrics, health and the JSON door (HTTP/1.1)."""

    address: Address = entry(Address("127.0.0.1", 7602), values.address, "host and port")
    tls: TlsSettings | None = entry(None, values.table, "a table: certificate, private_key, client_ca")
    insecure: bool = entry(False, values.boolean, "listen beyond this machine without TLS, knowing what it means")
    hosts: tuple[str, ...] = entry((), values.host_names, "names it answers to, beside those of this machine itself")


@dataclass(frozen=True, slots=True)
class SessionsSection:
    """How long sessions and what is remembered of them last."""

    ttl_s: float = entry(60.0, values.seconds(1, WEEK_S), "a session ends this long after its last renew")
    renew_grace_s: float = entry(10.0, values.seconds(0, DAY_S), "how late a renew may come")
    request_window_s: float = entry(
        120.0, values.seconds(1, DAY_S), "how long a request_id is remembered after its session"
    )
    denial_window_s: float = entry(10.0, values.seconds(1, 3600), "how long a request_id that was denied is remembered")


@dataclass(frozen=True, slots=True)
class KeysSection:
    """How security keys are found and proven."""

    usb: bool | None = entry(None, values.boolean, "use the USB of this machine; by default unless keys are emulated")
    scan_interval_s: float = entry(0.5, values.seconds(0.05, 60), "how often USB is looked at")
    prove_interval_s: float = entry(45.0, values.seconds(0.2, 3600), "how often a key must prove itself, about")
    proof_ttl_s: float = entry(90.0, values.seconds(0.5, 7200), "how long a proof is good")
    grace_s: float = entry(300.0, values.seconds(0, 3600), "how long seats outlive their key, within each hour")


@dataclass(frozen=True, slots=True)
class LicencesSection:
    """Where licences lie and whose are believed."""

    folder: Path | None = entry(None, values.path, "the licence folder; by default licences/ in the data directory")
    trust: tuple[Path, ...] = entry(
        (), values.paths, "trust file or files (JWKS); by default trust.jwks.json in the data directory"
    )
    allow_emulated: bool = entry(False, values.boolean, "serve EMULATED seats beyond this machine: for tests only")


@dataclass(frozen=True, slots=True)
class EmulationSection:
    """Emulated keys: a fleet in the data directory, for tests and demonstrations."""

    enabled: bool = entry(False, values.boolean, "serve emulated keys; so does `usher serve --emulate`")
    keys: tuple[EmulatedKeySettings, ...] = entry(DEMO_FLEET, read_emulated_keys, "the fleet: name, seats or licences")


@dataclass(frozen=True, slots=True)
class BoundsSection:
    """How much fits in; memory is taken only as it fills."""

    sessions_max: int = entry(1_048_576, values.whole(1, RECORDS_CEILING), "open sessions")
    leases_max: int = entry(4_194_304, values.whole(1, RECORDS_CEILING), "leases of all sessions")
    charges_max: int = entry(4_194_304, values.whole(1, RECORDS_CEILING), "charges, lingering ones included")
    requests_max: int = entry(2_097_152, values.whole(1, RECORDS_CEILING), "remembered request_ids")
    denials_max: int = entry(262_144, values.whole(1, RECORDS_CEILING), "remembered denials")
    text_size_max: int = entry(268_435_456, values.whole(1 << 16, 1 << 35), "bytes of names of holders")
    event_ring_size: int = entry(4_194_304, values.whole(1 << 17, 1 << 30), "bytes of events that wait to be read")


@dataclass(frozen=True, slots=True)
class JournalSection:
    """What is kept over restarts, crashes and power cuts, and where. Sizes in bytes."""

    durability: str = entry(
        STRICT, values.one_of(STRICT, RELAXED, VOLATILE), "strict: on the disk before it is answered; relaxed: after; none: memory only, for tests"
    )
    folder: Path | None = entry(None, values.path, "where the log lies; by default journal/ in the data directory")
    segment_size: int = entry(16 * MEBIBYTE, values.whole(MEBIBYTE // 16, 1 << 30), "of one file of the log")
    snapshot_after_size: int = entry(64 * MEBIBYTE, values.whole(MEBIBYTE // 16, 1 << 40), "so much log makes a new snapshot, so that a start is short")
    log_size_max: int = entry(4096 * MEBIBYTE, values.whole(MEBIBYTE, 1 << 44), "of snapshots' log and history's together; history loses before the broker does")
    history_days: int = entry(400, values.whole(0, 36_500), "how long `usher history` keeps its days; 0: no history")
    ballast_size: int = entry(64 * MEBIBYTE, values.whole(0, 1 << 40), "kept free by a file that is given back when the disk is full; 0: none")
    state_file: Path | None = entry(None, values.path, "a second note of how far the log came, best on another disk: it knows a restored backup")

    @property
    def is_kept(self) -> bool:
        """Whether anything is journaled."""
        return self.durability != VOLATILE

    @property
    def is_strict(self) -> bool:
        """Whether answers wait until their events are on the disk."""
        return self.durability == STRICT


@dataclass(frozen=True, slots=True)
class LogSection:
    """What the broker says while it runs, on standard error."""

    level: str = entry("info", values.one_of("debug", "info", "warning", "error"), "the least that is said")
    format: str = entry(
        "auto", values.one_of("auto", "json", "human"), "auto: JSON lines unless it is a terminal"
    )


@dataclass(frozen=True, slots=True)
class Config:
    """A whole configuration. `source` names where it came from, for messages."""

    broker: BrokerSection = BrokerSection()
    clients: ClientsSection = ClientsSection()
    admin: AdminSection = AdminSection()
    http: HttpSection = HttpSection()
    sessions: SessionsSection = SessionsSection()
    keys: KeysSection = KeysSection()
    licences: LicencesSection = LicencesSection()
    emulation: EmulationSection = EmulationSection()
    bounds: BoundsSection = BoundsSection()
    journal: JournalSection = JournalSection()
    log: LogSection = LogSection()
    source: str = "built-in defaults"

    @property
    def data_dir(self) -> Path:
        """The data directory in force."""
        return self.broker.data_dir or default_data_dir()

    @property
    def licence_folder(self) -> Path:
        """The licence folder in force."""
        return self.licences.folder or self.data_dir / "licences"

    @property
    def trust_files(self) -> tuple[Path, ...]:
        """The trust files in force, the fleet's own excepted."""
        return self.licences.trust or (self.data_dir / "trust.jwks.json",)

    @property
    def journal_folder(self) -> Path:
        """Where the log lies."""
        return self.journal.folder or self.data_dir / "journal"

    @property
    def uses_usb(self) -> bool:
        """Whether this machine's USB is looked at."""
        return self.keys.usb if self.keys.usb is not None else not self.emulation.enabled

    def listeners(self) -> tuple[tuple[str, ClientsSection | AdminSection | HttpSection], ...]:
        """The three listeners by section name."""
        return (("clients", self.clients), ("admin", self.admin), ("http", self.http))

    @property
    def is_beyond_this_machine(self) -> bool:
        """Whether any client can connect from elsewhere."""
        return not (self.clients.address.is_loopback and self.http.address.is_loopback)

    def with_choices(self, *, data_dir: Path | None, is_emulated: bool) -> Config:
        """What the command line says goes before the file."""
        changed = self
        if data_dir is not None:
            changed = dataclasses.replace(changed, broker=dataclasses.replace(changed.broker, data_dir=data_dir))
        if is_emulated:
            emulation = dataclasses.replace(changed.emulation, enabled=True)
            changed = dataclasses.replace(changed, emulation=emulation)
        return changed
