"""One life of the broker process: production parts put together as the app does it, from the disk to a ledger that serves.

    log and newest snapshot ──replay──► ledger ──resume──► committer begins ──► keyring begins

Anything that the disk does not let happen is an OSError, and the process is over. `Parts` is where a planted error puts a wrong part in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, cast

from broker._journal import SimulatedDisk
from broker._ledger import Ledger
from broker.app.key_memory import LedgerMemory
from broker.app.ledger_sink import LedgerSink
from broker.journal.settings import JournalSettings
from broker.journal.store import JournalStore
from broker.keyring.engine import KeyringEngine
from broker.keyring.memory import Memory, VolatileMemory
from broker.model.answers import Answer
from broker.model.terms import PoolTerms
from tests.sim.agenda import Agenda, S
from tests.sim.calls import Call, Verb
from tests.sim.course import BROKER_ID, Course, ledger_settings
from tests.sim.key_workers import keyring_settings

SEGMENT_SIZE = 32768
GROUP_SIZE_MAX = 16384
PoolDeclared = Callable[[int, str, PoolTerms], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """Where errors are planted: what each replay is given instead of the bytes that it is shown, the memory that the keyring gets, whether answers wait."""

    make_filter: Callable[[], Callable[[bytes], bytes]] | None = None
    memory: Callable[[Memory], Memory] = lambda memory: memory
    is_holding: bool = True
    is_learning: bool = True


class FilteredLedger:
    """A ledger for recovery, that is shown other events than there are."""

    def __init__(self, ledger: Ledger, replayed: Callable[[bytes], bytes]) -> None:
        self._ledger = ledger
        self._replayed = replayed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def replay(self, events: bytes) -> None:
        self._ledger.replay(self._replayed(events))


class Sink(LedgerSink):
    """What the keyring tells, on its way to the ledger; pools become known to the auditor. The ticker is not woken: it comes by soon."""

    def __init__(self, ledger: Ledger, clock_ns: Callable[[], int], pool_declared: PoolDeclared) -> None:
        super().__init__(ledger, clock_ns, lambda: None)
        self._pool_declared = pool_declared

    def declare_pool(self, product: str, terms: PoolTerms, is_emulated: bool) -> int:
        number = super().declare_pool(product, terms, is_emulated)
        self._pool_declared(number, product, terms)
        return number


class Life:
    """From a start to a stop or a crash. `boot_ns`: the world's instant at which the machine's monotonic clock was 1 s."""

    def __init__(
        self,
        course: Course,
        agenda: Agenda,
        disk: SimulatedDisk,
        chance: Random,
        parts: Parts,
        *,
        generation: int,
        boot_ns: int,
        unix_ns: Callable[[], int],
        pool_declared: PoolDeclared,
    ) -> None:
        self.course = course
        self._parts = parts
        self.generation = generation
        self._agenda = agenda
        self._boot_ns = boot_ns
        self.unix_ns = unix_ns
        self.store: JournalStore | None = None
        self.ledger = self.make_ledger(is_lossy=course.durability == "none")
        self.was_clean = False
        self.is_writable = True
        if course.durability != "none":
            self._recover(disk)
        is_durable = course.durability != "none"
        memory = parts.memory(LedgerMemory(self.ledger, self.clock_ns) if is_durable else VolatileMemory())
        self.engine = KeyringEngine(
            settings=keyring_settings(course), sink=Sink(self.ledger, self.clock_ns, pool_declared), memory=memory, jitter=chance.randint, wall_high_unix_s=self._wall_high_s
        )

    _wall_high_s = 0

    def _recover(self, disk: SimulatedDisk) -> None:
        settings = JournalSettings(segment_size=SEGMENT_SIZE, group_size_max=GROUP_SIZE_MAX, salt_seed=self.course.seed)
        store = JournalStore.open(disk, broker_id=BROKER_ID, generation=self.generation, settings=settings, clock=self.clock_ns)
        self.store = store
        self._resume(store)
        try:
            store.begin(self.ledger)
        except OSError:
            if disk.is_off or store.is_begun:
                raise
            self._serve_renew_only(store)

    def _resume(self, store: JournalStore) -> None:
        store.recover(self._shown(self.ledger))
        recovered = self.ledger.resume(self.clock_ns(), self.unix_ns())
        self.was_clean = recovered.was_clean
        self._wall_high_s = recovered.last_wall_ns // S

    def _serve_renew_only(self, store: JournalStore) -> None:
        """The disk can be read and not written: sessions live on, and nothing new is given (`semantics.md` 28)."""
        self.is_writable = False
        self.ledger = self.make_ledger(is_lossy=True)
        self._resume(store)
        self.ledger.set_writable(self.clock_ns(), False)

    def make_shadow(self) -> Ledger:
        """For a snapshot: another one of this broker, thrown away afterwards."""
        return self._shown(self.make_ledger())

    def _shown(self, ledger: Ledger) -> Ledger:
        make_filter = self._parts.make_filter
        return cast(Ledger, FilteredLedger(ledger, make_filter())) if make_filter else ledger

    def make_ledger(self, *, is_lossy: bool = False) -> Ledger:
        """Empty, of this broker."""
        return Ledger(**ledger_settings(self.course), generation=self.generation, start_ns=self.clock_ns(), is_lossy=is_lossy)

    def clock_ns(self) -> int:
        """CLOCK_MONOTONIC of the broker's machine: it began anew with the last power loss."""
        return self._agenda.now_ns - self._boot_ns + S

    def execute(self, call: Call) -> Answer:
        """One command of a holder."""
        now_ns = self.clock_ns()
        match call.verb:
            case Verb.RENEW:
                return self.ledger.renew(now_ns, call.session_id, call.version)
            case Verb.OPEN:
                person = call.person
                return self.ledger.open(
                    now_ns, request_id=call.request_id, user=person.user, host=person.host, instance_id=person.instance_id,
                    app=b"app", products=call.products,
                )  # fmt: skip
            case Verb.ACQUIRE:
                return self.ledger.acquire(now_ns, call.session_id, call.request_id, call.products)
            case Verb.RELEASE:
                return self.ledger.release(now_ns, call.session_id, call.request_id, call.products[0][0])
        return self.ledger.close(now_ns, call.session_id, call.request_id)
