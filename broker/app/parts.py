"""What a broker is made of, below its listeners, on its foundation: clock thread, durability, keyring, verbs. Built here and nowhere else.

    keyring ──capacity──► LedgerSink ──► Ledger ◄── verbs ◄── listeners ◄── gate ◄─┐
                                           ▲  └─ events ──► Durability ──► EventPump │
                            Ticker, or the data plane's first loop  └────committed───┘

Building starts nothing. `clock_ns` is CLOCK_MONOTONIC everywhere; wall time is for people and for licences.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import broker
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
from broker.app.usage_report import usage_report
from broker.errors import ConfigError
from broker.keyring import Keyring, KeyringSettings
from broker.licence import LicenceFolder, TrustFile
from broker.limits import LIMITS
from broker.verbs.admin import ADMIN_METHODS, AdminVerbs
from broker.verbs.drain import DrainSwitch
from broker.verbs.events import EventPump
from broker.verbs.notices import NoticeBoard
from broker.verbs.seams import BrokerFacts, ReloadError
from broker.verbs.sessions import SessionVerbs
from broker.verbs.settings import SessionSettings
from broker.verbs.stats import RequestStats
from hwkey import BackendMissing, KeyBus, MissingUsbBus, open_libusb_bus

# A key is asked again at a random point around the interval, so that many keys do not come in step.
REPROOF_SPREAD = (2 / 3, 4 / 3)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything below the listeners; `broker_facts` for those who show them. No ticker with the native data plane."""

    ledger: Ledger
    durability: Durability
    ticker: Ticker | None
    waker: Waker
    certificates: Certificates
    keyring: Keyring
    reloader: Reloader
    pump: EventPump
    stats: RequestStats
    drain: DrainSwitch
    sessions: SessionVerbs
    admin: AdminVerbs
    broker_facts: BrokerFacts
    is_emulating: bool


def build_parts(
    config: Config,
    directory: DataDirectory,
    fleet: EmulatedFleet | None,
    foundation: Foundation,
    on_ticker_failure: Callable[[BaseException], None],
) -> Parts:
    """All parts, connected and not started. ConfigError for wrong trust files or certificates."""
    certificates = Certificates(config)
    ledger, waker = foundation.ledger, Waker()
    durability = Durability(config, directory, foundation)
    ticker = None if config.clients.is_native else Ticker(ledger, clock_ns, on_ticker_failure)
    if ticker is not None:
        waker.lead_to(ticker.wake)
    keyring = _keyring(config, directory, fleet, read_trust(config), foundation, waker)
    reloader = Reloader(config, keyring.reload, certificates.reload)
    settings = SessionSettings(to_ns(config.sessions.ttl_s), to_ns(config.sessions.renew_grace_s))
    pump, drain = EventPump(ledger=durability.events), DrainSwitch(ledger, clock_ns)
    notices = NoticeBoard(ledger=ledger, clock_ns=clock_ns, pump=pump)
    facts = _facts(config, directory)
    return Parts(
        ledger=ledger,
        durability=durability,
        ticker=ticker,
        waker=waker,
        certificates=certificates,
        keyring=keyring,
        reloader=reloader,
        pump=pump,
        stats=RequestStats(ADMIN_METHODS),
        drain=drain,
        sessions=SessionVerbs(
            ledger=ledger, clock_ns=clock_ns, settings=settings, pump=pump, notices=notices, drain=drain
        ),
        admin=AdminVerbs(
            ledger=ledger,
            clock_ns=clock_ns,
            settings=settings,
            keyring=keyring,
            pump=pump,
            broker=facts,
            drain=drain,
            emulation=fleet,
            reload=_reload(reloader),
            durability=durability.view,
            usage=usage_report(config, directory),
        ),
        broker_facts=facts,
        is_emulating=fleet is not None,
    )


def _facts(config: Config, directory: DataDirectory) -> BrokerFacts:
    plane, durability = config.clients.data_plane, config.journal.durability
    return BrokerFacts(broker.__version__, directory.broker_id, directory.generation, time.time_ns(), plane, durability)


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


def _reload(reloader: Reloader) -> Callable[[], list[str]]:
    """The reloader in the words of the verbs: a wrong file is an error that changed nothing."""

    def reload() -> list[str]:
        try:
            return list(reloader.reload())
        except ConfigError as error:
            raise ReloadError(str(error)) from error

    return reload
