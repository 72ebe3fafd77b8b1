"""What a broker shows and answers beside the data plane, below its listeners: the verbs, events, counts. Built on the core, here and nowhere else.

    listeners ──► gate ──► verbs ──► core (ledger, durability, keyring) ──events──► EventPump ──► verbs

Its modules are imported behind the first grants: `broker.py` says when. Building starts nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import broker
from broker.app.config import Config, to_ns
from broker.app.core import Core
from broker.app.data_directory import DataDirectory
from broker.app.foundation import clock_ns
from broker.app.licence_sources import Reloader
from broker.app.usage_report import usage_report
from broker.errors import ConfigError
from broker.verbs.admin import ADMIN_METHODS, AdminVerbs
from broker.verbs.events import EventPump
from broker.verbs.notices import NoticeBoard
from broker.verbs.seams import BrokerFacts, ReloadError
from broker.verbs.sessions import SessionVerbs
from broker.verbs.settings import SessionSettings
from broker.verbs.stats import RequestStats


@dataclass(frozen=True, slots=True)
class Parts:
    """The core and what stands on it; `broker_facts` for those who show them."""

    core: Core
    pump: EventPump
    stats: RequestStats
    sessions: SessionVerbs
    admin: AdminVerbs
    broker_facts: BrokerFacts


def build_parts(config: Config, directory: DataDirectory, core: Core) -> Parts:
    """All of them, connected and not started."""
    settings = SessionSettings(to_ns(config.sessions.ttl_s), to_ns(config.sessions.renew_grace_s))
    pump = EventPump(ledger=core.durability.events)
    notices = NoticeBoard(ledger=core.ledger, clock_ns=clock_ns, pump=pump)
    facts = _facts(config, directory)
    return Parts(
        core=core,
        pump=pump,
        stats=RequestStats(ADMIN_METHODS),
        sessions=SessionVerbs(
            ledger=core.ledger, clock_ns=clock_ns, settings=settings, pump=pump, notices=notices, drain=core.drain
        ),
        admin=AdminVerbs(
            ledger=core.ledger,
            clock_ns=clock_ns,
            settings=settings,
            keyring=core.keyring,
            pump=pump,
            broker=facts,
            drain=core.drain,
            emulation=core.fleet,
            reload=_reload(core.reloader),
            durability=core.durability.view,
            usage=usage_report(config, directory),
        ),
        broker_facts=facts,
    )


def _facts(config: Config, directory: DataDirectory) -> BrokerFacts:
    plane, durability = config.clients.data_plane, config.journal.durability
    return BrokerFacts(broker.__version__, directory.broker_id, directory.generation, time.time_ns(), plane, durability)


def _reload(reloader: Reloader) -> Callable[[], list[str]]:
    """The reloader in the words of the verbs: a wrong file is an error that changed nothing."""

    def reload() -> list[str]:
        try:
            return list(reloader.reload())
        except ConfigError as error:
            raise ReloadError(str(error)) from error

    return reload
