"""What seats need, on their foundation: durability, keyring, certificates, the ledger's clock. Built here and nowhere else.

    keyring ──capacity──► LedgerSink ──► Ledger ──events──► Durability
                                           ▲
                            Ticker, or the data plane's first loop

This is all that a grant over the data plane needs. It imports nothing of gRPC, HTTP and history, which take longer to load than ten thousand
sessions take to come back: what people and programs look at is built on top of it, by parts.py. Building starts nothing. `clock_ns` is CLOCK_MONOTONIC
everywhere; wall time is for people and for licences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from broker._ledger import Ledger
from broker.app.certificates import Certificates
from broker.app.config import Config, to_ns
from broker.app.data_directory import DataDirectory
from broker.app.durability import Durability
from broker.app.emulation import EmulatedFleet
from broker.app.foundation import Foundation, clock_ns
from broker.app.key_memory import LedgerMemory
from broker.app.ledger_sink import LedgerSink
from broker.app.licence_sources import Reloader, read_trust
from broker.app.ticker import Ticker, Waker
from broker.keyring import Keyring, KeyringSettings
from broker.licence import LicenceFolder, TrustFile
from broker.limits import LIMITS
from broker.verbs.drain import DrainSwitch
from hwkey import BackendMissing, KeyBus, MissingUsbBus, open_libusb_bus

# A key is asked again at a random point around the interval, so that many keys do not come in step.
REPROOF_SPREAD = (2 / 3, 4 / 3)


@dataclass(frozen=True, slots=True)
class Core:
    """What grants seats. No ticker with the native data plane; no fleet without emulation."""

    ledger: Ledger
    durability: Durability
    ticker: Ticker | None
    waker: Waker
    certificates: Certificates
    keyring: Keyring
    reloader: Reloader
    drain: DrainSwitch
    fleet: EmulatedFleet | None


def build_core(
    config: Config,
    directory: DataDirectory,
    fleet: EmulatedFleet | None,
    foundation: Foundation,
    on_ticker_failure: Callable[[BaseException], None],
) -> Core:
    """Connected and not started. ConfigError for wrong trust files or certificates."""
    certificates = Certificates(config)
    ledger, waker = foundation.ledger, Waker()
    ticker = None if config.clients.is_native else Ticker(ledger, clock_ns, on_ticker_failure)
    if ticker is not None:
        waker.lead_to(ticker.wake)
    keyring = _keyring(config, directory, fleet, read_trust(config), foundation, waker)
    return Core(
        ledger=ledger,
        durability=Durability(config, directory, foundation),
        ticker=ticker,
        waker=waker,
        certificates=certificates,
        keyring=keyring,
        reloader=Reloader(config, keyring.reload, certificates.reload),
        drain=DrainSwitch(ledger, clock_ns),
        fleet=fleet,
    )


def _keyring(
    config: Config,
    directory: DataDirectory,
    fleet: EmulatedFleet | None,
    trust: TrustFile,
    foundation: Foundation,
    wake: Callable[[], None],
) -> Keyring:
    interval_ns = to_ns(config.keys.prove_interval_s)
    settings = KeyringSettings(
        broker_id=directory.broker_id.hex(),
        proof_ttl_ns=to_ns(config.keys.proof_ttl_s),
        reproof_ns_min=round(interval_ns * REPROOF_SPREAD[0]),
        reproof_ns_max=round(interval_ns * REPROOF_SPREAD[1]),
        scan_interval_ns=to_ns(config.keys.scan_interval_s),
        grace_ns=to_ns(config.keys.grace_s),
        source_count_max=LIMITS["SOURCES_MAX"],
    )
    return Keyring(
        buses=_buses(config, fleet),
        folder=LicenceFolder(config.licence_folder),
        trust=trust,
        sink=LedgerSink(foundation.ledger, clock_ns, wake),
        settings=settings,
        memory=LedgerMemory(foundation.ledger, clock_ns),
        wall_high_unix_s=foundation.wall_high_ns // 10**9,
    )


def _buses(config: Config, fleet: EmulatedFleet | None) -> list[KeyBus]:
    buses: list[KeyBus] = [fleet.bus()] if fleet else []
    return [*buses, _usb()] if config.uses_usb else buses


def _usb() -> KeyBus:
    """The USB of this machine. Without libusb the broker serves all the same: its keyring says what to install."""
    try:
        return open_libusb_bus()
    except BackendMissing:
        return MissingUsbBus()
